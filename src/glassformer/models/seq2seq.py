"""Sequence to sequence: one recurrent network reads the source, another one writes the target.

The decoder begins in the state that the encoder ends in: one vector a layer for all of the source (Cho et al. 2014,
arXiv:1406.1078; Sutskever et al. 2014, arXiv:1409.3215). With attention it also looks back at the encoder's states
(Luong et al. 2015, arXiv:1508.04025), and with input feeding it is told with each token what it saw at the former one.
Hugging Face has no such model, so its checkpoints are ours alone. Next to read: `nn/recurrent.py`, `nn/luong.py`.
"""

import sys
from copy import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import ModelSpec, check_choice, check_fraction, check_sizes
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.kv_cache import Policy, count_positions
from glassformer.nn.linear import Linear
from glassformer.nn.luong import Luong, LuongWindow
from glassformer.nn.memory import padded
from glassformer.nn.recurrent import CELLS, CellKind, Hidden, Recurrent, join_rows, select_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2SeqConfig:
    """Sizes and choices; the defaults are small enough for a CPU."""

    architecture: ClassVar[str] = "seq2seq"

    source_vocab_size: int = 8000
    vocab_size: int = 8000  # tokens of the target
    context_length: int = 64  # the longest source and target while training; neither network knows a limit
    d_model: int = 256  # of embeddings and of h
    n_layers: int = 1  # of the encoder, and of the decoder
    kind: CellKind = "gru"
    bidirectional: bool = False  # an encoder of d_model / 2 units from each end
    attention: Literal["none", "dot", "general", "concat"] = "none"
    window: LuongWindow = "global"  # of the attention
    radius: int = 10  # D of a local window: it sees 2 D + 1 tokens of the source
    input_feeding: bool = False
    dropout: float = 0.0  # on embeddings and on what layers and attention put out, while training
    start_id: int = 2  # the token before the first of a target
    eos_id: int = 2  # ends targets
    pad_id: int = 1  # fills texts up to a common length

    def __post_init__(self) -> None:
        check_sizes(self, "source_vocab_size", "vocab_size", "context_length", "d_model", "n_layers", "radius")
        check_choice(self, "kind", tuple(CELLS))
        check_choice(self, "attention", ("none", "dot", "general", "concat"))
        check_choice(self, "window", ("global", "local-m", "local-p"))
        check_choice(self, "bidirectional", (True, False))
        check_choice(self, "input_feeding", (True, False))
        check_fraction(self, "dropout")
        if self.bidirectional and self.d_model % 2:
            raise ConfigError(f"d_model {self.d_model} does not divide into the two directions of the encoder.")
        if self.attention == "none" and (self.input_feeding or self.window != "global"):
            raise ConfigError('input_feeding and a window need attention: "dot", "general" or "concat".')
        in_both = min(self.vocab_size, self.source_vocab_size)
        for name, limit in {"start_id": self.vocab_size, "eos_id": self.vocab_size, "pad_id": in_both}.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < limit:
                raise ConfigError(f"{name} must be a whole number from 0 to {limit - 1}, not {value!r}.")


class Seq2SeqState:
    """The memory, which stays, and what the decoder has come to: its layers, what it saw last, how much it has read.

    Positions count the tokens of a text from 0; −1 in the memory marks padding.
    """

    room = sys.maxsize  # tokens that may come at once: a recurrent network knows no last position

    def __init__(
        self, memory: Float[Tensor, "B S C"], memory_positions: Int[Tensor, "B S"], hidden: list[Hidden]
    ) -> None:
        self.memory = memory
        self.memory_positions = memory_positions
        self.hidden = hidden
        self.attended = torch.zeros_like(memory[:, :1])
        self.length = torch.zeros_like(memory_positions[:, 0])

    def step(self, tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None) -> Int[Tensor, "B T"]:
        """Count the tokens that come, and give them their positions in the target."""
        valid = torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid
        positions = count_positions(valid, self.length)
        self.length = self.length + valid.sum(-1)
        return positions

    @property
    def rooms(self) -> list[int]:
        """The same for each row."""
        return [self.room] * len(self.memory)

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        self.memory, self.memory_positions = self.memory[rows], self.memory_positions[rows]
        self.attended, self.length = self.attended[rows], self.length[rows]
        self.hidden = select_rows(self.hidden, rows)

    def branch(self, rows: Int[Tensor, " N"]) -> "Seq2SeqState":
        """A state of its own for these rows; this one stays as it is."""
        state = copy(self)
        state.select(rows)
        return state

    def join(self, other: "Seq2SeqState") -> None:
        """Go on with the rows of another state too, behind these; the shorter memory is padded."""
        length = max(self.memory.shape[1], other.memory.shape[1])
        positions = [padded(state.memory_positions + 1, length) - 1 for state in (self, other)]  # −1 at padding
        joined = (
            torch.cat([padded(self.memory, length), padded(other.memory, length)]),
            torch.cat(positions),
            torch.cat([self.attended, other.attended]),
            torch.cat([self.length, other.length]),
            join_rows(self.hidden, other.hidden),
        )
        self.memory, self.memory_positions, self.attended, self.length, self.hidden = joined  # all of it, or nothing


