"""Llama in Hugging Face's folders."""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.llama import LlamaConfig
from glassformer.models.published.decoder import LIKE_LLAMA, OURS, THEIRS, decoder_tensors, fields, without
from glassformer.models.published.fields import Field, FieldGroup, Settings, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same


def read_attention_bias(theirs: Settings) -> dict[str, Any]:
    """On all four projections, or on none."""
    bias = theirs.get("attention_bias", False)
    return {"qkv_bias": bias, "o_bias": bias}


def write_attention_bias(ours: LlamaConfig) -> dict[str, Any]:
    """The same."""
    if ours.qkv_bias != ours.o_bias:
        raise ExportError(f"cannot express qkv_bias = {ours.qkv_bias} with o_bias = {ours.o_bias}; they are the same.")
    return {"attention_bias": ours.o_bias}


def tensors(config: LlamaConfig) -> list[Rename]:
    """Those of any decoder, and the biases that Llamas may have."""
    names = ["self_attn.o_proj"] * config.o_bias
    names += [f"mlp.{name}_proj" for name in ("gate", "up", "down")] * config.mlp_bias
    biases = [same(f"{OURS}{name.removeprefix('self_')}.bias", f"{THEIRS}{name}.bias") for name in names]
    return [*decoder_tensors(config), *biases]


PUBLISHED = Published(
    config=LlamaConfig,
    name="Llama",
    model_types=("llama",),
    fields=(
        WriteOnly("architectures", ["LlamaForCausalLM"]),
        *fields(),
        FieldGroup(
            theirs=("attention_bias",),
            ours=("qkv_bias", "o_bias"),
            read=read_attention_bias,
            write=write_attention_bias,
        ),
        Field("mlp_bias", "mlp_bias", default=False),
        *without("qk_norm", "sliding_windows", "experts"),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)
