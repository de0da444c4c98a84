"""T5: an encoder-decoder that does every task as text to text, and knows of positions only how far apart they are.

Raffel et al. 2019 (arXiv:1910.10683). Pre-norm with RMSNorm, no bias in any layer, and scores that are not divided by
√D: its initialisation does that. One table of distances serves all layers of a half (§2.1). Version 1.1 has a gated
feed-forward network and a head of its own. Next to read: `nn/position_bias.py`, `nn/memory.py`.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import ModelSpec, check_choice, check_fraction, check_sizes
from glassformer.nn import init
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import MLP, GeGLU, SwiGLU
from glassformer.nn.kv_cache import Policy, Step, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything
from glassformer.nn.memory import DecoderState
from glassformer.nn.norm import RMSNorm
from glassformer.nn.position_bias import RelativePositionBias

FFN = Literal["relu", "gelu", "gelu_tanh", "silu", "geglu", "swiglu"]  # the last two are gated


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Config:
    """Sizes and choices of a T5; the defaults are those of t5-small.

    Texts of any length are read; context_length limits those that it is trained on.
    """

    architecture: ClassVar[str] = "t5"
    relative_positions: ClassVar[bool] = True

    vocab_size: int = 32128  # of sources and targets, which share one embedding
    context_length: int = 512  # the longest source and target, as in training
    d_model: int = 512
    n_encoder_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 8
    d_head: int = 64  # whatever d_model is
    d_ff: int = 2048
    ffn: FFN = "relu"
    n_buckets: int = 32  # of distances
    max_distance: int = 128  # from here on all distances are one
    norm_eps: float = 1e-6
    dropout: float = 0.1  # on embeddings, attention weights and sublayer outputs, while training
    tied_head: bool = True  # the head's matrix is the embedding, and what it reads is divided by √d_model
    start_id: int = 0  # the token before the first of a target
    eos_id: int = 1  # ends sources and targets
    pad_id: int = 0  # fills texts up to a common length

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_encoder_layers", "n_decoder_layers")
        check_sizes(self, "n_heads", "d_head", "d_ff", "n_buckets", "max_distance")
        check_choice(self, "ffn", ("relu", "gelu", "gelu_tanh", "silu", "geglu", "swiglu"))
        check_choice(self, "tied_head", (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        if self.n_buckets < 4 or self.max_distance <= self.n_buckets // 2:
            raise ConfigError(
                f"n_buckets must be at least 4, and half of them less than max_distance: not {self.n_buckets} for "
                f"distances up to {self.max_distance}."
            )
        for name in ("start_id", "eos_id", "pad_id"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < self.vocab_size:
                raise ConfigError(f"{name} must be a whole number from 0 to {self.vocab_size - 1}, not {value!r}.")


class T5(nn.Module):
    """A source text and the beginning of its target to the logits of the target's next token."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Encoder(config)
        self.decoder = T5Decoder(config)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

    def begin(
        self, source: Int[Tensor, "B S"], policy: Policy, source_valid: Bool[Tensor, "B S"] | None = None
    ) -> DecoderState:
        """Encode the source, `source_valid` being False at padding; the decoder's own text is cached under a policy."""
        step = uncached(source, self.config.n_encoder_layers, source_valid, rule=Everything())
        memory = self.encoder(self.token_embedding(source), step)
        return DecoderState(memory, self.config.n_decoder_layers, policy, source_valid)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each target token. `state` has the source and earlier tokens; `valid` is False at padding."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        step = state.step(tokens, valid)
        x: Tensor = self.decoder(self.token_embedding(tokens), step, state)
        return x

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        scaled = x / math.sqrt(self.config.d_model) if self.config.tied_head else x
        logits: Tensor = self.lm_head(scaled)
        return logits


class T5Encoder(nn.Module):
    """The source's vectors to the memory: every token looks at every other."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.position_bias = position_bias(config, bidirectional=True)
        self.blocks = nn.ModuleList(encoder_block(config) for _ in range(config.n_encoder_layers))
        self.final_norm = norm(config)

    def forward(self, vectors: Float[Tensor, "*B S C"], step: Step) -> Float[Tensor, "*B S C"]:
        """The memory, from the vectors of the source's tokens."""
        x: Tensor = self.dropout(vectors)
        position_bias = self.position_bias(step.layers[0].mask)
        for block, (mask, _) in zip(self.blocks, step.layers, strict=True):
            x = block(x, mask, position_bias=position_bias)
        x = self.final_norm(x)
        memory: Tensor = self.dropout(x)
        return memory


