"""DeepSeek-V3 and R1: latent attention, and experts that are kept in use without a loss of their own.

DeepSeek-AI 2024 (arXiv:2412.19437). Next to read: `deepseek.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.deepseek import DeepSeek, DeepSeekConfig, initialize_deepseek
from glassformer.models.spec import ModelSpec
from glassformer.nn.moe import GroupedExperts

EXPERTS = GroupedExperts(n=256, top_k=8, n_groups=8, top_k_groups=4, scale=2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSeekV3Config(DeepSeekConfig):
    """Sizes and choices; the defaults are those of the published model, before its context was stretched."""

    architecture: ClassVar[str] = "deepseek_v3"

    vocab_size: int = 129280
    d_model: int = 7168
    n_layers: int = 61
    n_heads: int = 128
    q_rank: int = 1536
    d_ff: int = 18432
    d_expert: int = 2048
    n_dense_layers: int = 3
    experts: GroupedExperts = EXPERTS


class DeepSeekV3(DeepSeek):
    """Tokens to the logits of the token after each."""


PRESETS = {"deepseek-v3": DeepSeekV3Config()}

SPEC = ModelSpec(
    config=DeepSeekV3Config,
    module=DeepSeekV3,
    initialize=initialize_deepseek,
    presets=PRESETS,
    in_float32=frozenset({"balance"}),  # of published models within less of each other than bfloat16 can tell apart
)