class Seq2Seq(nn.Module):
    """A source text and the beginning of its target to the logits of the target's next token."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        kind, d_model, n_layers, dropout = config.kind, config.d_model, config.n_layers, config.dropout
        d_in = 2 * d_model if config.input_feeding else d_model
        self.source_embedding = Embedding(config.source_vocab_size, d_model)
        self.token_embedding = Embedding(config.vocab_size, d_model)
        self.dropout = Dropout(dropout)
        self.encoder = Recurrent(kind, d_model, d_model, n_layers, bidirectional=config.bidirectional, dropout=dropout)
        self.decoder = Recurrent(kind, d_in, d_model, n_layers, dropout=dropout)
        self.attention = (
            None
            if config.attention == "none"
            else Luong(d_model, config.attention, window=config.window, radius=config.radius)
        )
        self.lm_head = Linear(d_model, config.vocab_size)

    def begin(
        self, source: Int[Tensor, "B S"], policy: Policy, source_valid: Bool[Tensor, "B S"] | None = None
    ) -> Seq2SeqState:
        """Read the source, `source_valid` being False at padding. A policy has nothing to choose here."""
        x = self.source_embedding(source)
        x = self.dropout(x)
        memory, hidden = self.encoder(x, None, source_valid)
        valid = torch.ones_like(source, dtype=torch.bool) if source_valid is None else source_valid
        return Seq2SeqState(memory, count_positions(valid), hidden)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: Seq2SeqState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each target token. `state` has the source and earlier tokens; `valid` is False at padding."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: Seq2SeqState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        positions = state.step(tokens, valid)
        out: Tensor
        x = self.token_embedding(tokens)
        x = self.dropout(x)
        if self.config.input_feeding:
            pieces = [self.feed(x, state, positions, valid, t) for t in range(tokens.shape[-1])]
            out = torch.cat(pieces, dim=1)
        else:
            out = self.decode(x, state, positions, valid)
        out = self.dropout(out)
        return out

    def unembed(self, out: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(out)
        return logits

    def decode(
        self,
        x: Float[Tensor, "B T d_in"],
        state: Seq2SeqState,
        positions: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T C"]:
        """h after each token, or h̃ where there is attention."""
        h: Tensor
        h, state.hidden = self.decoder(x, state.hidden, valid)
        if self.attention is None:
            return h
        attended: Tensor = self.attention(h, state.memory, positions, state.memory_positions)
        return attended

    def feed(
        self,
        x: Float[Tensor, "B T C"],
        state: Seq2SeqState,
        positions: Int[Tensor, "B T"],
        valid: Bool[Tensor, "B T"] | None,
        t: int,
    ) -> Float[Tensor, "B 1 C"]:
        """h̃ after token t, which the decoder reads side by side with the former h̃. Luong et al. 2015, §3.3."""
        now = slice(t, t + 1)
        fed = torch.cat([x[:, now], state.attended], dim=-1)
        here = None if valid is None else valid[:, now]
        attended = self.decode(fed, state, positions[:, now], here)
        state.attended = attended if here is None else torch.where(here[..., None], attended, state.attended)
        return attended


PRESETS = {
    "seq2seq-sutskever": Seq2SeqConfig(
        source_vocab_size=160_000, vocab_size=80_000, d_model=1000, n_layers=4, kind="lstm"
    ),
    "seq2seq-luong": Seq2SeqConfig(
        source_vocab_size=50_000,
        vocab_size=50_000,
        d_model=1000,
        n_layers=4,
        kind="lstm",
        attention="general",
        window="local-p",
        input_feeding=True,
        dropout=0.2,
    ),
    "seq2seq-small": Seq2SeqConfig(bidirectional=True, attention="general", input_feeding=True),
    "seq2seq-g2p": Seq2SeqConfig(source_vocab_size=29, vocab_size=74, eos_id=3, pad_id=0),  # see formats/g2p.py
}


SPEC = ModelSpec(config=Seq2SeqConfig, module=Seq2Seq, presets=PRESETS, kind="encoder-decoder")
