"""DeepSeek-V2 in Hugging Face's folders."""

from typing import Any

from glassformer.errors import ConfigError, ExportError
from glassformer.models.deepseek_v2 import DeepSeekV2Config
from glassformer.models.published.decoder import LIKE_LLAMA
from glassformer.models.published.deepseek import deepseek_fields, tensors
from glassformer.models.published.fields import FieldGroup, OurConstant, Settings, TheirConstant, WriteOnly
from glassformer.models.published.table import Published


def read_experts(theirs: Settings) -> dict[str, Any]:
    """Groups count by one of two methods only."""
    method = theirs.get("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise ConfigError(f"topk_method must be greedy or group_limited_greedy, not {method!r}.")
    experts = {
        "scores": "softmax",
        "n": theirs.get("n_routed_experts", 64),
        "top_k": theirs.get("num_experts_per_tok"),
        "norm_top_k": False,
        "n_shared": theirs.get("n_shared_experts", 2),
        "scale": theirs.get("routed_scaling_factor", 1.0),
    }
    if method == "group_limited_greedy":
        experts |= {"n_groups": theirs.get("n_group"), "top_k_groups": theirs.get("topk_group")}
    return {"experts": experts}


def write_experts(ours: DeepSeekV2Config) -> dict[str, Any]:
    """The same; a single group is none."""
    experts = ours.experts
    if experts.scores != "softmax" or experts.norm_top_k:
        raise ExportError(f"cannot express experts = {experts}; they are chosen by a softmax, without norm_top_k.")
    return {
        "n_routed_experts": experts.n,
        "num_experts_per_tok": experts.top_k,
        "n_shared_experts": experts.n_shared,
        "routed_scaling_factor": experts.scale,
        "topk_method": "greedy" if experts.n_groups == 1 else "group_limited_greedy",
        "n_group": experts.n_groups,
        "topk_group": experts.top_k_groups,
    }


EXPERTS = ("n_routed_experts", "num_experts_per_tok", "n_shared_experts", "routed_scaling_factor")

PUBLISHED = Published(
    config=DeepSeekV2Config,
    name="DeepseekV2",
    model_types=("deepseek_v2",),
    fields=(
        WriteOnly("architectures", ["DeepseekV2ForCausalLM"]),
        *deepseek_fields(
            FieldGroup(
                theirs=(*EXPERTS, "topk_method", "n_group", "topk_group"),
                ours=("experts",),
                read=read_experts,
                write=write_experts,
            ),
            TheirConstant("norm_topk_prob", False),
            TheirConstant("scoring_func", "softmax"),
            TheirConstant("mlp_bias", False),
            OurConstant("rope_style", "interleaved"),
            vocab_size=102400,
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            intermediate_size=11008,
            moe_intermediate_size=1407,
            first_k_dense_replace=0,
            max_position_embeddings=2048,
        ),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
    general={"num_experts": "n_routed_experts"},
)
