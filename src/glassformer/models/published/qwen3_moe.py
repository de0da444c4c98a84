"""Qwen3's mixture of experts in Hugging Face's folders."""

from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.published.decoder import (
    ATTENTION_BIAS,
    GATED,
    LIKE_LLAMA,
    QWEN,
    decoder_tensors,
    fields,
    gated,
    without,
)
from glassformer.models.published.fields import FieldGroup, OurConstant, Settings, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same
from glassformer.models.published.windows import of_all, only_window, read_n_layers, read_size
from glassformer.models.qwen3_moe import Qwen3MoEConfig

N_LAYERS = 24  # where config.json does not say


def read_experts(theirs: Settings) -> dict[str, Any]:
    """Their number by its name in version 4 of `transformers`, or else by that in version 5."""
    n = theirs.get("num_experts", theirs.get("num_local_experts", 128))
    top_k, norm_top_k = theirs.get("num_experts_per_tok", 8), theirs.get("norm_topk_prob", False)
    return {"experts": {"n": n, "top_k": top_k, "norm_top_k": norm_top_k}}


def write_experts(ours: Qwen3MoEConfig) -> dict[str, Any]:
    """The same, by the names of version 4, which version 5 reads too."""
    experts = ours.experts
    return {"num_experts": experts.n, "num_experts_per_tok": experts.top_k, "norm_topk_prob": experts.norm_top_k}


def read_dense(theirs: Settings) -> dict[str, Any]:
    """Layers without experts: those that are listed, and those between every so many that have some."""
    n_layers, step = read_n_layers(theirs, N_LAYERS), theirs.get("decoder_sparse_step", 1)
    listed = theirs.get("mlp_only_layers") or []
    if type(step) is not int or step < 1:
        raise ConfigError(f"decoder_sparse_step must be a whole number from 1 on, not {step!r}.")
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        raise ConfigError(f"mlp_only_layers must be a list of numbers of layers, not {listed!r}.")
    dense = [layer for layer in range(n_layers) if layer in listed or (layer + 1) % step]
    return {"dense_layers": dense, "d_dense": theirs.get("intermediate_size", 6144) if dense else 0}


def write_dense(ours: Qwen3MoEConfig) -> dict[str, Any]:
    """The same, listed."""
    width = {"intermediate_size": ours.d_dense} if ours.dense_layers else {}
    return {"decoder_sparse_step": 1, "mlp_only_layers": [*ours.dense_layers], **width}


def tensors(config: Qwen3MoEConfig) -> list[Rename]:
    """Those of any decoder, with the router by the name of a gate."""
    rows = [row for row in decoder_tensors(config) if ".mlp." not in row.theirs]
    return [*rows, *(row for layer in range(config.n_layers) for row in networks(config, layer))]


def networks(config: Qwen3MoEConfig, layer: int) -> list[Rename]:
    """A block's one network, or its router and its experts."""
    if layer in config.dense_layers:
        return gated(*GATED, layer=layer)
    router = same(f"blocks.{layer}.mlp.router.weight", f"model.layers.{layer}.mlp.gate.weight")
    return [router, *gated(*GATED, inside="experts.{e}.", layer=layer)]


PUBLISHED = Published(
    config=Qwen3MoEConfig,
    name="Qwen3MoE",
    model_types=("qwen3_moe",),
    fields=(
        WriteOnly("architectures", ["Qwen3MoeForCausalLM"]),
        *fields(
            d_ff="moe_intermediate_size",
            **QWEN | {"hidden_size": 2048, "num_hidden_layers": N_LAYERS, "num_key_value_heads": 4},
            moe_intermediate_size=768,
        ),
        ATTENTION_BIAS,
        FieldGroup(
            theirs=("decoder_sparse_step", "mlp_only_layers", "intermediate_size"),
            ours=("dense_layers", "d_dense"),
            read=read_dense,
            write=write_dense,
        ),
        FieldGroup(
            theirs=("use_sliding_window", "sliding_window"),
            ours=("sliding_windows",),
            read=lambda theirs: of_all(read_size(theirs, 4096) if theirs.get("use_sliding_window", False) else 0),
            write=lambda ours: {
                "use_sliding_window": only_window(ours) > 0,
                "sliding_window": only_window(ours) or None,
            },
        ),
        FieldGroup(
            theirs=("num_experts", "num_local_experts", "num_experts_per_tok", "norm_topk_prob"),
            ours=("experts",),
            read=read_experts,
            write=write_experts,
        ),
        OurConstant("qk_norm", True),
        *without("mlp_bias"),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)
