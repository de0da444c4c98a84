"""Mistral: a Llama in which each query sees a window of the latest tokens; later versions see all again.

Jiang et al. 2023 (arXiv:2310.06825).
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralConfig(DecoderConfig):
    """Sizes and choices of a Mistral; the defaults are those of 7 billion parameters, without a window."""

    architecture: ClassVar[str] = "mistral"

    context_length: int = 32768
    n_kv_heads: int = 8
    d_ff: int = 14336


class Mistral(Decoder):
    """Tokens to the logits of the token after each."""


PRESETS = {
    "mistral-7b-v0.1": MistralConfig(sliding_windows=(4096,)),
    "mistral-7b-v0.3": MistralConfig(vocab_size=32768, rope_theta=1_000_000.0),
}

SPEC = ModelSpec(config=MistralConfig, module=Mistral, initialize=initialize, presets=PRESETS)
