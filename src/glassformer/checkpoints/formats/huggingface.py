"""Folders as Hugging Face has them: see `checkpoints/huggingface.py` for what is in them."""

from collections.abc import Mapping
from typing import Any

from glassformer import files
from glassformer.checkpoints import rest
from glassformer.checkpoints.about import read_about
from glassformer.checkpoints.folder_files import OURS, FolderFiles
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.huggingface import (
    is_quantized,
    read_eos_ids,
    read_origin,
    read_suppressed,
    read_weights,
)
from glassformer.checkpoints.processor_files import read_processor
from glassformer.checkpoints.tokenizer_files import read_tokenizers


def read(source: Source) -> tuple[Contents, Mapping[str, Any]]:
    """The contents and our parameters, after the files have been compared with their manifest, if there is one."""
    files.verify(source.path, required=False)
    folder = FolderFiles(source.path, from_pickle=source.from_pickle)
    with files.errors_about(source.path):
        config, weights = read_weights(folder)
        tokenizers = read_tokenizers(source.path)
        processor, eos_ids = read_processor(folder, config), read_eos_ids(folder)
        extras = rest.read(
            folder,
            config,
            tokenizer=tokenizers.tokenizer,
            source_tokenizer=tokenizers.source,
            processor=processor,
            eos_ids=eos_ids,
        )
        contents = Contents(
            config=config,
            tokenizer=tokenizers.tokenizer,
            source_tokenizer=tokenizers.source,
            no_tokenizer=tokenizers.missing,
            processor=processor,
            eos_ids=eos_ids,
            suppressed=read_suppressed(folder),
            rest=extras,
            origin=read_origin(folder),
            about=read_about(folder.settings(OURS).get("about")),
            is_quantized=is_quantized(folder),
        )
    return contents, weights


FORMAT = Format(name="Hugging Face", files="a Hugging Face folder", sniff=lambda source: source.is_folder, read=read)
