"""Qwen3: queries and keys are normalised head by head, and the biases of Qwen2 are gone.

Yang et al. 2025 (arXiv:2505.09388).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3Config(DecoderConfig):
    """Sizes and choices of a Qwen3; the defaults are those of the model with 8 billion parameters."""

    architecture: ClassVar[str] = "qwen3"

    vocab_size: int = 151936
    context_length: int = 40960
    n_layers: int = 36
    n_kv_heads: int = 8
    d_ff: int = 12288
    norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    qk_norm: bool = True


class Qwen3(Decoder):
    """Tokens to the logits of the token after each."""


SMALL: dict[str, Any] = {"d_head": 128, "tied_head": True}
LARGE: dict[str, Any] = {"d_model": 5120, "d_head": 128}

PRESETS = {
    "qwen3-0.6b": Qwen3Config(**SMALL, d_model=1024, n_layers=28, n_heads=16, d_ff=3072),
    "qwen3-1.7b": Qwen3Config(**SMALL, d_model=2048, n_layers=28, n_heads=16, d_ff=6144),
    "qwen3-4b": Qwen3Config(**SMALL, d_model=2560, d_ff=9728),
    "qwen3-8b": Qwen3Config(d_head=128),
    "qwen3-14b": Qwen3Config(**LARGE, n_layers=40, n_heads=40, d_ff=17408),
    "qwen3-32b": Qwen3Config(**LARGE, n_layers=64, n_heads=64, d_ff=25600),
}

SPEC = ModelSpec(config=Qwen3Config, module=Qwen3, initialize=initialize, presets=PRESETS)
