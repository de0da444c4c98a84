"""What a file format of models is: how its files are recognised, what it must be told, and how they are read.

A format is one module of this package with a `FORMAT`. A reader infers from what the file holds, or asks by an option;
it never assumes a number that would silently give another model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints import pickles
from glassformer.checkpoints.beside import Processor
from glassformer.checkpoints.rest import NOTHING, Rest
from glassformer.errors import CheckpointError
from glassformer.tokenizers.base import Tokenizer

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint holds beside its weights."""

    config: Any
    tokenizer: Tokenizer | None = None
    source_tokenizer: Tokenizer | None = None  # of an encoder-decoder whose source has another vocabulary
    no_tokenizer: str = ""  # why one is missing that there is a file for
    processor: Processor | None = None  # of pictures or of sound
    eos_ids: frozenset[int] = frozenset()  # the tokens that end a text, as the files beside the weights say
    suppressed: frozenset[int] = frozenset()  # the tokens that never come in one, as they say
    rest: Rest = NOTHING  # what else the folder holds, which goes along when the model is written again


class Source:
    """A path at the door. Whoever looks into it finds what others have read of it."""

    def __init__(self, path: Path, *, from_pickle: bool = False, dtype: torch.dtype | None = torch.float32) -> None:
        self.path, self.from_pickle, self.dtype = path, from_pickle, dtype

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.path.is_dir()

    @cached_property
    def is_zip(self) -> bool:
        """Whether the file begins as a zip does, as what torch pickles and numpy's archives are."""
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            return file.read(4) == b"PK\3\4"

    @property
    def is_pickle(self) -> bool:
        """Whether torch pickled it: whatever the name says, a zip is taken for that, unless it is numpy's."""
        return not self.is_folder and ((self.is_zip and self.path.suffix != ".npz") or self.path.suffix in PICKLES)

    @cached_property
    def pickled(self) -> Any:
        """What torch pickled, opened once; refused where that is not allowed."""
        if not self.from_pickle:
            raise CheckpointError(
                "this is a pickle, which can run code when it is opened.",
                python="from_pickle=True reads its tensors and nothing else.",
                command="--from-pickle reads its tensors and nothing else.",
            )
        return pickles.load(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What no tensor tells and a format must therefore be told."""

    name: str
    type: type[int] | type[str] | type[bool]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: `files` names them in messages; `read` gives the contents and our parameters.

    `read` is handed a value for every one of `options`.
    """

    name: str
    files: str
    sniff: Callable[[Source], bool]
    read: Callable[..., tuple[Contents, Mapping[str, Tensor]]]
    options: tuple[Option, ...] = field(default=())

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with their types; raises where one is missing or unknown."""
        declared = {option.name: option for option in self.options}
        if unknown := [name for name in options if name not in declared]:
            takes = f"takes {', '.join(declared)}" if declared else "takes none"
            raise CheckpointError(f"there is no option {unknown[0]} for {self.name}, which {takes}.")
        if missing := [option for option in self.options if option.name not in options]:
            meanings = " and ".join(f"{option.name} ({option.meaning})" for option in missing)
            raise CheckpointError(
                f"no tensor of {self.name}'s tells {meanings}.",
                python=f"Give {', '.join(f'{option.name}=…' for option in missing)} to load.",
                command="Give " + " ".join(f"--option {option.name}=…" for option in missing) + ".",
            )
        return {name: _typed(declared[name], value) for name, value in options.items()}


def _typed(option: Option, value: Any) -> Any:
    """The value, from the command line a text of it."""
    typed = value
    if isinstance(value, str) and option.type is bool:
        typed = {"true": True, "false": False}.get(value.lower())
    elif isinstance(value, str) and option.type is int:
        typed = int(value) if value.isdecimal() else None
    if type(typed) is not option.type:
        kind = {int: "a whole number", str: "a word", bool: "true or false"}[option.type]
        raise CheckpointError(f"the option {option.name} must be {kind}, not {value!r}.")
    return typed
