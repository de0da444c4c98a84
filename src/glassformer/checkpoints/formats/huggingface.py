"""Folders as Hugging Face has them: see `checkpoints/huggingface.py` for what is in them."""

from torch import Tensor

from glassformer import files
from glassformer.checkpoints import huggingface, rest
from glassformer.checkpoints.beside import read_processor, read_tokenizers
from glassformer.checkpoints.formats.format import Contents, Format, Source


def read(source: Source) -> tuple[Contents, dict[str, Tensor]]:
    """The contents and our parameters, after the files have been compared with their manifest, if there is one."""
    folder = source.path
    files.verify(folder, required=False)
    config = huggingface.read_config(folder)
    weights = huggingface.read_weights(folder, config, dtype=source.dtype, from_pickle=source.from_pickle)
    tokenizers = read_tokenizers(folder)
    processor, eos_ids = read_processor(folder, config), huggingface.read_eos_ids(folder)
    others = rest.read(
        folder,
        config,
        tokenizer=tokenizers.tokenizer,
        source_tokenizer=tokenizers.source,
        processor=processor,
        ends=eos_ids,
        tensors=huggingface.left_out(folder, config, from_pickle=source.from_pickle),
    )
    contents = Contents(
        config=config,
        tokenizer=tokenizers.tokenizer,
        source_tokenizer=tokenizers.source,
        no_tokenizer=tokenizers.missing,
        processor=processor,
        eos_ids=eos_ids,
        suppressed=huggingface.read_suppressed(folder),
        rest=others,
    )
    return contents, weights


FORMAT = Format(name="Hugging Face", files="a Hugging Face folder", sniff=lambda source: source.is_folder, read=read)
