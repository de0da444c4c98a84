"""Models on disk: one door in (`load`), whatever the format, and one out (`save`), in Hugging Face's.

Next to read: `huggingface.py` for the format, `names.py` for the tensors' names, `safetensors.py` for the bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer import files
from glassformer.checkpoints import (
    fairseq,
    g2p,
    huggingface,
    llama2c,
    mingpt,
    nanogpt,
    openai_whisper,
    pickles,
    rest,
    vit_pytorch,
)
from glassformer.checkpoints.assemble import assemble
from glassformer.checkpoints.beside import (
    Processor,
    processor_of,
    read_processor,
    read_tokenizers,
    read_tokenizers_of_file,
)
from glassformer.checkpoints.rest import NOTHING, Rest
from glassformer.errors import CheckpointError
from glassformer.tokenizers.base import Tokenizer

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
Reader = Callable[[Path], tuple[Any, dict[str, Tensor]]]
READERS: dict[str, Reader] = {
    ".bin": llama2c.read,
    ".json": mingpt.read,
    ".npz": g2p.read,
    ".safetensors": fairseq.read,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was found at a path: a model in eval mode, its configuration, and what lies beside them."""

    module: nn.Module
    config: Any
    tokenizer: Tokenizer | None = None
    source_tokenizer: Tokenizer | None = None  # of an encoder-decoder whose source has another vocabulary
    no_tokenizer: str = ""  # why one is missing that there is a file for
    processor: Processor | None = None  # of pictures or of sound
    eos_ids: frozenset[int] = frozenset()  # the tokens that end a text, as the files beside the weights say
    suppressed: frozenset[int] = frozenset()  # the tokens that never come in one, as they say
    rest: Rest = NOTHING  # what else the folder holds, which goes along when the model is written again


def load(path: Path, *, from_pickle: bool = False, dtype: torch.dtype | None = torch.float32) -> Checkpoint:
    """A model from a Hugging Face directory, a published file, or (`from_pickle`) what torch pickled.

    Files are llama2.c's .bin, minGPT's .json, g2p_en's .npz and fairseq's weights as .safetensors; of pickles,
    nanoGPT's ckpt.pt is known, OpenAI's Whispers, and state dicts of vit-pytorch.
    """
    with files.about(path):
        if not path.exists():
            files.put_back(path)
        if not path.exists():
            raise CheckpointError("there is nothing of this name.")
    return _load_directory(path, dtype) if path.is_dir() else _load_file(path, from_pickle, dtype)


def save(module: nn.Module, path: Path, **options: Any) -> Path:
    """Write a Hugging Face directory; `options` are `overwrite` and those of `huggingface.write_directory`."""
    return huggingface.save_directory(module, path, **options)


def _load_directory(folder: Path, dtype: torch.dtype | None) -> Checkpoint:
    files.verify(folder, required=False)
    config, module = huggingface.load_directory(folder, dtype=dtype)
    found = read_tokenizers(folder)
    processor, eos_ids = read_processor(folder, config), huggingface.read_eos_ids(folder)
    return Checkpoint(
        module=module,
        config=config,
        tokenizer=found.tokenizer,
        source_tokenizer=found.source,
        no_tokenizer=found.missing,
        processor=processor,
        eos_ids=eos_ids,
        suppressed=huggingface.read_suppressed(folder),
        rest=rest.read(
            folder,
            config,
            tokenizer=found.tokenizer,
            source_tokenizer=found.source,
            processor=processor,
            ends=eos_ids,
            tensors=huggingface.left_out(folder, config),
        ),
    )


def _load_file(path: Path, from_pickle: bool, dtype: torch.dtype | None) -> Checkpoint:
    with files.about(path):
        config, weights = _reader(path, from_pickle)(path)
        weights = {name: weight.to(dtype or weight.dtype) for name, weight in weights.items()}
        module = assemble(config, weights)
    found = read_tokenizers_of_file(path, config)
    return Checkpoint(
        module=module,
        config=config,
        tokenizer=found.tokenizer,
        source_tokenizer=found.source,
        no_tokenizer=found.missing,
        processor=processor_of(config),
    )


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
            "this is a pickle, which can run code when it is opened.",
            python="from_pickle=True reads its tensors and nothing else.",
            command="--from-pickle reads its tensors and nothing else.",
        )
    if path.suffix not in READERS:
        raise CheckpointError(
            "its format is none of those known here: a Hugging Face folder, .bin of llama2.c, .json of minGPT, .npz of "
            "g2p_en, .safetensors of fairseq, .pt of nanoGPT, of Whisper and of vit-pytorch."
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
