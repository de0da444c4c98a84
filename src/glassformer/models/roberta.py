"""RoBERTa: BERT trained for longer on more text, with tokens of bytes and with positions that skip padding.

Liu et al. 2019 (arXiv:1907.11692). Its positions are those of fairseq: the first token's is padding_id + 1, and padding
has the row padding_id. There is one token type. Next to read: `bert.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.models.bert import Bert, BertConfig
from glassformer.models.spec import ModelSpec
from glassformer.nn.init import init_like_bert


@dataclass(frozen=True, slots=True, kw_only=True)
class RobertaConfig(BertConfig):
    """Sizes of a RoBERTa; the defaults are those of roberta-base."""

    architecture: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    n_token_types: int = 1
    norm_eps: float = 1e-5
    padding_id: int = 1  # the token of padding, and how many rows of the table of positions stand before its row

    def __post_init__(self) -> None:
        BertConfig.__post_init__(self)
        if type(self.padding_id) is not int or not 0 <= self.padding_id < self.vocab_size:
            raise ConfigError(f"padding_id must be a token, from 0 to {self.vocab_size - 1}, not {self.padding_id!r}.")

    @property
    def n_positions(self) -> int:
        """Rows of the table of positions: those of the tokens behind that of padding."""
        return self.padding_id + 1 + self.context_length

    @property
    def head_activation(self) -> str:
        """What stands between the two layers of the head: GELU for tokens, whatever the blocks have."""
        return "tanh" if self.head == "classes" else "gelu"


class Roberta(Bert):
    """Tokens to the logits of the token at each place, or of the text's classes; without a head to the last vectors."""

    config: RobertaConfig

    def encode(
        self,
        tokens: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The vectors of the last layer. Positions count the tokens that are no padding, wherever that stands."""
        counted = tokens != self.config.padding_id
        rank = counted.cumsum(-1) * counted  # from 1; 0 at padding
        rows = rank + self.config.padding_id
        x: Tensor = self.encoder(tokens, valid, token_types, rows)
        return x


PRESETS = {
    "roberta-base": RobertaConfig(),
    "roberta-large": RobertaConfig(d_model=1024, n_layers=24, n_heads=16),
}


SPEC = ModelSpec(
    config=RobertaConfig,
    module=Roberta,
    initialize=init_like_bert,
    presets=PRESETS,
    kind="encoder",
)
