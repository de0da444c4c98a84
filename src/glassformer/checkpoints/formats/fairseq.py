"""fairseq's Transformer (`fairseq-train --arch transformer`), from the tensors under its "model" key as safetensors.

fairseq keeps everything in one pickle that only running its code can open, so the weights come as a safetensors file
with the names that they have there. The sizes follow from the shapes. What no shape says must be given: the number of
heads, the activation and the scale of embeddings, which the pickle's "args" have as encoder_attention_heads (that of
the decoder must be the same), activation_fn and no_scale_embedding. The texts' vocabularies are read by
`tokenizers/subword.py`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints import safetensors
from glassformer.checkpoints.formats.format import Contents, Format, Option, Source
from glassformer.checkpoints.names import to_ours
from glassformer.checkpoints.tokenizer_files import Tokenizers
from glassformer.config import from_mapping
from glassformer.errors import CheckpointMismatch, TokenizerError
from glassformer.models.transformer import TransformerConfig
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.untrusted_files import file_in

HALVES = ("encoder", "decoder")
NO_WEIGHTS = re.compile(r"(encoder|decoder)\.(version|embed_positions\._float_tensor)")


def sniff(source: Source) -> bool:
    """Whether it has fairseq's names of embeddings."""
    if source.content != "safetensors":
        return False
    return any(name in (f"{half}.embed_tokens.weight" for half in HALVES) for name in safetensors.read(source.path))


def read(
    source: Source, *, n_heads: int, activation: str, scaled_embedding: bool
) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters; the dictionaries of the two languages lie beside the file."""
    state = {name: tensor for name, tensor in safetensors.read(source.path).items() if not NO_WEIGHTS.fullmatch(name)}
    if learned := [name for name in state if name.endswith("embed_positions.weight")]:
        raise CheckpointMismatch(f"{learned[0]}: models of fairseq's with learned positions are not supported.")
    settings = {"n_heads": n_heads, "activation": activation, "scaled_embedding": scaled_embedding}
    config = infer_config(state, settings)
    both = dictionaries(source.path, config)
    contents = Contents(
        config=config, tokenizer=both.tokenizer, source_tokenizer=both.source, no_tokenizer=both.missing
    )
    return contents, to_ours(to_marian(state, config), config, native=True)


FORMAT = Format(
    name="fairseq",
    files=".safetensors of fairseq",
    sniff=sniff,
    read=read,
    options=(
        Option(name="n_heads", type=int, meaning="encoder_attention_heads in the args"),
        Option(name="activation", type=str, meaning="activation_fn, mostly relu"),
        Option(name="scaled_embedding", type=bool, meaning="not no_scale_embedding, mostly true"),
    ),
)


def dictionaries(path: Path, config: TransformerConfig) -> Tokenizers:
    """fairseq's dict.SOURCE.txt and dict.TARGET.txt; which is which, the numbers of their tokens say."""
    try:
        tokenizers = [
            Tokenizer.load(file_in(path.parent, file.name)) for file in sorted(path.parent.glob("dict.*.txt"))
        ]
    except TokenizerError as error:
        return Tokenizers(missing=error.anywhere())
    if not tokenizers:
        return Tokenizers()
    targets = [tokenizer for tokenizer in tokenizers if tokenizer.vocab_size == config.vocab_size]
    sources = [tokenizer for tokenizer in tokenizers if tokenizer.vocab_size == config.source_vocab_size]
    if config.source_vocab_size is None and targets:
        return Tokenizers(targets[0])
    if [len(targets), len(sources)] == [1, 1] and targets != sources:
        return Tokenizers(targets[0], sources[0])
    sizes = ", ".join(str(tokenizer.vocab_size) for tokenizer in tokenizers)
    return Tokenizers(
        missing=f"{path.parent}: the model's vocabularies of {config.source_vocab_size} and {config.vocab_size} tokens "
        f"cannot be told apart among dict.*.txt, of {sizes} tokens."
    )


def infer_config(state: Mapping[str, Tensor], told: Mapping[str, Any]) -> TransformerConfig:
    """The configuration whose shapes these are. fairseq begins with </s>, and its positions with pad_id + 1."""
    source, target = _matrix(state, "encoder.embed_tokens.weight"), _matrix(state, "decoder.embed_tokens.weight")
    head = state.get("decoder.output_projection.weight", target)
    settings: dict[str, Any] = {
        "vocab_size": target.shape[0],
        "source_vocab_size": None if torch.equal(source, target) else source.shape[0],
        "d_model": target.shape[1],
        "n_encoder_layers": _count_layers(state, "encoder"),
        "n_decoder_layers": _count_layers(state, "decoder"),
        **told,
        "d_ff": _matrix(state, "encoder.layers.0.fc1.weight").shape[0],
        "norm_placement": "pre" if "encoder.layer_norm.weight" in state else "post",
        "tied_head": torch.equal(head, target),
        "position_layout": "tensor2tensor",
        "first_position": 2,
        "start_id": 2,
        "eos_id": 2,
        "pad_id": 1,
    }
    return from_mapping(TransformerConfig, settings)


def to_marian(state: Mapping[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """The same tensors under the names of Marian's format, which were fairseq's, without those that are there twice."""
    renamed = {name: f"model.{name}" for name in state}
    renamed["decoder.output_projection.weight"] = "lm_head.weight"
    if config.source_vocab_size is None:
        renamed["encoder.embed_tokens.weight"] = "model.shared.weight"
    return {renamed[name]: tensor for name, tensor in state.items()}


def _matrix(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state or state[name].dim() != 2:
        raise CheckpointMismatch(
            f"there is no matrix {name}, so it is not fairseq's; of a Hugging Face model, name the folder."
        )
    return state[name]


def _count_layers(state: Mapping[str, Tensor], side: str) -> int:
    """How many layers have numbers without a gap."""
    n = 0
    while f"{side}.layers.{n}.fc1.weight" in state:
        n += 1
    return n
