"""Mixtral: a Mistral whose feed-forward networks are eight experts each, of which every token goes through two.

Jiang et al. 2024 (arXiv:2401.04088). Next to read: `nn/moe.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec
from glassformer.nn.moe import Experts

EXPERTS = Experts(n=8, top_k=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtralConfig(DecoderConfig):
    """Sizes and choices of a Mixtral; the defaults are those of the one with eight experts of 7 billion parameters."""

    architecture: ClassVar[str] = "mixtral"

    context_length: int = 32768
    n_kv_heads: int = 8
    d_ff: int = 14336
    rope_theta: float = 1_000_000.0
    experts: Experts = EXPERTS


class Mixtral(Decoder):
    """Tokens to the logits of the token after each."""


PRESETS = {
    "mixtral-8x7b": MixtralConfig(),
    "mixtral-8x22b": MixtralConfig(context_length=65536, d_model=6144, n_layers=56, n_heads=48, d_ff=16384),
}

SPEC = ModelSpec(config=MixtralConfig, module=Mixtral, initialize=initialize, presets=PRESETS)
