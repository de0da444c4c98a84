"""OLMo 2: what each sublayer adds is normalised, not what it reads, and so are queries and keys, all heads together.

Team OLMo 2024 (arXiv:2501.00656).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec
from glassformer.nn.block import NormPlacement
from glassformer.nn.norm import RMSNorm, WideRMSNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Olmo2Config(DecoderConfig):
    """Sizes and choices of an OLMo 2; the defaults are those of the model with 7 billion parameters."""

    architecture: ClassVar[str] = "olmo2"
    norm_placement: ClassVar[NormPlacement] = "res-post"
    norm: ClassVar[type[RMSNorm]] = WideRMSNorm
    joint_qk_norm: ClassVar[bool] = True

    vocab_size: int = 100352
    context_length: int = 4096
    norm_eps: float = 1e-6
    rope_theta: float = 500_000.0
    qk_norm: bool = True


class Olmo2(Decoder):
    """Tokens to the logits of the token after each."""


LARGE: dict[str, Any] = {"d_model": 5120, "n_heads": 40}

PRESETS = {
    "olmo-2-1b": Olmo2Config(d_model=2048, n_layers=16, n_heads=16, d_ff=8192),
    "olmo-2-7b": Olmo2Config(),
    "olmo-2-13b": Olmo2Config(**LARGE, n_layers=40, d_ff=13824),
    "olmo-2-32b": Olmo2Config(**LARGE, n_layers=64, n_kv_heads=8, d_ff=27648),
}

SPEC = ModelSpec(config=Olmo2Config, module=Olmo2, initialize=initialize, presets=PRESETS)
