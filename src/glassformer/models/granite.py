"""Granite: a Llama in which vectors, scores, what sublayers add and logits are each multiplied by a constant.

The constants let settings that were found on small models serve large ones (µP; Yang et al. 2022, arXiv:2203.03466).
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from glassformer.models.decoder import Decoder, DecoderConfig, block, initialize
from glassformer.models.spec import ModelSpec, check_positive
from glassformer.nn.block import Block
from glassformer.nn.linear import Linear, ScaledLinear

CONSTANTS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraniteConfig(DecoderConfig):
    """Sizes and choices of a Granite; the defaults are those of Granite 3.0 with 8 billion parameters."""

    architecture: ClassVar[str] = "granite"

    vocab_size: int = 49155
    context_length: int = 4096
    n_layers: int = 40
    n_kv_heads: int = 8
    d_ff: int = 12800
    tied_head: bool = True
    embedding_multiplier: float = 12.0
    attention_multiplier: float = 1 / 128  # of scores, in the place of 1 / √d_head
    residual_multiplier: float = 0.22  # of what a sublayer adds to the stream
    logits_scaling: float = 16.0  # by which logits are divided

    def __post_init__(self) -> None:
        DecoderConfig.__post_init__(self)
        for name in CONSTANTS:
            check_positive(self, name)


class Granite(Decoder):
    """Tokens to the logits of the token after each."""

    config: GraniteConfig

    def new_block(self, layer: int) -> Block:
        """One of the n_layers blocks."""
        config = self.config
        return block(config, score_scale=config.attention_multiplier, residual_multiplier=config.residual_multiplier)

    def new_head(self) -> Linear:
        """From the last vector of each token to its logits."""
        return ScaledLinear(self.config.d_model, self.config.vocab_size, self.config.logits_scaling)

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """The vectors that the first block reads."""
        x: Tensor = self.token_embedding(tokens) * self.config.embedding_multiplier
        return x


PRESETS = {
    "granite-3.0-2b": GraniteConfig(d_model=2048, d_ff=8192, attention_multiplier=1 / 64, logits_scaling=8.0),
    "granite-3.0-8b": GraniteConfig(),
}

SPEC = ModelSpec(config=GraniteConfig, module=Granite, initialize=initialize, presets=PRESETS)
