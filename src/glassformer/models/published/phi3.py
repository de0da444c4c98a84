"""Phi-3 and Phi-4 in Hugging Face's folders, where projections of the same input are one matrix."""

from typing import Any

from glassformer.errors import ConfigError, ExportError
from glassformer.models.phi3 import Phi3Config
from glassformer.models.published import rope as published_rope
from glassformer.models.published.decoder import (
    LIKE_LLAMA,
    OURS,
    THEIRS,
    fields,
    gated,
    norms,
    trunk,
    without,
)
from glassformer.models.published.fields import FieldGroup, OurConstant, Settings, WriteOnly
from glassformer.models.published.rope import ORIGINAL
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, joined, same
from glassformer.models.published.windows import window_of_all


def read_rope(theirs: Settings) -> dict[str, Any]:
    """The context and the rotary settings, whose one kind of scaling has had three names."""
    rope = published_rope.rope_parameters(theirs)
    kind = published_rope.kind_of(rope)
    if kind == "yarn":
        kind = "longrope"
    if kind not in ("default", "longrope"):
        raise ConfigError(f"rope_type {kind!r} is not supported; default and longrope are.")
    settings = {ORIGINAL: 4096, **theirs, "rope_scaling": {**rope, "rope_type": kind}}
    partial = published_rope.partial_factor(theirs)
    return {
        **published_rope.read_rope(settings, 10_000.0, 4096),
        "d_rotary": published_rope.read_rotary(partial, theirs, d_model=3072, n_heads=32),
    }


def write_rope(ours: Phi3Config) -> dict[str, Any]:
    """The context and the rotary settings; version 4 of `transformers` allows no more than the published ones."""
    scaling, context = ours.rope_scaling, ours.context_length
    settings = {
        "max_position_embeddings": context,
        ORIGINAL: context,
        "rope_theta": ours.rope_theta,
        "rope_scaling": None,
        "partial_rotary_factor": published_rope.write_rotary(ours),
    }
    if scaling is None:
        return settings
    if scaling.kind != "longrope":
        raise ExportError(f"cannot express a rope_scaling of kind {scaling.kind}; it always has None or longrope.")
    if ours.d_head != ours.d_model // ours.n_heads:
        raise ExportError(f"cannot express longrope with d_head = {ours.d_head}; it is d_model / n_heads.")
    original = scaling.original_context_length
    rope: dict[str, Any] = {"type": "longrope"}
    rope |= {"short_factor": [*scaling.short_factors], "long_factor": [*scaling.long_factors]}
    if scaling.factor != published_rope.context_factor(context, original, "longrope"):
        rope["factor"] = scaling.factor
    if scaling.attention_factor is not None:
        rope["attention_factor"] = scaling.attention_factor
    return settings | {ORIGINAL: original, "rope_scaling": rope}


def tensors(config: Phi3Config) -> list[Rename]:
    """Queries, keys and values below each other, with fewer rows of keys and values; gate and up likewise."""
    attn, kv = f"{OURS}attn.", config.n_kv_heads * config.d_head
    qkv = [f"{attn}{name}_proj.weight" for name in "qkv"]
    return [
        *trunk(config),
        *norms(),
        joined(qkv, f"{THEIRS}self_attn.qkv_proj.weight", rows=(config.n_heads * config.d_head, kv, kv)),
        same(f"{attn}o_proj.weight", f"{THEIRS}self_attn.o_proj.weight"),
        joined([f"{OURS}mlp.{name}_proj.weight" for name in ("gate", "up")], f"{THEIRS}mlp.gate_up_proj.weight"),
        *gated("down"),
    ]


SHARED = fields(
    vocab_size=32064,
    max_position_embeddings=4096,
    hidden_size=3072,
    intermediate_size=8192,
    rms_norm_eps=1e-5,
)

PUBLISHED = Published(
    config=Phi3Config,
    name="Phi3",
    model_types=("phi3",),
    fields=(
        WriteOnly("architectures", ["Phi3ForCausalLM"]),
        *(row for row in SHARED if not {"rope_theta", "rope_style", "d_rotary"} & {*row.our_names}),
        FieldGroup(
            theirs=(
                "max_position_embeddings",
                ORIGINAL,
                "rope_theta",
                "rope_scaling",
                "rope_parameters",
                "partial_rotary_factor",
            ),
            ours=("context_length", "rope_theta", "rope_scaling", "d_rotary"),
            read=read_rope,
            write=write_rope,
        ),
        OurConstant("rope_style", "half"),  # rows of a fused matrix stay as they are
        window_of_all(),
        *without("qkv_bias", "o_bias", "mlp_bias", "qk_norm", "experts"),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)
