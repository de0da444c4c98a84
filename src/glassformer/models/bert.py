"""BERT: an encoder that reads a text in both directions and was trained to fill in masked tokens.

Devlin et al. 2018 (arXiv:1810.04805). Post-norm blocks, learned positions, token types that tell a pair of texts apart,
GELU. Without its head it gives a vector a token, of which `inference/embed.py` makes one a text: Reimers & Gurevych
2019 (arXiv:1908.10084). Next to read: `nn/block.py`, `nn/mask.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.config import from_mapping
from glassformer.errors import ConfigError
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
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_bert
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything, Mask
from glassformer.nn.norm import Dropout, LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Sizes of a BERT; the defaults are those of bert-base-uncased."""

    vocab_size: int = 30522
    context_length: int = 512
    n_token_types: int = 2
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 0  # 0: four times d_model
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training
    head: Literal["masked-token", "none"] = "masked-token"  # "none": the vectors themselves, for embeddings

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        sizes = ("vocab_size", "context_length", "n_token_types", "d_model", "n_layers", "n_heads", "d_ff")
        check_sizes(self, *sizes)
        check_choice(self, "activation", tuple(ACTIVATION_NAMES))
        check_choice(self, "head", ("masked-token", "none"))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_heads(self)


class Bert(nn.Module):
    """Tokens to the logits of the token at each place, or without a head to the vectors of the last layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = BertEncoder(config)
        self.head = MaskedTokenHead(config) if config.head == "masked-token" else None
        if self.head is not None:
            self.head.lm_head.weight = self.encoder.token_embedding.weight

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T V_or_C"]:
        """`valid` is False at padding, which no token looks at; `token_types` are 0 in the first text, 1 in the second.

        Positions count all tokens from the left, so padding belongs on the right.
        """
        x: Tensor = self.encoder(tokens, valid, token_types)
        if self.head is None:
            return x
        logits: Tensor = self.head(x)
        return logits


class BertEncoder(nn.Module):
    """Tokens to one vector each: three embeddings added and normalised, then the blocks."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.type_embedding = Embedding(config.n_token_types, config.d_model)
        self.embedding_norm = LayerNorm(config.d_model, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_layers))

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The vectors of the last layer; `Bert.forward` says what the arguments are."""
        mask = Mask.over(Everything(), tokens.shape[-1], tokens.device)
        positions = mask.queries
        if valid is not None:
            keys = positions.where(valid, -1)
            mask = Mask(rule=Everything(), queries=positions, keys=keys[:, None])  # one axis for the heads
        if token_types is None:
            token_types = torch.zeros_like(tokens)
        x: Tensor = self.token_embedding(tokens) + self.position_embedding(positions) + self.type_embedding(token_types)
        x = self.embedding_norm(x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class MaskedTokenHead(nn.Module):
    """One more layer, then logits by the token embedding itself and a bias a token (§3.1, task 1)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.proj = Linear(config.d_model, config.d_model)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = LayerNorm(config.d_model, eps=config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Logits of the token at each place."""
        hidden = self.proj(x)
        hidden = self.activation(hidden)
        hidden = self.norm(hidden)
        logits: Tensor = self.lm_head(hidden)
        return logits


def block(config: BertConfig) -> Block:
    """One of the n_layers equal blocks."""
    return Block(
        attn_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        attn=Attention(config.d_model, config.n_heads, dropout=config.dropout),
        mlp_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        mlp=MLP(config.d_model, config.d_ff, config.activation),
        norm_placement="post",
        dropout=config.dropout,
    )


PRESETS = {
    "bert-base": BertConfig(),
    "bert-large": BertConfig(d_model=1024, n_layers=24, n_heads=16),
    "minilm-l6": BertConfig(d_model=384, n_layers=6, head="none"),  # sentence-transformers' all-MiniLM-L6-v2
}


# ---- Hugging Face

HEADS = {"BertForMaskedLM": "masked-token", "BertForPreTraining": "masked-token", "BertModel": "none"}


def from_huggingface(config: Mapping[str, Any]) -> BertConfig:
    """Read a config.json. Of its two dropouts that of the sublayers is taken, since ours are one."""
    check_settings(
        config,
        {
            "is_decoder": False,
            "add_cross_attention": False,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": True,
        },
    )
    architectures = config.get("architectures") or ["BertForMaskedLM"]
    architecture = architectures[0] if isinstance(architectures, list) else architectures
    if not isinstance(architecture, str) or architecture not in HEADS:
        raise ConfigError(f"config.json: architectures {architectures!r} is none of {', '.join(HEADS)}.")
    settings = {
        "vocab_size": config.get("vocab_size", 30522),
        "context_length": config.get("max_position_embeddings", 512),
        "n_token_types": config.get("type_vocab_size", 2),
        "d_model": config.get("hidden_size", 768),
        "n_layers": config.get("num_hidden_layers", 12),
        "n_heads": config.get("num_attention_heads", 12),
        "d_ff": config.get("intermediate_size", 3072),
        "activation": read_activation(config, "hidden_act", "gelu"),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "head": HEADS[architecture],
    }
    return from_mapping(BertConfig, settings)


def to_huggingface(config: BertConfig) -> dict[str, Any]:
    """The config.json that `transformers` builds the same model from."""
    return {
        "architectures": ["BertForMaskedLM" if config.head == "masked-token" else "BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "type_vocab_size": config.n_token_types,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "tie_word_embeddings": True,
    }


def renames(config: BertConfig) -> Sequence[Rename]:
    """Hugging Face keeps the names of Google's code."""
    ours, theirs = "encoder.blocks.{}.", "bert.encoder.layer.{}."
    tables = {"token_embedding": "word_embeddings", "position_embedding": "position_embeddings"}
    tables |= {"type_embedding": "token_type_embeddings"}
    rules = [same(f"encoder.{a}.weight", f"bert.embeddings.{b}.weight") for a, b in tables.items()]
    layers = {
        "encoder.embedding_norm": "bert.embeddings.LayerNorm",
        f"{ours}attn.q_proj": f"{theirs}attention.self.query",
        f"{ours}attn.k_proj": f"{theirs}attention.self.key",
        f"{ours}attn.v_proj": f"{theirs}attention.self.value",
        f"{ours}attn.o_proj": f"{theirs}attention.output.dense",
        f"{ours}attn_norm": f"{theirs}attention.output.LayerNorm",
        f"{ours}mlp.up_proj": f"{theirs}intermediate.dense",
        f"{ours}mlp.down_proj": f"{theirs}output.dense",
        f"{ours}mlp_norm": f"{theirs}output.LayerNorm",
    }
    if config.head == "masked-token":
        rules.append(same("head.lm_head.bias", "cls.predictions.bias"))
        layers |= {
            "head.proj": "cls.predictions.transform.dense",
            "head.norm": "cls.predictions.transform.LayerNorm",
        }
    rules += [same(f"{a}.{part}", f"{b}.{part}") for a, b in layers.items() for part in ("weight", "bias")]
    return rules


SPEC = ModelSpec(
    name="bert",
    config=BertConfig,
    module=Bert,
    initialize=init_like_bert,
    presets=PRESETS,
    huggingface_type="bert",
    from_huggingface=from_huggingface,
    to_huggingface=to_huggingface,
    renames=renames,
    kind="encoder",
    ignored=(r"(bert\.)?embeddings\.position_ids",),
    # The pooler and the next-sentence head classify pairs of texts, which no model of ours does.
    elsewhere=(r"(bert\.)?pooler\.dense\..*", r"(bert\.)?cls\.seq_relationship\..*"),
    base_prefix="bert.",
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
