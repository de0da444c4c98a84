"""What the families of Gemma have in common in Hugging Face's folders, beside what all modern decoders have."""

from collections.abc import Sequence
from typing import Any

from glassformer.models.gemma import GemmaConfig
from glassformer.models.published.decoder import (
    ATTENTION_BIAS,
    OURS,
    THEIRS,
    attention,
    biases,
    fields,
    gated,
    trunk,
    without,
)
from glassformer.models.published.fields import Field, Row, TheirConstant
from glassformer.models.published.tensors import Rename, half_from_interleaved, same

NORMS = {
    "attn_norm": "input_layernorm",
    "attn_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}

DEFAULTS: dict[str, Any] = {
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "hidden_size": 2304,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "intermediate_size": 9216,
    "tie_word_embeddings": True,
}


def gemma_fields(*own: Row, **changed: Any) -> Sequence[Row]:
    """The settings that all of them have, with some defaults changed, and those that one has of its own."""
    shared = fields(**DEFAULTS | changed)
    replaced = {name for row in own for name in row.our_names} | {"hidden_act"}
    return (
        *(row for row in shared if replaced.isdisjoint((*row.our_names, *row.their_names))),
        TheirConstant("hidden_activation", "gelu_pytorch_tanh"),
        ATTENTION_BIAS,
        Field("query_pre_attn_scalar", "query_scalar", default=256),
        *own,
        *without("mlp_bias", "experts"),
    )


def cap(theirs: str, ours: str, default: float | None) -> Field:
    """A cap on scores or logits, null where there is none."""
    return Field(theirs, ours, default=default, null=0.0, to_theirs=lambda value: value or None)


def tensors(config: GemmaConfig) -> list[Rename]:
    """Their norms are called weights, but hold the distance of a scale from 1, as ours."""
    interleaved = config.rope_style == "interleaved"
    rows = [*trunk(config), *attention(config, turned=interleaved), *gated("gate", "up", "down")]
    rows += biases(config)
    rows += [same(f"{OURS}{ours}.offset", f"{THEIRS}{theirs}.weight") for ours, theirs in NORMS.items()]
    rows.append(same("final_norm.offset", "model.norm.weight"))
    if config.qk_norm:
        for name in "qk":
            pair = f"{OURS}attn.{name}_norm.offset", f"{THEIRS}self_attn.{name}_norm.weight"
            rows.append(half_from_interleaved(*pair, config.d_head) if interleaved else same(*pair))
    return rows
