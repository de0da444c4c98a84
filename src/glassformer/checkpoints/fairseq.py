"""fairseq's Transformer (`fairseq-train --arch transformer`), from the tensors under its "model" key as safetensors.

fairseq keeps everything in one pickle that only running its code can open, so the weights come as a safetensors file
with the names that they have there. The sizes follow from the shapes. What no shape says must be given: the number of
heads and the activation, which the pickle's "args" have as encoder_attention_heads (8 in all of fairseq's smaller
models) and activation_fn (relu). The texts' vocabularies are read by `tokenizers/subword.py`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints import safetensors
from glassformer.checkpoints.names import to_ours
from glassformer.config import from_mapping
from glassformer.errors import CheckpointMismatch
from glassformer.models.transformer import TransformerConfig

NO_WEIGHTS = re.compile(r"(encoder|decoder)\.(version|embed_positions\._float_tensor)")


def read(path: Path, *, n_heads: int = 8, activation: str = "relu") -> tuple[TransformerConfig, dict[str, Tensor]]:
    """The configuration and our parameters."""
    state = {name: tensor for name, tensor in safetensors.read(path).items() if not NO_WEIGHTS.fullmatch(name)}
    if learned := [name for name in state if name.endswith("embed_positions.weight")]:
        raise CheckpointMismatch(f"{learned[0]}: models of fairseq's with learned positions are not supported.")
    config = infer_config(state, n_heads=n_heads, activation=activation)
    return config, to_ours(to_marian(state, config), config, native=True)


def infer_config(state: Mapping[str, Tensor], *, n_heads: int, activation: str) -> TransformerConfig:
    """The configuration whose shapes these are. fairseq begins with </s>, and its positions with pad_id + 1."""
    source, target = _matrix(state, "encoder.embed_tokens.weight"), _matrix(state, "decoder.embed_tokens.weight")
    head = state.get("decoder.output_projection.weight", target)
    settings: dict[str, Any] = {
        "vocab_size": target.shape[0],
        "source_vocab_size": None if torch.equal(source, target) else source.shape[0],
        "d_model": target.shape[1],
        "n_encoder_layers": _count_layers(state, "encoder"),
        "n_decoder_layers": _count_layers(state, "decoder"),
        "n_heads": n_heads,
        "d_ff": _matrix(state, "encoder.layers.0.fc1.weight").shape[0],
        "activation": activation,
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
