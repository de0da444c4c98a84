"""Models on disk: one door in (`load`), whatever the format, and one out (`save`), in Hugging Face's.

Next to read: `huggingface.py` for the format, `names.py` for the tensors' names, `safetensors.py` for the bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer import files
from glassformer.checkpoints import g2p, huggingface, llama2c, mingpt, nanogpt, openai_whisper, pickles, vit_pytorch
from glassformer.checkpoints.assemble import assemble
from glassformer.errors import CheckpointError, MissingExtra, TokenizerError
from glassformer.models.whisper import WhisperConfig
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe_files import find
from glassformer.tokenizers.char import CharTokenizer

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
Reader = Callable[[Path], tuple[Any, dict[str, Tensor]]]
READERS: dict[str, Reader] = {".bin": llama2c.read, ".json": mingpt.read, ".npz": g2p.read}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was found at a path: a model in eval mode, its configuration, and its tokenizer where there is one."""

    module: nn.Module
    config: Any
    tokenizer: Tokenizer | None = None
    no_tokenizer: str = ""  # why there is none, where there is a file for it
    eos_ids: frozenset[int] = frozenset()  # the tokens that end a text, as the files beside the weights say


def load(path: Path, *, from_pickle: bool = False, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """A model from a Hugging Face directory, a published file, or (`from_pickle`) what torch pickled.

    Files are llama2.c's .bin, minGPT's .json and g2p_en's .npz; of pickles, nanoGPT's ckpt.pt is known, OpenAI's
    Whispers, and state dicts of vit-pytorch.
    """
    with files.about(path):
        if not path.exists():
            files.put_back(path)
        if not path.exists():
            raise CheckpointError("there is nothing of this name.")
    return _load_directory(path, dtype) if path.is_dir() else _load_file(path, from_pickle, dtype)


def save(module: nn.Module, path: Path, **options: Any) -> Path:
    """Write a Hugging Face directory; `options` are those of `huggingface.write_directory`."""
    return huggingface.save_directory(module, path, **options)


def _load_directory(folder: Path, dtype: torch.dtype | None) -> Checkpoint:
    files.verify(folder, required=False)
    config, module = huggingface.load_directory(folder, dtype=dtype)
    found = find(folder)
    tokenizer, no_tokenizer = _first_tokenizer([] if found is None else [found])
    return Checkpoint(
        module=module,
        config=config,
        tokenizer=tokenizer,
        no_tokenizer=no_tokenizer,
        eos_ids=huggingface.read_eos_ids(folder),
    )


def _load_file(path: Path, from_pickle: bool, dtype: torch.dtype | None) -> Checkpoint:
    with files.about(path):
        config, weights = _reader(path, from_pickle)(path)
        weights = {name: weight.to(dtype or weight.dtype) for name, weight in weights.items()}
        module = assemble(config, weights)
    if path.suffix == ".json" and config.vocab_size == 3:  # the model that sorts letters
        return Checkpoint(module=module, config=config, tokenizer=CharTokenizer("ABC"))
    if isinstance(config, WhisperConfig):  # whose special tokens the file of ranks lacks
        ranks = path.with_name("multilingual.tiktoken" if config.vocab_size > 51864 else "gpt2.tiktoken")
        tokenizer, no_tokenizer = _first_tokenizer([ranks] if ranks.is_file() else [])
        return Checkpoint(module=module, config=config, tokenizer=tokenizer, no_tokenizer=no_tokenizer)
    beside = [path.with_name(name) for name in (f"tok{config.vocab_size}.bin", "tokenizer.bin", "tokenizer.model")]
    tokenizer, no_tokenizer = _first_tokenizer([other for other in beside if other.is_file()], config.vocab_size)
    return Checkpoint(module=module, config=config, tokenizer=tokenizer, no_tokenizer=no_tokenizer)


def _reader(path: Path, from_pickle: bool) -> Reader:
    """The format of a file; whatever the name says, a zip is taken for a pickle, unless it is numpy's."""
    if not path.is_file():
        raise CheckpointError("this is neither a file nor a folder.")
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    if (zipped and path.suffix != ".npz") or path.suffix in PICKLES:
        if from_pickle:
            return _read_pickle
        raise CheckpointError(
            "this is a pickle, which can run code when it is opened. To read its tensors and nothing else, "
            "say from_pickle=True (glassformer convert --from-pickle)."
        )
    if path.suffix not in READERS:
        raise CheckpointError(
            "its format is none of those known here: a Hugging Face folder, .bin of llama2.c, .json of minGPT, .npz of "
            "g2p_en, .pt of nanoGPT, of Whisper and of vit-pytorch."
        )
    return READERS[path.suffix]


def _read_pickle(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The content says which program wrote it."""
    content = pickles.load(path)
    if openai_whisper.wrote(content):
        return openai_whisper.read(content, path)
    if vit_pytorch.wrote(content):
        return vit_pytorch.read(content, path)
    return nanogpt.read(content, path)


def _first_tokenizer(paths: Sequence[Path], vocab_size: int | None = None) -> tuple[Tokenizer | None, str]:
    """The first of these tokenizers that can be read and has `vocab_size` tokens, or why there is none.

    A model without its tokenizer still works on tokens.
    """
    reason = ""
    for path in paths:
        try:
            tokenizer = Tokenizer.load(path)
        except (TokenizerError, MissingExtra) as error:
            reason = reason or str(error)
        else:
            if vocab_size in (None, tokenizer.vocab_size):
                return tokenizer, ""
    return None, reason
