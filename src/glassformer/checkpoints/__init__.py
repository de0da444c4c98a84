"""Models on disk: one door in (`load`), whatever the format, and one out (`save`), in Hugging Face's.

Next to read: `formats/` for what is read, `huggingface.py` for what is written, `names.py` for the tensors' names.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassformer import files
from glassformer.checkpoints import gguf_export, huggingface, quantized
from glassformer.checkpoints.build import build, copied
from glassformer.checkpoints.folder_files import ADAPTER_WEIGHTS, FolderFiles
from glassformer.checkpoints.formats import all_formats
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.errors import CheckpointCorrupt, CheckpointError, ConfigError, GlassformerError
from glassformer.models import spec_of

# What is written beside the weights.
WRITTEN = ("tokenizer", "source_tokenizer", "processor", "eos_ids", "suppressed", "rest", "origin", "about")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Contents):
    """What a path holds: a model in eval mode, its configuration, and what lies beside them."""

    module: nn.Module


def load(
    path: Path,
    *,
    from_pickle: bool = False,
    dtype: torch.dtype | None = torch.float32,
    context_length: int | None = None,
    options: Mapping[str, Any] | None = None,
    keep_quantized: bool = False,
) -> Checkpoint:
    """A model from a Hugging Face directory, a published file, or (`from_pickle`) what torch pickled.

    With dtype None each weight keeps the precision that it has there. `context_length` counts more than what the files
    say, where no weight depends on it. A folder that was saved quantized is read so; `keep_quantized` does the same for
    a GGUF file. For the rest see `read`.
    """
    contents, weights = read(path, from_pickle=from_pickle, options=options, keep_quantized=keep_quantized)
    if context_length is not None:
        contents = replace(contents, config=spec_of(contents.config).with_context(contents.config, context_length))
    with files.errors_about(path):
        if contents.is_quantized:
            module = quantized.build(contents.config, weights)
        else:
            module = build(contents.config, copied(contents.config, weights, dtype))
    return Checkpoint(module=module, **{each.name: getattr(contents, each.name) for each in fields(Contents)})


def read(
    path: Path,
    *,
    from_pickle: bool = False,
    options: Mapping[str, Any] | None = None,
    keep_quantized: bool = False,
) -> tuple[Contents, Mapping[str, Any]]:
    """What `load` makes a model of: the contents, and our parameters, whose numbers are read when they are asked for.

    `formats/` has a module for each format. `options` are what a format must be told, such as the number of heads.
    Where the contents are quantized, some of the parameters are `QuantizedRows`.
    """
    with files.errors_about(path):
        if not path.exists():
            files.restore(path)
        if not path.exists():
            raise CheckpointError("there is nothing of this name.")
        source = Source(path, from_pickle=from_pickle)
        of_path = format_of(source)
        settings = of_path.checked(options or {})
    with nullcontext() if source.is_folder else files.errors_about(path):  # a folder's reader names its files itself
        reader = of_path.read_quantized if keep_quantized and of_path.read_quantized is not None else of_path.read
        contents, weights = reader(source, **settings)
        if keep_quantized and not contents.is_quantized:
            raise ConfigError(
                f"is keep, which is for files whose matrices are quantized, and {path} has none.", setting="quantize"
            )
    return contents, weights


def save(module: nn.Module, path: Path, **options: Any) -> Path:
    """Write a Hugging Face directory; `options` are `overwrite` and those of `huggingface.write_directory`."""
    return huggingface.save_directory(module, path, **options)


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, native: bool = False, overwrite: bool = False) -> Path:
    """The same for a model with all that lies beside it."""
    extras = {name: getattr(checkpoint, name) for name in WRITTEN}
    return save(checkpoint.module, path, native=native, overwrite=overwrite, **extras)


def save_gguf(checkpoint: Checkpoint, path: Path, *, kind: str, overwrite: bool = False) -> Path:
    """Write a GGUF file with matrices of the kind "f32", "f16" or "q8_0"."""
    return gguf_export.save(checkpoint.module, checkpoint, path, kind=kind, overwrite=overwrite)


def format_of(source: Source) -> Format:
    """The format whose marks a path has."""
    if not source.is_folder and not source.path.is_file():
        raise CheckpointError("this is neither a file nor a folder.")
    if source.path.name in ADAPTER_WEIGHTS:
        raise FolderFiles(source.path.parent).only_adapter()
    claims = [each for each in all_formats() if _sniffs(each, source)]
    if len(claims) == 1:
        return claims[0]
    if claims:
        raise CheckpointError(f"{' and '.join(each.name for each in claims)} both know it for theirs.")
    if not source.is_folder and not source.head:
        raise CheckpointCorrupt("the file is empty.")
    names = ", ".join(each.files for each in all_formats())
    if source.is_pickle:
        raise CheckpointCorrupt(f"what was pickled is none of the formats known here: {names}.")
    folder = " Of a Hugging Face model, name the folder." if source.content in ("safetensors", "json") else ""
    raise CheckpointError(f"its format is none of those known here: {names}.{folder}")


def _sniffs(each: Format, source: Source) -> bool:
    """Whether a format knows a path for its own; one that cannot even look is named."""
    try:
        return each.sniff(source)
    except (GlassformerError, OSError):
        raise
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"the format {each.name}, of {each.sniff.__module__}, fails to look at it ({fault})."
        ) from error
