"""Mixtral in Hugging Face's folders, where an expert's gate, down and up are w1, w2 and w3."""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.mixtral import MixtralConfig
from glassformer.models.published.decoder import (
    LIKE_LLAMA,
    OURS,
    THEIRS,
    attention,
    fields,
    norms,
    trunk,
    without,
)
from glassformer.models.published.fields import FieldGroup, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same
from glassformer.models.published.windows import window_of_all


def write_experts(ours: MixtralConfig) -> dict[str, Any]:
    """How many there are, and how many a token goes through, whose weights sum to 1."""
    if not ours.experts.norm_top_k:
        raise ExportError("cannot express experts.norm_top_k = False; it always has True.")
    return {"num_local_experts": ours.experts.n, "num_experts_per_tok": ours.experts.top_k}


def tensors(config: MixtralConfig) -> list[Rename]:
    """Each expert's matrices by themselves."""
    ours, theirs = f"{OURS}mlp.", f"{THEIRS}block_sparse_moe."
    names = {"gate": "w1", "down": "w2", "up": "w3"}
    return [
        *trunk(config),
        *attention(config, turned=config.rope_style == "interleaved"),
        *norms(),
        same(f"{ours}router.weight", f"{theirs}gate.weight"),
        *(same(f"{ours}experts.{{e}}.{a}_proj.weight", f"{theirs}experts.{{e}}.{b}.weight") for a, b in names.items()),
    ]


PUBLISHED = Published(
    config=MixtralConfig,
    name="Mixtral",
    model_types=("mixtral",),
    fields=(
        WriteOnly("architectures", ["MixtralForCausalLM"]),
        *fields(
            max_position_embeddings=131072,
            num_key_value_heads=8,
            intermediate_size=14336,
            rms_norm_eps=1e-5,
            rope_theta=1_000_000.0,
        ),
        window_of_all(),
        FieldGroup(
            theirs=("num_local_experts", "num_experts_per_tok"),
            ours=("experts",),
            read=lambda theirs: {
                "experts": {"n": theirs.get("num_local_experts", 8), "top_k": theirs.get("num_experts_per_tok", 2)}
            },
            write=write_experts,
        ),
        *without("qkv_bias", "o_bias", "mlp_bias", "qk_norm"),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
    general={"num_experts": "num_local_experts"},
)
