"""The Transformer: an encoder reads the source, a decoder writes the target and looks at what the encoder made of it.

Vaswani et al. 2017, "Attention is all you need" (arXiv:1706.03762). The configuration covers Marian's published
translators (opus-mt) and fairseq's (`checkpoints/formats/fairseq.py`). Next to read: `nn/block.py`, `nn/memory.py`,
`nn/position.py`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import (
    ModelSpec,
    check_choice,
    check_fraction,
    check_heads,
    check_sizes,
)
from glassformer.nn import init
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.kv_cache import Policy, Step, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything
from glassformer.nn.memory import DecoderState
from glassformer.nn.norm import LayerNorm
from glassformer.nn.position import Layout, sinusoidal

PROJECTIONS = {"q": "q", "k": "k", "v": "v", "o": "out"}  # ours: Hugging Face's


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of a Transformer; the defaults are those of the paper's base model."""

    architecture: ClassVar[str] = "transformer"

    vocab_size: int = 37000  # tokens of the target, and of the source where they share one vocabulary
    source_vocab_size: int | None = None  # None: source and target share vocabulary and embedding
    context_length: int = 1024  # the longest source and target; the sinusoids themselves go on without end
    d_model: int = 512
    n_encoder_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 8
    d_ff: int = 2048
    activation: str = "relu"
    norm_placement: Literal["post", "pre"] = "post"  # pre: with a norm at the end of encoder and decoder
    norm_eps: float = 1e-5
    dropout: float = 0.1  # on embeddings, attention weights and sublayer outputs, while training
    tied_head: bool = True  # the head's matrix is the target's embedding
    head_bias: bool = False
    scaled_embedding: bool = True  # embeddings are multiplied by √d_model
    position_layout: Layout = "interleaved"
    first_position: int = 0  # of the first token
    start_id: int = 2  # the token before the first of a target
    eos_id: int = 2  # ends sources and targets
    pad_id: int = 1  # fills texts up to a common length

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context_length", "d_model", "n_encoder_layers", "n_decoder_layers", "n_heads", "d_ff")
        check_sizes(self, *sizes)
        if self.source_vocab_size is not None:
            check_sizes(self, "source_vocab_size")
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "norm_placement", ("post", "pre"))
        check_choice(self, "position_layout", ("interleaved", "halves", "tensor2tensor"))
        for name in ("tied_head", "head_bias", "scaled_embedding"):
            check_choice(self, name, (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        in_both = min(self.vocab_size, self.source_vocab_size or self.vocab_size)
        for name, limit in {
            "first_position": 2**31,
            "start_id": self.vocab_size,
            "eos_id": in_both,
            "pad_id": in_both,
        }.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < limit:
                raise ConfigError(f"{name} must be a whole number from 0 to {limit - 1}, not {value!r}.")
        check_heads(self)
        if self.position_layout == "tensor2tensor" and (self.d_model % 2 or self.d_model < 4):
            raise ConfigError(f'position_layout "tensor2tensor" needs an even d_model from 4 on, not {self.d_model}.')


class Transformer(nn.Module):
    """A source text and the beginning of its target to the logits of the target's next token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.source_embedding = (
            Embedding(config.source_vocab_size, config.d_model) if config.source_vocab_size else self.token_embedding
        )
        self.dropout = Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

    def begin(
        self, source: Int[Tensor, "B S"], policy: Policy, source_valid: Bool[Tensor, "B S"] | None = None
    ) -> DecoderState:
        """Encode the source, `source_valid` being False at padding; the decoder's own text is cached under a policy."""
        step = uncached(source, self.config.n_encoder_layers, source_valid, rule=Everything())
        x = self.embed(self.source_embedding(source), step.places)
        memory = self.encoder(x, step)
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
        x: Tensor = self.embed(self.token_embedding(tokens), step.places)
        x = self.decoder(x, step, state)
        return x

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(x)
        return logits

    def embed(self, vectors: Float[Tensor, "*B T C"], places: Int[Tensor, "*P T"]) -> Float[Tensor, "*B T C"]:
        """Embedded tokens, scaled, and where they stand (§3.4 and §3.5)."""
        config = self.config
        if config.scaled_embedding:
            vectors = vectors * math.sqrt(config.d_model)
        positions = sinusoidal(places + config.first_position, config.d_model, config.position_layout)
        x: Tensor = self.dropout(vectors + positions.to(vectors.dtype))
        return x


def initialize(model: Transformer, generator: torch.Generator | None) -> None:
    """Layers as their classes say, and tables of tokens so that their scaled rows have unit variance."""
    for part in (model.encoder, model.decoder, model.lm_head):
        init.initialize(part, generator)
    for table in dict.fromkeys((model.token_embedding, model.source_embedding)):
        init.normal(table.weight, model.config.d_model**-0.5, generator)


class Encoder(nn.Module):
    """The source's vectors to the memory: every token looks at every other."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(
                attn_norm=norm(config),
                attn=attention(config),
                mlp_norm=norm(config),
                mlp=MLP(config.d_model, config.d_ff, config.activation),
                norm_placement=config.norm_placement,
                dropout=config.dropout,
            )
            for _ in range(config.n_encoder_layers)
        )
        self.final_norm = norm(config) if config.norm_placement == "pre" else nn.Identity()

    def forward(self, x: Float[Tensor, "B S C"], step: Step) -> Float[Tensor, "B S C"]:
        """The memory, from the source's vectors."""
        for block, (mask, _) in zip(self.blocks, step.layers, strict=True):
            x = block(x, mask)
        memory: Tensor = self.final_norm(x)
        return memory


class Decoder(nn.Module):
    """The target's vectors to those from which the next tokens are read: a token looks at those before it and at the
    memory."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            CrossBlock(
                attn_norm=norm(config),
                attn=attention(config),
                cross_norm=norm(config),
                cross_attn=attention(config),
                mlp_norm=norm(config),
                mlp=MLP(config.d_model, config.d_ff, config.activation),
                norm_placement=config.norm_placement,
                dropout=config.dropout,
            )
            for _ in range(config.n_decoder_layers)
        )
        self.final_norm = norm(config) if config.norm_placement == "pre" else nn.Identity()

    def forward(self, x: Float[Tensor, "B T C"], step: Step, state: DecoderState) -> Float[Tensor, "B T C"]:
        """The target's vectors after all blocks, and after the last norm where there is one."""
        memory_mask = state.memory_mask(x.shape[-2])
        for block, (mask, cache), memory in zip(self.blocks, step.layers, state.memories, strict=True):
            x = block(x, mask, memory, memory_mask, cache=cache)
        x = self.final_norm(x)
        return x


def attention(config: TransformerConfig) -> Attention:
    """Attention as every layer has it."""
    return Attention(config.d_model, config.n_heads, dropout=config.dropout)


def norm(config: TransformerConfig) -> LayerNorm:
    """The norm as every layer has it."""
    return LayerNorm(config.d_model, eps=config.norm_eps)


PRESETS = {
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(d_model=1024, n_heads=16, d_ff=4096, dropout=0.3),
    "transformer-small": TransformerConfig(  # 8.1 million parameters: for a corpus such as Multi30k
        vocab_size=10_000,
        context_length=256,
        d_model=256,
        n_encoder_layers=3,
        n_decoder_layers=3,
        n_heads=4,
        d_ff=1024,
        norm_placement="pre",
    ),
    "opus-mt": TransformerConfig(  # opus-mt-en-de of Tiedemann & Thottingal 2020, trained with Marian
        vocab_size=58101,
        context_length=512,
        activation="silu",
        head_bias=True,
        position_layout="halves",
        start_id=58100,
        eos_id=0,
        pad_id=58100,
    ),
}


SPEC = ModelSpec(
    config=TransformerConfig,
    module=Transformer,
    initialize=initialize,
    presets=PRESETS,
    kind="encoder-decoder",
)
