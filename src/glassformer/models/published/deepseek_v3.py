"""DeepSeek-V3 and R1 in Hugging Face's folders."""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.deepseek_v3 import DeepSeekV3Config
from glassformer.models.published.decoder import LIKE_LLAMA
from glassformer.models.published.deepseek import deepseek_fields, tensors
from glassformer.models.published.fields import Field, FieldGroup, TheirConstant, WriteOnly
from glassformer.models.published.table import Published

EXPERTS: dict[str, tuple[str, Any]] = {  # theirs: ours, and the default
    "n_routed_experts": ("n", 256),
    "num_experts_per_tok": ("top_k", 8),
    "norm_topk_prob": ("norm_top_k", True),
    "n_shared_experts": ("n_shared", 1),
    "routed_scaling_factor": ("scale", 2.5),
    "n_group": ("n_groups", 8),
    "topk_group": ("top_k_groups", 4),
}


def write_experts(ours: DeepSeekV3Config) -> dict[str, Any]:
    """How many there are, and how they are chosen."""
    if ours.experts.scores != "sigmoid":
        raise ExportError(f"cannot express experts.scores = {ours.experts.scores!r}; they are always sigmoids.")
    return {theirs: getattr(ours.experts, name) for theirs, (name, _) in EXPERTS.items()}


PUBLISHED = Published(
    config=DeepSeekV3Config,
    name="DeepseekV3",
    model_types=("deepseek_v3",),
    fields=(
        WriteOnly("architectures", ["DeepseekV3ForCausalLM"]),
        *deepseek_fields(
            FieldGroup(
                theirs=tuple(EXPERTS),
                ours=("experts",),
                read=lambda theirs: {
                    "experts": {name: theirs.get(setting, default) for setting, (name, default) in EXPERTS.items()}
                },
                write=write_experts,
            ),
            TheirConstant("topk_method", "noaux_tc"),
            TheirConstant("scoring_func", "sigmoid"),
            WriteOnly(
                "num_nextn_predict_layers", 0
            ),  # of layers that guess the tokens after the next, which are left out
            Field("rope_interleave", "rope_style", default=True, values={True: "interleaved", False: "half"}),
            vocab_size=129280,
            hidden_size=7168,
            num_hidden_layers=61,
            num_attention_heads=128,
            intermediate_size=18432,
            moe_intermediate_size=2048,
            first_k_dense_replace=3,
            max_position_embeddings=4096,
        ),
    ),
    tensors=tensors,
    elsewhere=(r"model\.layers\.61\..*",),
    **LIKE_LLAMA,
    general={"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"},
)
