"""The Transformer: an encoder reads the source, a decoder writes the target and looks at what the encoder made of it.

Vaswani et al. 2017, "Attention is all you need" (arXiv:1706.03762). The configuration covers Marian's published
translators (opus-mt) and fairseq's (`checkpoints/formats/fairseq.py`). Next to read: `nn/block.py`, `nn/memory.py`,
`nn/position.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from glassformer.models.spec import (
    ACTIVATION_NAMES,
    ModelSpec,
    Rename,
    check_choice,
    check_fraction,
    check_heads,
    check_settings,
    check_sizes,
    read_activation,
    same,
    zeros,
)
from glassformer.nn import init
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import MLP
from glassformer.nn.kv_cache import Policy, Step, uncached
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything
from glassformer.nn.memory import DecoderState
from glassformer.nn.norm import Dropout, LayerNorm
from glassformer.nn.position import Layout, sinusoidal

PROJECTIONS = {"q": "q", "k": "k", "v": "v", "o": "out"}  # ours: Hugging Face's


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of a Transformer; the defaults are those of the paper's base model."""

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
        check_choice(self, "activation", tuple(ACTIVATION_NAMES))
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
        step = state.step(tokens, valid)
        x = self.embed(self.token_embedding(tokens), step.places)
        x = self.decoder(x, step, state)
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


def from_huggingface(config: Mapping[str, Any]) -> TransformerConfig:
    """Read a config.json of Marian's. Of its dropouts the one of sublayers is taken, since ours are one."""
    check_settings(
        config,
        {
            "normalize_before": False,
            "normalize_embedding": False,
            "add_final_layer_norm": False,
            "static_position_embeddings": True,
        },
    )
    for name, default in {"attention_heads": 16, "ffn_dim": 4096}.items():
        one, other = config.get(f"encoder_{name}", default), config.get(f"decoder_{name}", default)
        if one != other:
            raise ConfigError(
                f"config.json: encoder_{name} and decoder_{name} must be equal, not {one!r} and {other!r}."
            )
    shared, tied = config.get("share_encoder_decoder_embeddings", True), config.get("tie_word_embeddings", True)
    if type(shared) is not bool:
        raise ConfigError(f"config.json: share_encoder_decoder_embeddings must be true or false, not {shared!r}.")
    if shared and not tied:
        raise ConfigError(
            "config.json: share_encoder_decoder_embeddings without tie_word_embeddings is not supported; versions of "
            "`transformers` disagree about what it means."
        )
    vocab_size = config.get("vocab_size", 58101)
    if vocab_size is None:
        raise ConfigError("config.json: vocab_size must be a whole number, not null.")
    settings = {
        "vocab_size": vocab_size if shared else config.get("decoder_vocab_size") or vocab_size,
        "source_vocab_size": None if shared else vocab_size,
        "context_length": config.get("max_position_embeddings", 1024),
        "d_model": config.get("d_model", 1024),
        "n_encoder_layers": config.get("encoder_layers", 12),
        "n_decoder_layers": config.get("decoder_layers", 12),
        "n_heads": config.get("encoder_attention_heads", 16),
        "d_ff": config.get("encoder_ffn_dim", 4096),
        "activation": read_activation(config, "activation_function", "gelu"),
        "dropout": config.get("dropout", 0.1),
        "tied_head": tied,
        "head_bias": True,
        "scaled_embedding": config.get("scale_embedding", False),
        "position_layout": "halves",
        "start_id": config.get("decoder_start_token_id", 58100),
        "eos_id": config.get("eos_token_id", 0),
        "pad_id": config.get("pad_token_id", 58100),
    }
    return from_mapping(TransformerConfig, settings)


def to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """The config.json of Marian's that `transformers` builds the same model from; see `renames` for what differs."""
    for name, only in {"norm_placement": "post", "norm_eps": 1e-5, "first_position": 0}.items():
        if getattr(config, name) != only:
            raise ExportError(
                f"Hugging Face's Marian cannot express {name} = {getattr(config, name)!r}; it always has {only!r}."
            )
    if config.position_layout == "tensor2tensor":
        raise ExportError("Hugging Face's Marian cannot express the wavelengths of position_layout = 'tensor2tensor'.")
    shared = config.source_vocab_size is None
    if shared and not config.tied_head:
        raise ExportError("Hugging Face's Marian cannot express one vocabulary for both texts with an untied head.")
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": config.source_vocab_size or config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "share_encoder_decoder_embeddings": shared,
        "max_position_embeddings": config.context_length,
        "d_model": config.d_model,
        "encoder_layers": config.n_encoder_layers,
        "decoder_layers": config.n_decoder_layers,
        "encoder_attention_heads": config.n_heads,
        "decoder_attention_heads": config.n_heads,
        "encoder_ffn_dim": config.d_ff,
        "decoder_ffn_dim": config.d_ff,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "scale_embedding": config.scaled_embedding,
        "tie_word_embeddings": config.tied_head,
        "decoder_start_token_id": config.start_id,
        "bos_token_id": None,
        "eos_token_id": config.eos_id,
        "forced_eos_token_id": None,
        "pad_token_id": config.pad_id,
    }


