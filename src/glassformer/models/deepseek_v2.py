"""DeepSeek-V2: latent attention, and experts chosen by a softmax, of few groups where there are groups.

DeepSeek-AI 2024 (arXiv:2405.04434). Next to read: `deepseek.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.deepseek import DeepSeek, DeepSeekConfig, initialize_deepseek
from glassformer.models.spec import ModelSpec
from glassformer.nn.moe import GroupedExperts


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSeekV2Config(DeepSeekConfig):
    """Sizes and choices of a DeepSeek-V2; the defaults are those of V2-Lite, before its context was stretched."""

    architecture: ClassVar[str] = "deepseek_v2"


class DeepSeekV2(DeepSeek):
    """Tokens to the logits of the token after each."""


PRESETS = {
    "deepseek-v2-lite": DeepSeekV2Config(),
    "deepseek-v2": DeepSeekV2Config(
        d_model=5120,
        n_layers=60,
        n_heads=128,
        q_rank=1536,
        d_ff=12288,
        d_expert=1536,
        experts=GroupedExperts(
            scores="softmax", n=160, top_k=6, norm_top_k=False, n_shared=2, n_groups=8, top_k_groups=3, scale=16.0
        ),
    ),
}

SPEC = ModelSpec(config=DeepSeekV2Config, module=DeepSeekV2, initialize=initialize_deepseek, presets=PRESETS)
