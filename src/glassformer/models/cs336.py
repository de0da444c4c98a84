"""The language model of Stanford's CS336, assignment 1, and the course's ablations of it.

A Llama with interleaved rotary pairs; an ablation changes where the norms are, takes the gate or the positions away.
Without one it is written as a Llama, whose page is `llama.py`. Next to read: `decoder.py`, what the modern ones share.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from glassformer.models.decoder import Decoder, DecoderSettings, check_decoder, initialize
from glassformer.models.spec import ModelSpec, check_choice
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.feedforward import MLP, SwiGLU
from glassformer.nn.norm import RMSNorm
from glassformer.nn.rope import RoPE, RopeScaling, Style


@dataclass(frozen=True, slots=True, kw_only=True)
class CS336Config(DecoderSettings):
    """Sizes and choices; the defaults are the course's base model for TinyStories, with 22.7 million parameters."""

    architecture: ClassVar[str] = "cs336"

    vocab_size: int = 10_000
    context_length: int = 256
    d_model: int = 512
    n_layers: int = 4
    n_heads: int = 16
    n_kv_heads: int = 0  # 0: as many as n_heads
    d_head: int = 0  # 0: d_model / n_heads
    d_ff: int = 1344
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_style: Style = "interleaved"
    rope_scaling: RopeScaling | None = None
    tied_head: bool = False
    dropout: float = 0.0  # on attention weights and sublayer outputs, while training
    norm_placement: Literal["pre", "post", "none"] = "pre"  # the others are ablations
    ffn: Literal["swiglu", "silu"] = "swiglu"
    position: Literal["rope", "none"] = "rope"

    def __post_init__(self) -> None:
        check_decoder(self, rotary=self.position == "rope")
        check_choice(self, "norm_placement", ("pre", "post", "none"))
        check_choice(self, "ffn", ("swiglu", "silu"))
        check_choice(self, "position", ("rope", "none"))

    def rope(self) -> RoPE | None:
        """From positions to rotations, but in the ablation without."""
        if self.position == "none":
            return None
        return RoPE(d_head=self.d_head, theta=self.rope_theta, style=self.rope_style, scaling=self.rope_scaling)

    @property
    def rotated(self) -> tuple[bool, ...]:
        """Whether a layer turns queries and keys by their positions: all do, or none."""
        return (self.position == "rope",) * self.n_layers


class CS336(Decoder):
    """Tokens to the logits of the token after each."""

    config: CS336Config

    def new_block(self, layer: int) -> Block:
        """One of the n_layers equal blocks."""
        return block(self.config)

    def new_norm(self) -> nn.Module:
        """The norm behind the last block."""
        return norm(self.config)


def block(config: CS336Config) -> Block:
    """One of the n_layers equal blocks."""
    return Block(
        attn_norm=norm(config),
        attn=Attention(
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            d_head=config.d_head,
            bias=False,
            dropout=config.dropout,
        ),
        mlp_norm=norm(config),
        mlp=(
            SwiGLU(config.d_model, config.d_ff)
            if config.ffn == "swiglu"
            else MLP(config.d_model, config.d_ff, "silu", bias=False)
        ),
        norm_placement="post" if config.norm_placement == "post" else "pre",
        dropout=config.dropout,
    )


def norm(config: CS336Config) -> nn.Module:
    """RMSNorm, or nothing in the ablation without."""
    return nn.Identity() if config.norm_placement == "none" else RMSNorm(config.d_model, eps=config.norm_eps)


PRESETS = {"cs336": CS336Config()}

SPEC = ModelSpec(config=CS336Config, module=CS336, initialize=initialize, presets=PRESETS)
