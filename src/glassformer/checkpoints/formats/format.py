"""What a file format of models is: how its files are recognised, what it must be told, and how they are read.

A format is one module of this package with a `FORMAT`. A reader infers from what the file holds, or asks by an option;
it never assumes a number that would silently give another model.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from glassformer import strict_json
from glassformer.checkpoints import pickles
from glassformer.checkpoints.about import About
from glassformer.checkpoints.processor_files import Processor
from glassformer.checkpoints.rest import NOTHING, Rest
from glassformer.errors import CheckpointError
from glassformer.tokenizers.base import Tokenizer


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
    note: str = ""  # what a user should know, such as that the weights are random
    rest: Rest = NOTHING  # what else the folder holds, which goes along when the model is written again
    origin: str = ""  # the name and the commit on the Hub that it comes from
    about: About | None = None  # what the model does
    is_quantized: bool = False  # then the weights are those of `checkpoints/quantized.py`


ContentKind = Literal["zip", "pickle", "safetensors", "json", "text", "unknown"]
HEAD_BYTES = 4096


class Source:
    """A path at the door. Whoever looks into it sees what others have read of it.

    What a file is, its first bytes say; its name counts only where they could be anything.
    """

    def __init__(self, path: Path, *, from_pickle: bool = False) -> None:
        self.path, self.from_pickle = path, from_pickle

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.path.is_dir()

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, none of a folder."""
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    @cached_property
    def content(self) -> ContentKind:
        """What the file is, by how it begins."""
        head = self.head
        if self.is_folder:
            return "unknown"
        if head.startswith(b"PK\3\4"):
            return "zip"
        if re.match(rb"\x80[\2-\5][^\0]", head):  # the opcode PROTO of a pickle, and another, which is no zero
            return "pickle"
        header = int.from_bytes(head[:8], "little")
        if self.path.suffix == ".safetensors" or (header < strict_json.MAX_BYTES and head[8:9] == b"{"):
            return "safetensors"
        if re.match(rb'\s*\{\s*["}]', head):
            return "json"
        return "text" if head and _is_text(head) else "unknown"

    @cached_property
    def is_numpy(self) -> bool:
        """Whether numpy wrote it with savez: a zip whose first member is an array."""
        n_letters = int.from_bytes(self.head[26:28], "little")  # APPNOTE.TXT, 4.3.7
        first = self.head[30 : 30 + n_letters] if self.content == "zip" else b""
        named = self.path.suffix == ".npz" and not self.is_folder
        return first.endswith(b".npy") or (named and not first.endswith(b".pkl"))

    @property
    def is_pickle(self) -> bool:
        """Whether torch pickled it: a zip is taken for that, unless it is numpy's."""
        return self.content == "pickle" or (self.content == "zip" and not self.is_numpy)

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


def _is_text(head: bytes) -> bool:
    try:
        head[:-4].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What no tensor tells and a format must therefore be told."""

    name: str
    type: type[int] | type[str] | type[bool]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: `files` names them in messages; `read` gives the contents and our parameters, which are copied later.

    `read` is handed a value for every one of `options`. The parameters may be views of a file that is mapped, or be
    read one by one when they are asked for. `read_quantized` keeps matrices as they are quantized in the file.
    """

    name: str
    files: str
    sniff: Callable[[Source], bool]
    read: Callable[..., tuple[Contents, Mapping[str, Any]]]
    options: tuple[Option, ...] = field(default=())
    read_quantized: Callable[..., tuple[Contents, Mapping[str, Any]]] | None = None

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
