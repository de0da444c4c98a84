"""Qwen3's mixture of experts in Hugging Face's folders."""

from typing import Any

from glassformer.models.published.decoder import (
    LIKE_LLAMA,
    OURS,
    QWEN,
    THEIRS,
    decoder_tensors,
    fields,
    without,
)
from glassformer.models.published.fields import FieldGroup, OurConstant, Settings, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same
from glassformer.models.published.windows import of_all, only_window, read_size
from glassformer.models.qwen3_moe import Qwen3MoEConfig


def read_experts(theirs: Settings) -> dict[str, Any]:
    """Their number by its name in version 4 of `transformers`, or else by that in version 5."""
    n = theirs.get("num_experts", theirs.get("num_local_experts", 128))
    top_k, norm_top_k = theirs.get("num_experts_per_tok", 8), theirs.get("norm_topk_prob", False)
    return {"experts": {"n": n, "top_k": top_k, "norm_top_k": norm_top_k}}


def write_experts(ours: Qwen3MoEConfig) -> dict[str, Any]:
    """The same, by the names of version 4, which version 5 reads too."""
    experts = ours.experts
    return {"num_experts": experts.n, "num_experts_per_tok": experts.top_k, "norm_topk_prob": experts.norm_top_k}


def tensors(config: Qwen3MoEConfig) -> list[Rename]:
    """Those of any decoder, with the router by the name of a gate."""
    router = same(f"{OURS}mlp.router.weight", f"{THEIRS}mlp.gate.weight")
    return [router, *(row for row in decoder_tensors(config) if row.ours != router.ours)]


PUBLISHED = Published(
    config=Qwen3MoEConfig,
    name="Qwen3MoE",
    model_types=("qwen3_moe",),
    fields=(
        WriteOnly("architectures", ["Qwen3MoeForCausalLM"]),
        *fields(
            d_ff="moe_intermediate_size",
            **QWEN | {"hidden_size": 2048, "num_hidden_layers": 24, "num_key_value_heads": 4},
            moe_intermediate_size=768,
        ),
        TheirConstant("attention_bias", False),
        TheirConstant("decoder_sparse_step", 1),
        TheirConstant("mlp_only_layers", []),
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
        *without("qkv_bias"),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)
