"""Qwen3 with a mixture of many small experts in each block.

Yang et al. 2025, §2 (arXiv:2505.09388). Next to read: `nn/moe.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec
from glassformer.nn.moe import Experts

EXPERTS = Experts(n=128, top_k=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3MoEConfig(DecoderConfig):
    """Sizes and choices; the defaults are those of the model with 30 billion parameters, of which a token uses 3."""

    architecture: ClassVar[str] = "qwen3_moe"

    vocab_size: int = 151936
    context_length: int = 40960
    d_model: int = 2048
    n_layers: int = 48
    n_kv_heads: int = 4
    d_ff: int = 768
    norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    qk_norm: bool = True
    experts: Experts = EXPERTS


class Qwen3MoE(Decoder):
    """Tokens to the logits of the token after each."""


PRESETS = {
    "qwen3-30b-a3b": Qwen3MoEConfig(d_head=128),
    "qwen3-235b-a22b": Qwen3MoEConfig(d_model=4096, d_head=128, n_layers=94, n_heads=64, d_ff=1536),
}

SPEC = ModelSpec(config=Qwen3MoEConfig, module=Qwen3MoE, initialize=initialize, presets=PRESETS)
