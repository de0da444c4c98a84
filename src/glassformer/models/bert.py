"""BERT: an encoder that reads a text in both directions and was trained to fill in masked tokens.

Devlin et al. 2018 (arXiv:1810.04805). Post-norm blocks, learned positions, token types that tell a pair of texts apart,
GELU. Without its head it gives a vector a token, of which `inference/embed.py` makes one a text: Reimers & Gurevych
2019 (arXiv:1908.10084). Next to read: `nn/block.py`, `nn/mask.py`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
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
    head: Literal["masked-token", "none"] = "masked-token"  # "none": the vectors themselves, for embeddings

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        sizes = ("vocab_size", "context_length", "n_token_types", "d_model", "n_layers", "n_heads", "d_ff")
        check_sizes(self, *sizes)
        check_choice(self, "activation", tuple(ACTIVATIONS))
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


SPEC = ModelSpec(
    config=BertConfig,
    module=Bert,
    initialize=init_like_bert,
    presets=PRESETS,
    kind="encoder",
)