class T5Decoder(nn.Module):
    """The target's vectors to those from which the next tokens are read: a token looks at those before it and, wherever
    they stand, at the source's."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.position_bias = position_bias(config, bidirectional=False)
        self.blocks = nn.ModuleList(decoder_block(config) for _ in range(config.n_decoder_layers))
        self.final_norm = norm(config)

    def forward(self, vectors: Float[Tensor, "*B T C"], step: Step, state: DecoderState) -> Float[Tensor, "*B T C"]:
        """The target's vectors after all blocks and the last norm, from those of its tokens."""
        x: Tensor = self.dropout(vectors)
        position_bias = self.position_bias(step.layers[0].mask)
        memory_mask = state.memory_mask(x.shape[-2])
        for block, (mask, cache), memory in zip(self.blocks, step.layers, state.memories, strict=True):
            x = block(x, mask, memory, memory_mask, cache=cache, position_bias=position_bias)
        x = self.final_norm(x)
        x = self.dropout(x)
        return x


def encoder_block(config: T5Config) -> Block:
    """One of the equal blocks of the encoder."""
    return Block(
        attn_norm=norm(config),
        attn=attention(config),
        mlp_norm=norm(config),
        mlp=feed_forward(config),
        norm_placement="pre",
        dropout=config.dropout,
    )


def decoder_block(config: T5Config) -> CrossBlock:
    """One of the equal blocks of the decoder."""
    return CrossBlock(
        attn_norm=norm(config),
        attn=attention(config),
        cross_norm=norm(config),
        cross_attn=attention(config),
        mlp_norm=norm(config),
        mlp=feed_forward(config),
        norm_placement="pre",
        dropout=config.dropout,
    )


def attention(config: T5Config) -> Attention:
    """Attention as every layer has it."""
    return Attention(
        config.d_model, config.n_heads, d_head=config.d_head, bias=False, scale=1.0, dropout=config.dropout
    )


def feed_forward(config: T5Config) -> nn.Module:
    """The feed-forward network that the configuration names."""
    if config.ffn == "geglu":
        return GeGLU(config.d_model, config.d_ff)
    if config.ffn == "swiglu":
        return SwiGLU(config.d_model, config.d_ff)
    return MLP(config.d_model, config.d_ff, config.ffn, bias=False)


def norm(config: T5Config) -> RMSNorm:
    """The norm as every layer has it."""
    return RMSNorm(config.d_model, eps=config.norm_eps)


def position_bias(config: T5Config, *, bidirectional: bool) -> RelativePositionBias:
    """The table of distances of one half."""
    return RelativePositionBias(
        config.n_heads, n_buckets=config.n_buckets, max_distance=config.max_distance, bidirectional=bidirectional
    )


def initialize(model: T5, generator: torch.Generator | None) -> None:
    """Sums of unit variance everywhere: a matrix of n inputs from N(0, 1 / n), queries' from N(0, 1 / (n · d_head)),
    in place of the scores' division by √d_head; the embedding from N(0, 1)."""
    config = model.config
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            init.constant(parameter, 1.0)
        elif name == "token_embedding.weight":
            init.normal(parameter, 1.0, generator)
        elif name.endswith("position_bias.weight"):
            init.normal(parameter, config.d_model**-0.5, generator)
        else:
            n = parameter.shape[1] * (config.d_head if name.endswith("q_proj.weight") else 1)
            init.normal(parameter, n**-0.5, generator)


SMALL = T5Config()
BASE = replace(SMALL, d_model=768, n_encoder_layers=12, n_decoder_layers=12, n_heads=12, d_ff=3072)
LARGE = replace(SMALL, d_model=1024, n_encoder_layers=24, n_decoder_layers=24, n_heads=16, d_ff=4096)

PRESETS = {
    "t5-small": SMALL,
    "t5-base": BASE,
    "t5-large": LARGE,
    "t5-v1.1-small": replace(
        SMALL, n_encoder_layers=8, n_decoder_layers=8, n_heads=6, d_ff=1024, ffn="geglu", tied_head=False
    ),
    "t5-v1.1-base": replace(BASE, d_ff=2048, ffn="geglu", tied_head=False),  # and flan-t5-base
    "t5-v1.1-large": replace(LARGE, d_ff=2816, ffn="geglu", tied_head=False),
}

SPEC = ModelSpec(config=T5Config, module=T5, initialize=initialize, presets=PRESETS, kind="encoder-decoder")
