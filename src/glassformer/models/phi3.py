"""Phi-3 and Phi-4: a Llama whose published files have queries, keys and values in one matrix, gate and up in another.

Abdin et al. 2024 (arXiv:2404.14219, arXiv:2412.08905).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Phi3Config(DecoderConfig):
    """Sizes and choices of a Phi-3; the defaults are those of Phi-3-mini, without its window."""

    architecture: ClassVar[str] = "phi3"

    vocab_size: int = 32064
    context_length: int = 4096
    d_model: int = 3072
    d_ff: int = 8192


class Phi3(Decoder):
    """Tokens to the logits of the token after each."""


MEDIUM: dict[str, Any] = {"d_model": 5120, "n_layers": 40, "n_heads": 40, "n_kv_heads": 10, "d_ff": 17920}

PRESETS = {
    "phi-3-mini-4k": Phi3Config(sliding_windows=(2047,)),
    "phi-3-medium-4k": Phi3Config(**MEDIUM, sliding_windows=(2047,)),
    "phi-4": Phi3Config(**MEDIUM, vocab_size=100352, context_length=16384, rope_theta=250_000.0),
}

SPEC = ModelSpec(config=Phi3Config, module=Phi3, initialize=initialize, presets=PRESETS)
