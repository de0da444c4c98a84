"""GPT-2: a pre-norm decoder with learned positions and GELU.

Radford et al. 2019, "Language models are unsupervised multitask learners". The preset `nano-sort` is the model that
sorts six letters in Karpathy's minGPT. Next to read: `nn/block.py`, `nn/attention.py`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.models.spec import (
    ModelSpec,
    check_choice,
    check_fraction,
    check_heads,
    check_sizes,
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_gpt2
from glassformer.nn.kv_cache import KVCache, Policy, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.norm import LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class GPT2Config:
    """Sizes of a GPT-2; the defaults are those of the smallest published one."""

    architecture: ClassVar[str] = "gpt2"

    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 0  # 0: four times d_model
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training
    tied_head: bool = True
    inverse_layer_scale: bool = False  # scores of layer i, from 1 on, are divided by i, too

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff")
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "tied_head", (True, False))
        check_choice(self, "inverse_layer_scale", (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_heads(self)

    @property
    def d_head(self) -> int:
        """Features of a head."""
        return self.d_model // self.n_heads


class GPT2(nn.Module):
    """Tokens to the logits of the token after each."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config, layer) for layer in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model, eps=config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

    def begin(self, source: None, policy: Policy) -> KVCache:
        """An empty cache under a policy; a language model has no source text."""
        return KVCache(self.config.n_layers, policy)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token. `state` remembers earlier tokens and takes these in; `valid` is False at padding."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        step = uncached(tokens, len(self.blocks), valid) if state is None else state.step(tokens, valid)
        x: Tensor = self.token_embedding(tokens) + self.position_embedding(step.places)
        x = self.dropout(x)
        for block, (mask, cache) in zip(self.blocks, step.layers, strict=True):
            x = block(x, mask, cache=cache)
        x = self.final_norm(x)
        return x

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(x)
        return logits


def block(config: GPT2Config, layer: int) -> Block:
    """One of the n_layers blocks, which are equal but for the scale of their scores, where it goes by the layer."""
    scale = 1 / math.sqrt(config.d_head) / (layer + 1) if config.inverse_layer_scale else None
    return Block(
        attn_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        attn=Attention(config.d_model, config.n_heads, scale=scale, dropout=config.dropout),
        mlp_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        mlp=MLP(config.d_model, config.d_ff, config.activation),
        norm_placement="pre",
        dropout=config.dropout,
    )


PRESETS = {
    "nano-sort": GPT2Config(vocab_size=3, context_length=11, d_model=48, n_layers=3, n_heads=3, tied_head=False),
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(d_model=1024, n_layers=24, n_heads=16),
    "gpt2-large": GPT2Config(d_model=1280, n_layers=36, n_heads=20),
    "gpt2-xl": GPT2Config(d_model=1600, n_layers=48, n_heads=25),
}


SPEC = ModelSpec(
    config=GPT2Config,
    module=GPT2,
    initialize=lambda model, generator: init_like_gpt2(model, generator, n_layers=model.config.n_layers),
    presets=PRESETS,
)
