"""Llama: the modern decoder, with RMSNorm, rotary positions, grouped queries and SwiGLU.

Touvron et al. 2023 (arXiv:2302.13971), Grattafiori et al. 2024 for Llama 3 (arXiv:2407.21783). The language model of
the CS336 course is the same architecture with interleaved rotary pairs; the course's ablations are fields of the
configuration. Next to read: `nn/rope.py`, `nn/feedforward.py`.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import (
    ModelSpec,
    check_choice,
    check_fraction,
    check_sizes,
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import MLP, SwiGLU
from glassformer.nn.init import init_like_gpt2
from glassformer.nn.kv_cache import KVCache, Policy, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.norm import Dropout, RMSNorm
from glassformer.nn.rope import RoPE, RopeScaling, Style


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Sizes and choices of a Llama; the defaults are those of Llama 1 with 7 billion parameters."""

    architecture: ClassVar[str] = "llama"

    vocab_size: int = 32000
    context_length: int = 2048
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int = 0  # 0: as many as n_heads
    d_head: int = 0  # 0: d_model / n_heads
    d_ff: int = 11008
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_style: Style = "half"
    rope_scaling: RopeScaling | None = None
    tied_head: bool = False
    dropout: float = 0.0  # on attention weights and sublayer outputs, while training; published models have none
    norm_placement: Literal["pre", "post", "none"] = "pre"  # the others are ablations
    ffn: Literal["swiglu", "silu"] = "swiglu"
    position: Literal["rope", "none"] = "rope"

    def __post_init__(self) -> None:
        if self.n_kv_heads == 0:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff")
        if self.d_head == 0:
            if self.d_model % self.n_heads:
                raise ConfigError(f"d_model {self.d_model} does not divide into {self.n_heads} heads; set d_head.")
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        check_sizes(self, "d_head")
        check_choice(self, "tied_head", (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_choice(self, "rope_style", ("half", "interleaved"))
        check_choice(self, "norm_placement", ("pre", "post", "none"))
        check_choice(self, "ffn", ("swiglu", "silu"))
        check_choice(self, "position", ("rope", "none"))
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}.")
        if self.position == "rope" and self.d_head % 2:
            raise ConfigError(f"Rotary positions turn pairs of features, so d_head must be even, not {self.d_head}.")
        if not isinstance(self.rope_theta, int | float) or not 0 < self.rope_theta <= sys.float_info.max:
            raise ConfigError(f"rope_theta must be a positive number, not {self.rope_theta!r}.")


class Llama(nn.Module):
    """Tokens to the logits of the token after each."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.rope = (
            RoPE(d_head=config.d_head, theta=config.rope_theta, style=config.rope_style, scaling=config.rope_scaling)
            if config.position == "rope"
            else None
        )
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_layers))
        self.final_norm = norm(config)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

    def begin(self, source: None, policy: Policy) -> KVCache:
        """An empty cache under a policy; a language model has no source text."""
        return KVCache(self.config.n_layers, policy, self.rope)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token. `state` remembers earlier tokens and takes these in; `valid` is False at padding."""
        step = uncached(tokens, len(self.blocks), valid) if state is None else state.step(tokens, valid)
        rotation = None if self.rope is None else self.rope(step.positions.unsqueeze(-2))  # one axis for the heads
        x = self.token_embedding(tokens)
        x = self.dropout(x)
        for block, (mask, cache) in zip(self.blocks, step.layers, strict=True):
            x = block(x, mask, rotation=rotation, cache=cache)
        x = self.final_norm(x)
        logits: Tensor = self.lm_head(x)
        return logits


def block(config: LlamaConfig) -> Block:
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


def norm(config: LlamaConfig) -> nn.Module:
    """RMSNorm, or nothing in the ablation without."""
    return nn.Identity() if config.norm_placement == "none" else RMSNorm(config.d_model, eps=config.norm_eps)


_LLAMA_3 = LlamaConfig(
    vocab_size=128256, context_length=8192, n_kv_heads=8, d_ff=14336, rope_theta=500_000.0
)  # fmt: skip


def _llama_3_1(factor: float, **sizes: Any) -> LlamaConfig:
    scaling = RopeScaling(kind="llama3", factor=factor)
    fixed = {"vocab_size": 128256, "context_length": 131072, "n_kv_heads": 8, "rope_theta": 500_000.0}
    return LlamaConfig(rope_scaling=scaling, **{**fixed, **sizes})


PRESETS = {
    "llama-7b": LlamaConfig(norm_eps=1e-6),
    "llama-13b": LlamaConfig(d_model=5120, n_layers=40, n_heads=40, d_ff=13824, norm_eps=1e-6),
    "llama-2-7b": LlamaConfig(context_length=4096),
    "llama-2-13b": LlamaConfig(context_length=4096, d_model=5120, n_layers=40, n_heads=40, d_ff=13824),
    "llama-2-70b": LlamaConfig(context_length=4096, d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28672),
    "llama-3-8b": _LLAMA_3,
    "llama-3.1-8b": _llama_3_1(8.0, d_ff=14336),
    "llama-3.1-70b": _llama_3_1(8.0, d_model=8192, n_layers=80, n_heads=64, d_ff=28672),
    "llama-3.2-1b": _llama_3_1(32.0, d_model=2048, n_layers=16, d_ff=8192, tied_head=True),
    "llama-3.2-3b": _llama_3_1(32.0, d_model=3072, n_layers=28, n_heads=24, d_ff=8192, tied_head=True),
    "cs336": LlamaConfig(  # the course's base model for TinyStories: 22.7 million parameters
        vocab_size=10_000, context_length=256, d_model=512, n_layers=4, n_heads=16, d_ff=1344, rope_style="interleaved"
    ),
}


SPEC = ModelSpec(
    config=LlamaConfig,
    module=Llama,
    initialize=lambda model, generator: init_like_gpt2(model, generator, n_layers=model.config.n_layers),
    presets=PRESETS,
)
