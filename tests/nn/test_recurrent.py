"""Recurrent layers against torch's own, for outputs, states and gradients; and their laws."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from glassformer.errors import CheckpointMismatch
from glassformer.nn.recurrent import CELLS, Recurrent, RecurrentLayer, from_torch, to_torch
from support.counts import count
from support.oracles import array
from support.tolerances import assert_close

KINDS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def sizes(choose: random.Random, kind: str) -> dict[str, Any]:
    bidirectional = choose.random() < 0.5
    return {
        "kind": kind,
        "d_in": choose.randint(1, 9),
        "d_model": choose.randint(1, 6) * (2 if bidirectional else 1),
        "n_layers": choose.randint(1, 3),
        "bidirectional": bidirectional,
    }


def pair(settings: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[Recurrent, Any]:
    """Ours, and torch's with the same weights."""
    ours = Recurrent(**settings).to(dtype)
    ways = 2 if settings["bidirectional"] else 1
    theirs = KINDS[settings["kind"]](
        settings["d_in"],
        settings["d_model"] // ways,
        settings["n_layers"],
        bidirectional=settings["bidirectional"],
        batch_first=True,
        dtype=dtype,
    )
    theirs.load_state_dict(to_torch(ours.state_dict()))
    return ours, theirs


def as_torch(hidden: list[tuple[Tensor, ...]], bidirectional: bool) -> list[Tensor]:
    """Our states as (layers · directions, B, units), one tensor for each vector that is remembered."""
    ways = 2 if bidirectional else 1
    return [torch.cat([torch.stack(layer[i].chunk(ways, -1)) for layer in hidden]) for i in range(len(hidden[0]))]


