"""A recurrent language model: what came before a token is one vector a layer, whatever the length of the text.

Elman 1990; Mikolov et al. 2010, "Recurrent neural network based language model"; with LSTM units Graves 2013, §2
(arXiv:1308.0850). The presets are letter by letter, after Karpathy's char-rnn. Hugging Face has no such model, so its
checkpoints are ours alone. Next to read: `nn/recurrent.py`, `models/seq2seq.py`.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import GenerationError
from glassformer.models.spec import ModelSpec, check_choice, check_fraction, check_sizes
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.kv_cache import Policy
from glassformer.nn.linear import Linear
from glassformer.nn.recurrent import CELLS, CellKind, Hidden, Recurrent, join_rows, select_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RNNConfig:
    """Sizes of a recurrent language model."""

    architecture: ClassVar[str] = "rnn"

    vocab_size: int = 65
    context_length: int = 64  # the longest text while training; what is generated may go on without end
    d_model: int = 128  # of embeddings and of h
    n_layers: int = 2
    kind: CellKind = "lstm"
    dropout: float = 0.0  # on embeddings and on what each layer puts out, while training

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_layers")
        check_choice(self, "kind", tuple(CELLS))
        check_fraction(self, "dropout")


class RNNState:
    """What the layers remember of a text, None before its first token."""

    room = sys.maxsize  # tokens that may come at once: a recurrent network knows no last position

    def __init__(self, hidden: list[Hidden] | None = None) -> None:
        self.hidden = hidden

    @property
    def rooms(self) -> list[int]:
        """The same for each row."""
        return [self.room] * (1 if self.hidden is None else len(self.hidden[0][0]))

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        if self.hidden is not None:
            self.hidden = select_rows(self.hidden, rows)

    def branch(self, rows: Int[Tensor, " N"]) -> "RNNState":
        """A state of its own for these rows; this one stays as it is."""
        return RNNState(None if self.hidden is None else select_rows(self.hidden, rows))

    def join(self, other: "RNNState") -> None:
        """Go on with the rows of another state too, behind these; both have read some tokens."""
        if self.hidden is None or other.hidden is None:
            raise GenerationError("A state that has read nothing has no rows to join.")
        self.hidden = join_rows(self.hidden, other.hidden)


class RNN(nn.Module):
    """Tokens to the logits of the token after each."""

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.recurrent = Recurrent(config.kind, config.d_model, config.d_model, config.n_layers, dropout=config.dropout)
        self.lm_head = Linear(config.d_model, config.vocab_size)

    def begin(self, source: None, policy: Policy) -> RNNState:
        """An empty state. A policy has nothing to choose: every token is remembered, in vectors of fixed size."""
        return RNNState()

    def forward(
        self, tokens: Int[Tensor, "B T"], state: RNNState | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token. `state` remembers earlier tokens and takes these in; `valid` is False at padding."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: RNNState | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        if state is None:
            state = RNNState()
        x = self.token_embedding(tokens)
        x = self.dropout(x)
        h: Tensor
        h, state.hidden = self.recurrent(x, state.hidden, valid)
        h = self.dropout(h)
        return h

    def unembed(self, h: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(h)
        return logits


PRESETS = {
    "rnn-char": RNNConfig(kind="rnn"),
    "gru-char": RNNConfig(kind="gru"),
    "lstm-char": RNNConfig(kind="lstm"),
}


SPEC = ModelSpec(config=RNNConfig, module=RNN, presets=PRESETS)
