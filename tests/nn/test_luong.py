"""Luong's attention against the paper's equations, written a second time in numpy, one pair of states at a time."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.nn.luong import SCORES, Luong
from support.counts import count
from support.oracles import Array, array
from support.tolerances import assert_close

C = 4
WINDOWS = ["global", "local-m", "local-p"]


def attention(score: str, window: Any, radius: int = 2) -> Luong:
    model = Luong(C, score, window=window, radius=radius).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.requires_grad_(False)


def score_of(model: Luong, h: Array, memory: Array) -> float:
    """§3.1, the three lines under "score"; of concat, W and [h; h̄] each as one."""
    weights = {name: array(tensor) for name, tensor in model.score.named_parameters()}
    if not weights:
        return float(h @ memory)
    if len(weights) == 1:
        return float(h @ weights["memory_proj.weight"] @ memory)
    w = np.concatenate([weights["h_proj.weight"], weights["memory_proj.weight"]], axis=1)
    return float(weights["v_proj.weight"][0] @ np.tanh(w @ np.concatenate([h, memory])))


def by_the_paper(model: Luong, h: Array, memory: Array, t: int) -> tuple[Array, Array]:
    """Weights and h̃ of one state of the decoder; the memory holds no padding here. Eq. 5, 7, 9 and 10."""
    length, d = len(memory), model.radius
    p = float(t)
    if model.centre is not None:
        w, v = array(model.centre.h_proj.weight), array(model.centre.v_proj.weight)[0]
        p = float(length / (1 + np.exp(-(v @ np.tanh(w @ h)))))
    inside = [s for s in range(length) if model.window == "global" or p - d <= s <= p + d]
    exponentials = {s: np.exp(score_of(model, h, memory[s])) for s in inside}
    weights = np.zeros(length)
    for s in inside:
        weights[s] = exponentials[s] / sum(exponentials.values())
        if model.window == "local-p":
            weights[s] *= np.exp(-((s - p) ** 2) / (2 * (d / 2) ** 2))
    context = sum((weights[s] * memory[s] for s in range(length)), np.zeros(C))
    return weights, np.tanh(array(model.out_proj.weight) @ np.concatenate([context, h]))


def given(length: int, source_lengths: list[int], side: str = "right") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States of the decoder and the encoder, and their positions; padding stands on one side of the source."""
    batch, longest = len(source_lengths), max(source_lengths)
    memory_positions = torch.full((batch, longest), -1)
    for row, n in enumerate(source_lengths):
        start = 0 if side == "right" else longest - n
        memory_positions[row, start : start + n] = torch.arange(n)
    positions = torch.arange(length).expand(batch, length)
    h, memory = (torch.randn(batch, n, C, dtype=torch.float64) for n in (length, longest))
    return h, memory, positions, memory_positions


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("score", sorted(SCORES))
def test_weights_and_result_are_the_papers(score: str, window: str, side: str) -> None:
    choose = random.Random(0)
    for _ in range(count("attentions of Luong's")):
        model = attention(score, window, choose.randint(1, 4))
        lengths = [choose.randint(1, 12) for _ in range(choose.randint(1, 3))]
        h, memory, positions, memory_positions = given(choose.randint(1, 8), lengths, side)
        weights = model.align(h, memory, positions, memory_positions)
        attended = model(h, memory, positions, memory_positions)
        for row, valid in enumerate(memory_positions >= 0):
            assert (weights[row][:, ~valid] == 0).all()
            for t in range(h.shape[1]):
                alone = array(memory[row][valid])
                expected, out = by_the_paper(model, array(h[row, t]), alone, t)
                assert_close(weights[row, t][valid], expected)
                assert_close(attended[row, t], out)


def test_a_window_by_hand() -> None:
    """Equal scores: the weights are 1 / 5 within two places of the token's own, cut at the borders of the source."""
    model = attention("dot", "local-m", radius=2)
    h, memory, positions, memory_positions = given(9, [8])
    weights = model.align(h * 0, memory, positions, memory_positions)[0]
    seen = [row.nonzero().flatten().tolist() for row in weights]
    assert seen[0] == [0, 1, 2]
    assert seen[1] == [0, 1, 2, 3]
    assert seen[4] == [2, 3, 4, 5, 6]
    assert seen[7] == [5, 6, 7]
    assert_close(weights[4, 2:7], [0.2] * 5)
    assert_close(weights.sum(-1), torch.ones(9))


def test_a_gaussian_by_hand() -> None:
    """With W = 0 the centre is half the length, 4 of 8; one deviation of 1 away the weight is exp(−1/2) of 1 / 5."""
    model = attention("dot", "local-p", radius=2)
    assert model.centre is not None
    model.centre.h_proj.weight.zero_()
    h, memory, positions, memory_positions = given(1, [8])
    weights = model.align(h * 0, memory, positions, memory_positions)[0, 0]
    assert_close(weights, np.array([0, 0, np.exp(-2), np.exp(-0.5), 1, np.exp(-0.5), np.exp(-2), 0]) / 5)


@pytest.mark.parametrize("towards", [-100.0, 100.0])
def test_a_centre_at_either_end_of_the_source_keeps_what_lies_inside(towards: float) -> None:
    model = attention("general", "local-p", radius=2)
    assert model.centre is not None
    h, memory, positions, memory_positions = given(1, [6, 4])
    model.centre.v_proj.weight.copy_(towards * torch.sign(model.centre.h_proj(h[0, 0])))
    weights = model.align(h[:1].expand(2, -1, -1), memory, positions, memory_positions)[:, 0]
    expected = [[0, 1, 2], [0, 1, 2]] if towards < 0 else [[4, 5], [2, 3]]
    assert [row.nonzero().flatten().tolist() for row in weights] == expected


def test_a_window_beyond_the_source_sees_nothing_and_has_a_gradient() -> None:
    model = attention("concat", "local-m", radius=1).requires_grad_(True)
    h, memory, positions, memory_positions = given(6, [2])
    weights = model.align(h, memory, positions, memory_positions)[0]
    assert weights[3:].eq(0).all()
    assert weights[:3].sum(-1).allclose(torch.ones(3, dtype=torch.float64))
    model(h, memory, positions, memory_positions).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_source_of_padding_alone_leaves_the_state_to_itself() -> None:
    model = attention("dot", "global")
    h, memory, positions, memory_positions = given(3, [5])
    out = model(h, memory, positions, torch.full_like(memory_positions, -1))
    assert_close(out, torch.tanh(model.out_proj(torch.cat([torch.zeros_like(h), h], -1))))


def test_the_predicted_centre_has_a_gradient_through_the_gaussian() -> None:
    model = attention("dot", "local-p").requires_grad_(True)
    h, memory, positions, memory_positions = given(3, [7, 5])
    model(h, memory, positions, memory_positions).square().sum().backward()
    assert model.centre is not None
    for parameter in model.centre.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
