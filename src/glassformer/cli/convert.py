"""`glassformer convert`: published formats into a Hugging Face directory, or a GGUF file."""

from pathlib import Path

from cyclopts import App

from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import OPENING, ContextLength, Opening, opened
from glassformer.cli.output import new_destination, print_json, print_line, remark

app = App(
    name="convert",
    help_epilogue="Example:  glassformer convert preset:nano-sort runs/nano",
)


@app.default
def convert(
    source: str,
    destination: Path,
    /,
    *,
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    tokenizer: Path | None = None,
    quantize: str | None = None,
    native: Flag = False,
    overwrite: Flag = False,
    json: Flag = False,
) -> None:
    """Turn a checkpoint into a Hugging Face directory, which glassformer, transformers and vLLM load.

    What its folder holds beside what is understood here (chat template, settings, licence …) goes along as it is; what
    does not is said.

    Parameters
    ----------
    source
        A directory, llama.cpp's .gguf, llama2.c's .bin, minGPT's .json, fairseq's weights as .safetensors, g2p_en's
        .npz, a .pt of nanoGPT's, Whisper's or vit-pytorch's, a name on the Hub (org/name), or preset:NAME.
    destination
        The directory to write, or a .gguf file for llama.cpp.
    tokenizer
        A tokenizer's file or folder, where none stands beside the source: Whisper's is OpenAI's gpt2.tiktoken.
    quantize
        Write one GGUF file with matrices as q8_0, f16 or f32; or a directory with int8, int4, or, of a GGUF file, keep,
        which glassformer alone reads.
    native
        Write what Hugging Face's format cannot express, too; glassformer alone reads such a directory. Architectures
        that Hugging Face does not have (rnn, seq2seq, word2vec) are written so without being told.
    overwrite
        Replace a checkpoint that is already there.
    json
        Print a JSON object.
    """

    from glassformer import api, checkpoints, models
    from glassformer.errors import ConfigError
    from glassformer.inference.quantize import QUANTIZATIONS
    from glassformer.nn.quantized import n_parameters
    from glassformer.tokenizers import Tokenizer

    read = [path for path in (source, tokenizer) if path is not None]
    is_file, of_folder = destination.suffix == ".gguf", quantize in (*QUANTIZATIONS, "keep")
    if is_file == (quantize is None or of_folder):
        raise ConfigError(
            "--quantize q8_0, f16 or f32 goes with a destination that ends in .gguf, and neither alone; int8, int4 and "
            "keep go with a directory."
        )
    if is_file:
        no_effect("on a GGUF file", native=native)
    new_destination(destination, overwrite=overwrite, folder=not is_file, reads=read)
    levels = quantize if of_folder else None
    model = opened(source, opening, dtype=None, context_length=context_length, quantize=levels)
    if tokenizer is not None:
        tokens = Tokenizer.load(tokenizer)
        vocab_size = getattr(model.config, "vocab_size", tokens.vocab_size)
        if tokens.vocab_size > vocab_size:  # fewer may be right: embeddings are often padded to a round number
            raise ConfigError(
                f"{tokenizer} has {tokens.vocab_size:,} tokens and the model {vocab_size:,}: it is another model's. "
                f"--tokenizer takes the one that it was trained with."
            )
        model = model.having(tokenizer=tokens, no_tokenizer="")
    if not is_file or quantize is None:
        api.save(model, destination, native=native, overwrite=overwrite)
    else:
        checkpoints.save_gguf(model.checkpoint, destination, kind=quantize, overwrite=overwrite)
    if model.no_tokenizer and model.rest.has_tokenizer:
        remark(f"Its tokenizer goes along as it is, and was not understood: {model.no_tokenizer}")
    elif model.no_tokenizer:
        remark(f"The tokenizer is left out: {model.no_tokenizer}")
    elif model.tokenizer is None and model.kind == "speech-recognizer":
        remark("There is no tokenizer beside it, which transcribe needs: --tokenizer FILE puts one in.")
    architecture = models.spec_of(model.config).name
    parameters = n_parameters(model.module)
    if json:
        print_json({"destination": str(destination), "architecture": architecture, "parameters": parameters})
    else:
        parts = {
            "its tokenizer": model.tokenizer,
            "that of its source": model.source_tokenizer,
            "its processor": model.processor,
        }
        kept = " and ".join(name for name, what in parts.items() if what is not None)
        print_line(f"{destination}: {architecture}, {parameters:,} parameters{f', with {kept}' if kept else ''}")