def renames(config: TransformerConfig) -> Sequence[Rename]:
    """Marian's names in Hugging Face's format, which are fairseq's behind `model.`.

    Marian has all sines of a position before all cosines, and the paper by turns: the same model in another order of
    the features, which every tensor that meets them follows. Marian's head always has a bias, which may be zero.
    """
    rules = native_renames(config)
    if config.position_layout == "interleaved":
        rules = [in_halves(rule, config.d_model) for rule in rules]
    if not config.head_bias:
        rules.append(zeros("final_logits_bias", (1, config.vocab_size)))
    return rules


def in_halves(rule: Rename, d_model: int) -> Rename:
    """The same tensor with its features in another order: those at even places first, where it has features at all."""
    order = torch.cat([torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)])
    back = order.argsort()
    axes = [axis for part, axis in FEATURES.items() if part in rule.ours[0]]
    if not axes:
        return rule
    axis = axes[0]
    if axis == -1 and rule.ours[0].endswith(".bias"):  # it adds to what the weights make of the features
        return rule

    def read(tensor: Tensor) -> Sequence[Tensor]:
        return [part.index_select(axis, back.to(part.device)) for part in rule.read(tensor)]

    def write(tensors: Sequence[Tensor]) -> Tensor:
        return rule.write([part.index_select(axis, order.to(part.device)) for part in tensors])

    return replace(rule, read=read, write=write)


FEATURES = {  # the axis along which a parameter has the features of a position
    **{f"{name}_proj.": -1 for name in ("q", "k", "v", "up")},
    **{f"{name}_proj.": 0 for name in ("o", "down")},
    "norm.": 0,
    "embedding.": -1,
    "lm_head.": -1,
}


def native_renames(config: TransformerConfig) -> list[Rename]:
    """The same names for the parameters as they are here."""
    parts = {
        **{f"attn.{ours}_proj": f"self_attn.{theirs}_proj" for ours, theirs in PROJECTIONS.items()},
        "attn_norm": "self_attn_layer_norm",
        "mlp.up_proj": "fc1",
        "mlp.down_proj": "fc2",
        "mlp_norm": "final_layer_norm",
    }
    cross = {
        **{f"cross_attn.{ours}_proj": f"encoder_attn.{theirs}_proj" for ours, theirs in PROJECTIONS.items()},
        "cross_norm": "encoder_attn_layer_norm",
    }
    rules = [
        same(f"{side}.blocks.{{}}.{ours}.{kind}", f"model.{side}.layers.{{}}.{theirs}.{kind}", f"n_{side}_layers")
        for side, named in {"encoder": parts, "decoder": parts | cross}.items()
        for ours, theirs in named.items()
        for kind in ("weight", "bias")
    ]
    if config.norm_placement == "pre":  # as fairseq has them; Marian's models are post-norm
        rules += [
            same(f"{side}.final_norm.{kind}", f"model.{side}.layer_norm.{kind}")
            for side in ("encoder", "decoder")
            for kind in ("weight", "bias")
        ]
    if config.source_vocab_size is None:
        rules.append(same("token_embedding.weight", "model.shared.weight"))
    else:
        rules.append(same("source_embedding.weight", "model.encoder.embed_tokens.weight"))
        rules.append(same("token_embedding.weight", "model.decoder.embed_tokens.weight"))
    if not config.tied_head:
        rules.append(same("lm_head.weight", "lm_head.weight"))
    if config.head_bias:
        rules.append(
            Rename(
                theirs="final_logits_bias",
                ours=("lm_head.bias",),
                read=lambda tensor: [tensor[0]],
                write=lambda tensors: tensors[0][None],
            )
        )
    return rules


SPEC = ModelSpec(
    name="transformer",
    config=TransformerConfig,
    module=Transformer,
    initialize=initialize,
    presets=PRESETS,
    huggingface_type="marian",
    from_huggingface=from_huggingface,
    to_huggingface=to_huggingface,
    renames=renames,
    native_renames=native_renames,
    kind="encoder-decoder",
    ignored=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
    base_prefix="model.",
    tied={
        "lm_head.weight": "model.decoder.embed_tokens.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
)
