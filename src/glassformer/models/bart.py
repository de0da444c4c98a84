"""BART: an encoder-decoder that learned to restore damaged texts, and so to sum up, translate and rewrite them.

Lewis et al. 2019 (arXiv:1910.13461). The Transformer of `transformer.py` with GELU, learned positions in each half and
a norm of what is embedded. Next to read: `nn/block.py`, `nn/memory.py`, `inference/translate.py`.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import ModelSpec, check_choice, check_fraction, check_heads, check_sizes
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_bert
from glassformer.nn.kv_cache import Policy, Step, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything
from glassformer.nn.memory import DecoderState
from glassformer.nn.norm import LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class BartConfig:
    """Sizes and choices of a BART; the defaults are those of bart-base."""

    architecture: ClassVar[str] = "bart"

    vocab_size: int = 50265  # of sources and targets, which share one embedding, the head's matrix too
    context_length: int = 1024  # of the source, and of the target
    d_model: int = 768
    n_encoder_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 12
    d_ff: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1  # on embeddings, attention weights and sublayer outputs, while training
    scaled_embedding: bool = False  # embeddings are multiplied by √d_model
    start_id: int = 2  # the token before the first of a target
    first_id: int | None = None  # the token that every target begins with, where it is no choice of the model's
    eos_id: int = 2  # ends sources and targets
    pad_id: int = 1  # fills texts up to a common length

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_encoder_layers", "n_decoder_layers")
        check_sizes(self, "n_heads", "d_ff")
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "scaled_embedding", (True, False))
        check_fraction(self, "dropout")
        check_heads(self)
        for name in ("start_id", "first_id", "eos_id", "pad_id"):
            value = getattr(self, name)
            if name == "first_id" and value is None:
                continue
            if type(value) is not int or not 0 <= value < self.vocab_size:
                raise ConfigError(f"{name} must be a whole number from 0 to {self.vocab_size - 1}, not {value!r}.")


class Bart(nn.Module):
    """A source text and the beginning of its target to the logits of the target's next token."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.encoder = BartEncoder(config)
        self.decoder = BartDecoder(config)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        self.lm_head.weight = self.token_embedding.weight

    def begin(
        self, source: Int[Tensor, "B S"], policy: Policy, source_valid: Bool[Tensor, "B S"] | None = None
    ) -> DecoderState:
        """Encode the source, `source_valid` being False at padding; the decoder's own text is cached under a policy."""
        step = uncached(source, self.config.n_encoder_layers, source_valid, rule=Everything())
        memory = self.encoder(self.embed(source), step)
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
        x: Tensor = self.decoder(self.embed(tokens), step, state)
        return x

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(x)
        return logits

    def embed(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        """The vectors of tokens, scaled where the configuration asks for it."""
        vectors: Tensor = self.token_embedding(tokens)
        if self.config.scaled_embedding:
            vectors = vectors * math.sqrt(self.config.d_model)
        return vectors


class BartEncoder(nn.Module):
    """The source's vectors to the memory: every token looks at every other."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.embedding_norm = LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(encoder_block(config) for _ in range(config.n_encoder_layers))

    def forward(self, vectors: Float[Tensor, "*B S C"], step: Step) -> Float[Tensor, "*B S C"]:
        """The memory, from the vectors of the source's tokens."""
        embedded = vectors + self.position_embedding(step.places)
        x: Tensor = self.embedding_norm(embedded)
        x = self.dropout(x)
        for block, (mask, _) in zip(self.blocks, step.layers, strict=True):
            x = block(x, mask)
        return x


class BartDecoder(nn.Module):
    """The target's vectors to those from which the next tokens are read: a token looks at those before it and at the
    memory."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.embedding_norm = LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(decoder_block(config) for _ in range(config.n_decoder_layers))

    def forward(self, vectors: Float[Tensor, "*B T C"], step: Step, state: DecoderState) -> Float[Tensor, "*B T C"]:
        """The target's vectors after all blocks, from those of its tokens."""
        embedded = vectors + self.position_embedding(step.places)
        x: Tensor = self.embedding_norm(embedded)
        x = self.dropout(x)
        memory_mask = state.memory_mask(x.shape[-2])
        for block, (mask, cache), memory in zip(self.blocks, step.layers, state.memories, strict=True):
            x = block(x, mask, memory, memory_mask, cache=cache)
        return x


def encoder_block(config: BartConfig) -> Block:
    """One of the equal blocks of the encoder."""
    return Block(
        attn_norm=LayerNorm(config.d_model),
        attn=attention(config),
        mlp_norm=LayerNorm(config.d_model),
        mlp=MLP(config.d_model, config.d_ff, config.activation),
        norm_placement="post",
        dropout=config.dropout,
    )


def decoder_block(config: BartConfig) -> CrossBlock:
    """One of the equal blocks of the decoder."""
    return CrossBlock(
        attn_norm=LayerNorm(config.d_model),
        attn=attention(config),
        cross_norm=LayerNorm(config.d_model),
        cross_attn=attention(config),
        mlp_norm=LayerNorm(config.d_model),
        mlp=MLP(config.d_model, config.d_ff, config.activation),
        norm_placement="post",
        dropout=config.dropout,
    )


def attention(config: BartConfig) -> Attention:
    """Attention as every layer has it."""
    return Attention(config.d_model, config.n_heads, dropout=config.dropout)


LARGE = BartConfig(d_model=1024, n_encoder_layers=12, n_decoder_layers=12, n_heads=16, d_ff=4096)

PRESETS = {
    "bart-base": BartConfig(),
    "bart-large": LARGE,
    "bart-large-cnn": replace(LARGE, vocab_size=50264, first_id=0),  # sums up news
}

SPEC = ModelSpec(config=BartConfig, module=Bart, initialize=init_like_bert, presets=PRESETS, kind="encoder-decoder")
