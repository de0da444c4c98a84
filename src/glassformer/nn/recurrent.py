"""Recurrent networks: a state that moves on with each token, by the equation of a cell.

    rnn     h′ = tanh(U x + W h + b)
    gru     gates say how much of the state is replaced, and how much of it the replacement sees
    lstm    a second vector, the cell, is only added to and forgotten from

U x is taken for the whole text at once, W h in the loop over time, of which there is one: `RecurrentLayer.forward`.
There is no fused twin: `benchmarks/recurrent.py` has what torch's own layers would gain, with 32 texts a batch 1.1 to
1.9 times the speed of training, and nothing when decoding with an LSTM.
Next to read: `luong.py`, `models/rnn.py`, `models/seq2seq.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import CheckpointMismatch
from glassformer.nn import init
from glassformer.nn.dropout import Dropout
from glassformer.nn.linear import Linear

CellKind = Literal["rnn", "gru", "lstm"]
Hidden = tuple[Float[Tensor, "B C"], ...]  # what one layer remembers: (h,), and (h, cell) of an LSTM


def rnn_cell(from_x: Float[Tensor, "B C"], from_h: Float[Tensor, "B C"], hidden: Hidden) -> Hidden:
    """h′ = tanh(U x + W h + b). Elman 1990, "Finding structure in time"."""
    h = torch.tanh(from_x + from_h)
    return (h,)


def gru_cell(from_x: Float[Tensor, "B G"], from_h: Float[Tensor, "B G"], hidden: Hidden) -> Hidden:
    """h′ = (1 − update) ⊙ candidate + update ⊙ h. Cho et al. 2014, eq. 5 to 8 (arXiv:1406.1078).

    There the reset gate falls on h before the matrix, here on W h + b after it, as in cuDNN and torch: one product
    then serves all three gates.
    """
    (h,) = hidden
    reset_x, update_x, candidate_x = from_x.chunk(3, dim=-1)
    reset_h, update_h, candidate_h = from_h.chunk(3, dim=-1)
    reset = torch.sigmoid(reset_x + reset_h)
    update = torch.sigmoid(update_x + update_h)
    candidate = torch.tanh(candidate_x + reset * candidate_h)
    h = (1 - update) * candidate + update * h
    return (h,)


def lstm_cell(from_x: Float[Tensor, "B G"], from_h: Float[Tensor, "B G"], hidden: Hidden) -> Hidden:
    """cell′ = forget ⊙ cell + input ⊙ candidate, and h′ = output ⊙ tanh(cell′).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; the form of Zaremba et al. 2014, §3.1
    (arXiv:1409.2329).
    """
    _, cell = hidden
    input_x, forget_x, candidate_x, output_x = from_x.chunk(4, dim=-1)
    input_h, forget_h, candidate_h, output_h = from_h.chunk(4, dim=-1)
    input_gate = torch.sigmoid(input_x + input_h)
    forget_gate = torch.sigmoid(forget_x + forget_h)
    candidate = torch.tanh(candidate_x + candidate_h)
    output_gate = torch.sigmoid(output_x + output_h)
    cell = forget_gate * cell + input_gate * candidate
    h = output_gate * torch.tanh(cell)
    return h, cell


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentCell:
    """An equation, how many gates U x and W h feed, one below the other, and how many vectors it remembers."""

    step: Callable[[Tensor, Tensor, Hidden], Hidden]
    n_gates: int
    n_vectors: int


CELLS: dict[str, RecurrentCell] = {
    "rnn": RecurrentCell(step=rnn_cell, n_gates=1, n_vectors=1),
    "gru": RecurrentCell(step=gru_cell, n_gates=3, n_vectors=1),
    "lstm": RecurrentCell(step=lstm_cell, n_gates=4, n_vectors=2),
}


class RecurrentLayer(nn.Module):
    """One cell along a text, from its beginning, or `backwards` from its end.

    Weights and biases start as torch's, evenly within ± 1 / √d_model. There are two biases, since a GRU's candidate
    keeps them apart.
    """

    def __init__(self, kind: CellKind, d_in: int, d_model: int, *, backwards: bool = False) -> None:
        super().__init__()
        self.cell = CELLS[kind]
        self.backwards = backwards
        self.x_proj = Linear(d_in, self.cell.n_gates * d_model)
        self.h_proj = Linear(d_model, self.cell.n_gates * d_model)
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw weights and biases."""
        d_model = self.h_proj.weight.shape[1]
        for parameter in self.parameters():
            init.uniform(parameter, 1 / math.sqrt(d_model), generator)

    def forward(
        self, x: Float[Tensor, "B T d_in"], hidden: Hidden, valid: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T C"], Hidden]:
        """h after each token, and what is remembered after the last one; padding leaves both as they were before it."""
        from_x = self.x_proj(x).unbind(1)
        in_order = range(len(from_x))
        outputs = list(from_x)
        for t in reversed(in_order) if self.backwards else in_order:
            from_h = self.h_proj(hidden[0])
            moved = self.cell.step(from_x[t], from_h, hidden)
            hidden = moved if valid is None else where(valid[:, t], moved, hidden)
            outputs[t] = hidden[0]
        return torch.stack(outputs, dim=1), hidden


class BothWays(nn.Module):
    """A layer of d_model / 2 units from each end, side by side. Schuster & Paliwal 1997, "Bidirectional RNNs"."""

    def __init__(self, kind: CellKind, d_in: int, d_model: int) -> None:
        super().__init__()
        self.forwards = RecurrentLayer(kind, d_in, d_model // 2)
        self.backwards = RecurrentLayer(kind, d_in, d_model // 2, backwards=True)

    def forward(
        self, x: Float[Tensor, "B T d_in"], hidden: Hidden, valid: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T C"], Hidden]:
        """As a `RecurrentLayer`; h after a token holds what stands before it, and what stands after it."""
        halves = [vector.chunk(2, dim=-1) for vector in hidden]
        ahead, at_end = self.forwards(x, tuple(left for left, _ in halves), valid)
        back, at_start = self.backwards(x, tuple(right for _, right in halves), valid)
        out = torch.cat([ahead, back], dim=-1)
        return out, tuple(torch.cat(pair, dim=-1) for pair in zip(at_end, at_start, strict=True))


class Recurrent(nn.Module):
    """Layers one above the other, each reading what the one below has made; dropout stands between them.

    `d_model` counts the features of a token that come out, of both directions together.
    """

    def __init__(
        self,
        kind: CellKind,
        d_in: int,
        d_model: int,
        n_layers: int,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layer = BothWays if bidirectional else RecurrentLayer
        self.layers = nn.ModuleList(layer(kind, d_model if i else d_in, d_model) for i in range(n_layers))
        self.dropout = Dropout(dropout)
        self.d_model = d_model
        self.n_vectors = CELLS[kind].n_vectors

    def forward(
        self,
        x: Float[Tensor, "B T d_in"],
        hidden: Sequence[Hidden] | None = None,
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], list[Hidden]]:
        """The last layer's h after each token, and what each layer remembers at the end; it starts at zeros."""
        if hidden is None:
            zeros = x.new_zeros(len(x), self.d_model)
            hidden = [(zeros,) * self.n_vectors for _ in self.layers]
        after = []
        for i, (layer, before) in enumerate(zip(self.layers, hidden, strict=True)):
            if i > 0:
                x = self.dropout(x)
            x, reached = layer(x, before, valid)
            after.append(reached)
        return x, after


def where(chosen: Bool[Tensor, " B"], moved: Hidden, hidden: Hidden) -> Hidden:
    """The moved state in the rows that are chosen, the former one elsewhere."""
    return tuple(torch.where(chosen[:, None], new, old) for new, old in zip(moved, hidden, strict=True))


def select_rows(hidden: Sequence[Hidden], rows: Int[Tensor, " N"]) -> list[tuple[Float[Tensor, "N C"], ...]]:
    """What each layer remembers of these rows of the batch, in this order."""
    return [tuple(vector[rows] for vector in layer) for layer in hidden]


def join_rows(hidden: Sequence[Hidden], more: Sequence[Hidden]) -> list[tuple[Float[Tensor, "N C"], ...]]:
    """What each layer remembers of the rows of two batches, one behind the other."""
    return [tuple(map(torch.cat, zip(one, other, strict=True))) for one, other in zip(hidden, more, strict=True)]


PARTS = {
    "x_proj.weight": "weight_ih",
    "x_proj.bias": "bias_ih",
    "h_proj.weight": "weight_hh",
    "h_proj.bias": "bias_hh",
}  # parameters of a layer: their names in torch.nn.RNN, GRU and LSTM, whose gates stand in the same order as here


def to_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a `Recurrent` under the names of torch.nn.RNN, GRU and LSTM."""
    return {_name_in_torch(name): tensor for name, tensor in state.items()}


def from_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a torch.nn.RNN, GRU or LSTM, with biases, under the names of a `Recurrent`."""
    both_ways = any(name.endswith("_reverse") for name in state)
    return {_name_here(name, both_ways): tensor for name, tensor in state.items()}


def _name_in_torch(name: str) -> str:
    _, layer, *way, module, part = name.split(".")  # layers.N.x_proj.weight, layers.N.backwards.x_proj.weight
    return f"{PARTS[f'{module}.{part}']}_l{layer}" + "_reverse" * (way == ["backwards"])


def _name_here(name: str, both_ways: bool) -> str:
    here = {theirs: ours for ours, theirs in PARTS.items()}
    stem, _, place = name.rpartition("_l")  # weight_ih_lN, weight_ih_lN_reverse
    if stem not in here:
        raise CheckpointMismatch(
            f"The tensor {name[:200]!r} has no place here: an LSTM with proj_size is not supported."
        )
    layer, _, reverse = place.partition("_")
    way = "backwards." if reverse else "forwards." if both_ways else ""
    return f"layers.{layer}.{way}{here[stem]}"
