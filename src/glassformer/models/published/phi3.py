"""Phi-3 and Phi-4 in Hugging Face's folders, where projections of the same input are one matrix."""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.phi3 import Phi3Config
from glassformer.models.published.decoder import (
    IGNORED,
    INDICES,
    OURS,
    THEIRS,
    TIED,
    fields,
    gated,
    norms,
    read_rope,
    trunk,
    without,
)
from glassformer.models.published.fields import FieldGroup, OurConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, joined, same
from glassformer.models.published.windows import window_of_all


def write_rope(ours: Phi3Config) -> dict[str, Any]:
    """The rotary settings; no kind of scaling that Phi-3 has is ours."""
    if ours.rope_scaling is not None:
        raise ExportError(f"cannot express rope_scaling = {ours.rope_scaling}; it always has None.")
    return {"rope_theta": ours.rope_theta, "rope_scaling": None}


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
        *(row for row in SHARED if not {"rope_theta", "rope_style"} & {*row.our_names}),
        FieldGroup(
            theirs=("rope_theta", "rope_scaling", "rope_parameters"),
            ours=("rope_theta", "rope_scaling"),
            read=read_rope,
            write=write_rope,
        ),
        OurConstant("rope_style", "half"),  # rows of a fused matrix stay as they are
        window_of_all(),
        *without("qkv_bias", "qk_norm", "experts"),
    ),
    tensors=tensors,
    indices=INDICES,
    ignored=IGNORED,
    base_prefix="model.",
    tied=TIED,
)
