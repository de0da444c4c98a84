"""DistilBERT: half of BERT's layers, which learnt from BERT itself what it makes of each text. It has no token types.

Sanh et al. 2019 (arXiv:1910.01108). Next to read: `bert.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.models.bert import Bert, BertConfig, check_encoder
from glassformer.models.spec import ModelSpec, check_choice
from glassformer.nn.init import init_like_bert


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilBertConfig(BertConfig):
    """Sizes of a DistilBERT; the defaults are those of distilbert-base-uncased."""

    architecture: ClassVar[str] = "distilbert"

    n_token_types: int = 0  # in all of them
    n_layers: int = 6

    def __post_init__(self) -> None:
        check_encoder(self)
        check_choice(self, "n_token_types", (0,))

    @property
    def head_activation(self) -> str:
        """What stands between the two layers of the head: ReLU for classes, where BERT has tanh."""
        return "relu" if self.head == "classes" else self.activation


class DistilBert(Bert):
    """Tokens to the logits of the token at each place, or of the text's classes; without a head to the last vectors."""


PRESETS = {"distilbert-base": DistilBertConfig()}


SPEC = ModelSpec(
    config=DistilBertConfig,
    module=DistilBert,
    initialize=init_like_bert,
    presets=PRESETS,
    kind="encoder",
)
