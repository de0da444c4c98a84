"""BERT: an encoder that reads a text in both directions and was trained to fill in masked tokens.

Devlin et al. 2018 (arXiv:1810.04805). Post-norm blocks, learned positions, token types that tell a pair of texts apart,
GELU. Without its head it gives a vector a token, of which `inference/embed.py` makes one a text: Reimers & Gurevych
2019 (arXiv:1908.10084). Next to read: `nn/block.py`, `nn/mask.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.models.spec import (
    ModelSpec,
    check_choice,
    check_fraction,
    check_heads,
    check_labels,
    check_sizes,
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_bert
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything, Mask
from glassformer.nn.norm import LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Sizes of a BERT; the defaults are those of bert-base-uncased."""

    architecture: ClassVar[str] = "bert"

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
    head: Literal["masked-token", "none", "classes"] = "masked-token"  # "none": the vectors, for embeddings
    n_classes: int = 2  # which the head for classes tells apart
    labels: tuple[str, ...] = ()  # names of the classes, if they have any
    problem_type: Literal["single-label", "multi-label", "regression"] = "single-label"  # or amounts

    def __post_init__(self) -> None:
        check_encoder(self)
        check_sizes(self, "n_token_types")

    @property
    def n_positions(self) -> int:
        """Rows of the table of positions."""
        return self.context_length

    @property
    def head_activation(self) -> str:
        """What stands between the two layers of the head."""
        return "tanh" if self.head == "classes" else self.activation


def check_encoder(config: Any) -> None:
    """Raise for sizes that no encoder of this kind can have; d_ff 0 follows from d_model."""
    if config.d_ff == 0:
        object.__setattr__(config, "d_ff", 4 * config.d_model)
    check_sizes(config, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "n_classes")
    check_choice(config, "activation", tuple(ACTIVATIONS))
    check_choice(config, "head", ("masked-token", "none", "classes"))
    check_labels(config)
    check_fraction(config, "dropout")
    check_fraction(config, "norm_eps")
    check_heads(config)


class Bert(nn.Module):
    """Tokens to the logits of the token at each place, or of the text's classes; without a head to the last vectors."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = BertEncoder(config)
        self.head: MaskedTokenHead | TextClassHead | None = None
        if config.head == "masked-token":
            self.head = MaskedTokenHead(config)
            self.head.lm_head.weight = self.encoder.token_embedding.weight
        elif config.head == "classes":
            self.head = TextClassHead(config)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B ..."]:
        """(B, T, V), (B, N) or (B, T, C), as the head has it. `valid` is False at padding, which no token looks at.

        `token_types` are 0 in the first text, 1 in the second.
        """
        x: Tensor = self.encode(tokens, valid, token_types)
        if self.head is None:
            return x
        logits: Tensor = self.head(x)
        return logits

    def encode(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The vectors of the last layer. Positions count all tokens from the left: padding belongs on the right."""
        x: Tensor = self.encoder(tokens, valid, token_types)
        return x


class BertEncoder(nn.Module):
    """Tokens to one vector each: their embeddings added and normalised, then the blocks."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = Embedding(config.n_positions, config.d_model)
        self.type_embedding = Embedding(config.n_token_types, config.d_model) if config.n_token_types else None
        self.embedding_norm = LayerNorm(config.d_model, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_layers))

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
        rows: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The vectors of the last layer; `rows` of the table of positions, where they do not count from the left."""
        mask = Mask.over(Everything(), tokens.shape[-1], tokens.device)
        if valid is not None:
            keys = mask.queries.where(valid, -1)
            mask = Mask(rule=Everything(), queries=mask.queries, keys=keys[:, None])  # one axis for the heads
        rows = mask.queries if rows is None else rows
        x: Tensor
        if self.type_embedding is None:
            x = self.token_embedding(tokens) + self.position_embedding(rows)
        else:
            token_types = torch.zeros_like(tokens) if token_types is None else token_types
            x = self.token_embedding(tokens) + self.position_embedding(rows) + self.type_embedding(token_types)
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
        self.activation = HEAD_ACTIVATIONS[config.head_activation]
        self.norm = LayerNorm(config.d_model, eps=config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Logits of the token at each place."""
        hidden = self.proj(x)
        hidden = self.activation(hidden)
        hidden = self.norm(hidden)
        logits: Tensor = self.lm_head(hidden)
        return logits


class TextClassHead(nn.Module):
    """One more layer on the first token's vector, then logits of the classes (§3.2 and §4.1)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.proj = Linear(config.d_model, config.d_model)
        self.activation = HEAD_ACTIVATIONS[config.head_activation]
        self.out_proj = Linear(config.d_model, config.n_classes)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B N"]:
        """Logits of each text's classes."""
        hidden = self.proj(x[:, 0])
        hidden = self.activation(hidden)
        logits: Tensor = self.out_proj(hidden)
        return logits


HEAD_ACTIVATIONS = {**ACTIVATIONS, "tanh": torch.tanh}


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


SPEC = ModelSpec(
    config=BertConfig,
    module=Bert,
    initialize=init_like_bert,
    presets=PRESETS,
    kind="encoder",
)