def gradients(module: nn.Module, of: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Of a weighted sum of everything that came out, by all weights and inputs."""
    total = sum((tensor * torch.linspace(-1, 2, tensor.numel()).to(tensor).view(tensor.shape)).sum() for tensor in of)
    return list(torch.autograd.grad(total, [*module.parameters(), *inputs]))  # type: ignore[arg-type]


def compare(settings: dict[str, Any], x: Tensor, lengths: Tensor | None, start: bool) -> None:
    """Outputs, final states, and all gradients, with padding on the right where there are lengths."""
    ours, theirs = pair(settings, x.dtype)
    n_vectors = CELLS[settings["kind"]].n_vectors
    valid = None if lengths is None else torch.arange(x.shape[1]) < lengths[:, None]
    first = [tuple(torch.randn(len(x), ours.d_model).to(x) for _ in range(n_vectors)) for _ in ours.layers]
    leaves = [vector.requires_grad_() for layer in first for vector in layer] if start else []

    out, hidden = ours(x, first if start else None, valid)
    if valid is not None:
        out = out * valid[..., None]
    mine = [out, *as_torch(hidden, settings["bidirectional"])]

    theirs_first: Any = as_torch(first, settings["bidirectional"]) if start else [None]
    theirs_first = tuple(theirs_first) if start and n_vectors == 2 else theirs_first[0]
    if lengths is None:
        out, after = theirs(x, theirs_first)
    else:
        packed, after = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), theirs_first)
        out, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    yours = [out, *(after if n_vectors == 2 else [after])]

    assert len(mine) == len(yours)
    for one, other in zip(mine, yours, strict=True):
        assert_close(one, other)
    my_gradients = gradients(ours, mine, [x, *leaves])
    your_gradients = gradients(theirs, yours, [x, *leaves])
    names = from_torch(dict(zip(dict(theirs.named_parameters()), your_gradients, strict=False)))
    for (name, _), gradient in zip(ours.named_parameters(), my_gradients, strict=False):
        assert_close(gradient, names[name])
    n_weights = len(names)
    for one, other in zip(my_gradients[n_weights:], your_gradients[n_weights:], strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_states_and_gradients_are_torchs(kind: str) -> None:
    choose = random.Random(0)
    for _ in range(count("recurrent networks")):
        settings = sizes(choose, kind)
        batch, length = choose.randint(1, 4), choose.randint(1, 9)
        x = torch.randn(batch, length, settings["d_in"], dtype=torch.float64, requires_grad=True)
        lengths = torch.tensor([choose.randint(1, length) for _ in range(batch)]) if choose.random() < 0.7 else None
        compare(settings, x, lengths, start=choose.random() < 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_agrees_within_1e_6(kind: str) -> None:
    settings = {"kind": kind, "d_in": 16, "d_model": 32, "n_layers": 2, "bidirectional": True}
    ours, theirs = pair(settings, torch.float32)
    x = torch.randn(3, 20, 16)
    assert (ours(x)[0] - theirs(x)[0]).abs().max() < 1e-6


@torch.no_grad()
def test_each_cell_is_its_equation_gate_by_gate() -> None:
    """Written down from the papers, one unit at a time."""

    def sigmoid(z: float) -> float:
        return float(1 / (1 + np.exp(-z)))

    for kind, cell in CELLS.items():
        layer = RecurrentLayer(kind, 3, 2).double()  # type: ignore[arg-type]
        x, *before = (torch.randn(1, n, dtype=torch.float64) for n in (3, *[2] * cell.n_vectors))
        _, after = layer(x[:, None], tuple(before))
        U, W = (array(proj.weight) for proj in (layer.x_proj, layer.h_proj))
        b, d = (array(proj.bias) for proj in (layer.x_proj, layer.h_proj))
        u, h, *rest = (array(vector)[0] for vector in (x, *before))
        for unit in range(2):
            given = [float(U[row] @ u + b[row]) for row in range(unit, len(U), 2)]
            remembered = [float(W[row] @ h + d[row]) for row in range(unit, len(W), 2)]
            sums = [one + other for one, other in zip(given, remembered, strict=True)]
            if kind == "rnn":
                expected = [np.tanh(sums[0])]
            elif kind == "gru":
                reset, update = sigmoid(sums[0]), sigmoid(sums[1])
                candidate = np.tanh(given[2] + reset * remembered[2])
                expected = [(1 - update) * candidate + update * h[unit]]
            else:
                c = sigmoid(sums[1]) * rest[0][unit] + sigmoid(sums[0]) * np.tanh(sums[2])
                expected = [sigmoid(sums[3]) * np.tanh(c), c]
            assert [float(vector[0, unit]) for vector in after] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_anywhere_changes_nothing(kind: str, bidirectional: bool) -> None:
    model = Recurrent(kind, 3, 4, 2, bidirectional=bidirectional).double()  # type: ignore[arg-type]
    x = torch.randn(4, 8, 3, dtype=torch.float64)
    valid = torch.rand(4, 8) < 0.6
    valid[:, 3] = True
    out, hidden = model(x, None, valid)
    for row in range(4):
        alone, state = model(x[row][valid[row]][None])
        assert_close(out[row][valid[row]], alone[0])
        for layer, expected in zip(hidden, state, strict=True):
            for vector, other in zip(layer, expected, strict=True):
                assert_close(vector[row], other[0])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_text_in_pieces_is_the_text(kind: str) -> None:
    model = Recurrent(kind, 3, 4, 2).double()  # type: ignore[arg-type]
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    whole, at_end = model(x)
    hidden, pieces = None, []
    for piece in x.split([1, 5, 3], dim=1):
        out, hidden = model(piece, hidden)
        pieces.append(out)
    assert hidden is not None
    assert_close(torch.cat(pieces, 1), whole)
    assert_close(hidden[-1][0], at_end[-1][0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_go_to_torch_and_back(kind: str, bidirectional: bool) -> None:
    settings = {"kind": kind, "d_in": 3, "d_model": 4, "n_layers": 2, "bidirectional": bidirectional}
    ours, theirs = pair(settings)
    back = from_torch(theirs.state_dict())
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.state_dict().items())


def test_a_torch_lstm_with_projections_is_refused_by_name() -> None:
    theirs = nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(CheckpointMismatch, match="'weight_hr_l0'"):
        from_torch(theirs.state_dict())


def test_dropout_stands_between_layers_alone() -> None:
    x = torch.randn(2, 3, 4)
    one, two = Recurrent("gru", 4, 4, 1, dropout=0.5), Recurrent("gru", 4, 4, 2, dropout=0.5)
    assert torch.equal(one(x)[0], one(x)[0])
    assert not torch.equal(two(x)[0], two(x)[0])
    assert torch.equal(two(x)[1][0][0], two(x)[1][0][0]), "the first layer reads no dropped input"
    two.eval()
    assert torch.equal(two(x)[0], two(x)[0])
