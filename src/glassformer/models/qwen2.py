"""Qwen2 and Qwen2.5: queries, keys and values have biases, and the upper layers may see a window alone.

Yang et al. 2024 (arXiv:2407.10671), Qwen team 2024 (arXiv:2412.15115).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2Config(DecoderConfig):
    """Sizes and choices of a Qwen2; the defaults are those of Qwen2.5 with 7 billion parameters."""

    architecture: ClassVar[str] = "qwen2"

    vocab_size: int = 152064
    context_length: int = 32768
    d_model: int = 3584
    n_layers: int = 28
    n_heads: int = 28
    n_kv_heads: int = 4
    d_ff: int = 18944
    norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    qkv_bias: bool = True


class Qwen2(Decoder):
    """Tokens to the logits of the token after each."""


SMALL: dict[str, Any] = {"vocab_size": 151936, "n_kv_heads": 2, "tied_head": True}
LARGE: dict[str, Any] = {"d_model": 5120, "n_heads": 40, "n_kv_heads": 8}

PRESETS = {  # as the chat models are published; base models differ in norm_eps and context_length
    "qwen2.5-0.5b": Qwen2Config(**SMALL, d_model=896, n_layers=24, n_heads=14, d_ff=4864),
    "qwen2.5-1.5b": Qwen2Config(**SMALL, d_model=1536, n_heads=12, d_ff=8960),
    "qwen2.5-3b": Qwen2Config(**SMALL, d_model=2048, n_layers=36, n_heads=16, d_ff=11008),
    "qwen2.5-7b": Qwen2Config(),
    "qwen2.5-14b": Qwen2Config(**LARGE, n_layers=48, d_ff=13824),
    "qwen2.5-32b": Qwen2Config(**LARGE, n_layers=64, d_ff=27648),
}

SPEC = ModelSpec(config=Qwen2Config, module=Qwen2, initialize=initialize, presets=PRESETS)
