"""GPT-NeoX, of which Pythia is a series: attention and the feed-forward network read the stream side by side.

Black et al. 2022 (arXiv:2204.06745), §2.1; Biderman et al. 2023 (arXiv:2304.01373) for Pythia. Layer norms and biases
as GPT-2 has them, and rotary positions that turn a quarter of each head. Next to read: `nn/block.py`, `nn/rope.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.decoder import Decoder, DecoderSettings, initialize
from glassformer.models.spec import ModelSpec, check_choice, check_fraction, check_heads, check_positive, check_sizes
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, ParallelBlock
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.norm import LayerNorm
from glassformer.nn.rope import RoPE, RopeScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTNeoXConfig(DecoderSettings):
    """Sizes and choices of a GPT-NeoX; the defaults are those of the model with 20 billion parameters."""

    architecture: ClassVar[str] = "gpt_neox"

    vocab_size: int = 50432
    context_length: int = 2048
    d_model: int = 6144
    n_layers: int = 44
    n_heads: int = 64
    d_ff: int = 0  # 0: four times d_model
    activation: str = "gelu"
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    d_rotary: int = 0  # features of a head that turn, the first ones; 0: a quarter
    parallel: bool = True  # attention and the feed-forward network read the same stream, not one after the other
    attn_bias: bool = True
    tied_head: bool = False
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff")
        check_heads(self)
        if self.d_rotary == 0:
            object.__setattr__(self, "d_rotary", self.d_head // 4)
        check_sizes(self, "d_rotary")
        check_choice(self, "activation", tuple(ACTIVATIONS))
        for name in ("parallel", "attn_bias", "tied_head"):
            check_choice(self, name, (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_positive(self, "rope_theta")
        self.rope()

    @property
    def d_head(self) -> int:
        """Features of a head."""
        return self.d_model // self.n_heads

    def rope(self) -> RoPE:
        """From positions to rotations; raises for what no head of this size can have."""
        return RoPE(d_head=self.d_head, d_rotary=self.d_rotary, theta=self.rope_theta, scaling=self.rope_scaling)


class GPTNeoX(Decoder):
    """Tokens to the logits of the token after each."""

    config: GPTNeoXConfig

    def new_block(self, layer: int) -> Block:
        """One of the n_layers equal blocks."""
        config = self.config
        return (ParallelBlock if config.parallel else Block)(
            attn_norm=LayerNorm(config.d_model, eps=config.norm_eps),
            attn=Attention(config.d_model, config.n_heads, bias=config.attn_bias, dropout=config.dropout),
            mlp_norm=LayerNorm(config.d_model, eps=config.norm_eps),
            mlp=MLP(config.d_model, config.d_ff, config.activation),
            norm_placement="pre",
            dropout=config.dropout,
        )

    def new_norm(self) -> LayerNorm:
        """The norm behind the last block."""
        return LayerNorm(self.config.d_model, eps=self.config.norm_eps)


PRESETS = {
    "pythia-70m": GPTNeoXConfig(vocab_size=50304, d_model=512, n_layers=6, n_heads=8),
    "pythia-160m": GPTNeoXConfig(vocab_size=50304, d_model=768, n_layers=12, n_heads=12),
    "pythia-410m": GPTNeoXConfig(vocab_size=50304, d_model=1024, n_layers=24, n_heads=16),
    "pythia-1b": GPTNeoXConfig(vocab_size=50304, d_model=2048, n_layers=16, n_heads=8),
    "pythia-1.4b": GPTNeoXConfig(vocab_size=50304, d_model=2048, n_layers=24, n_heads=16),
    "pythia-2.8b": GPTNeoXConfig(vocab_size=50304, d_model=2560, n_layers=32, n_heads=32),
    "pythia-6.9b": GPTNeoXConfig(d_model=4096, n_layers=32, n_heads=32),
    "pythia-12b": GPTNeoXConfig(vocab_size=50688, d_model=5120, n_layers=36, n_heads=40),
    "gpt-neox-20b": GPTNeoXConfig(activation="gelu_tanh"),
}

SPEC = ModelSpec(config=GPTNeoXConfig, module=GPTNeoX, initialize=initialize, presets=PRESETS)
