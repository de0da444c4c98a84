"""Gradient clipping by the norm of all gradients together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassformer import twins
from glassformer.training.clip import clip_gradients
from support.tolerances import assert_close


def with_gradients(scale: float, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in [(3, 4), (5,), (), (2, 2, 2)]]
    for parameter in parameters[:3]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return parameters


@pytest.mark.parametrize("mode", ["readable", "fast"])
@given(scale=st.floats(1e-3, 1e3), bound=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_clipping_equals_torch(mode: twins.Mode, scale: float, bound: float, seed: int) -> None:
    ours, theirs = with_gradients(scale, seed), with_gradients(scale, seed)
    with twins.use(mode):
        norm = clip_gradients(ours, bound)
    expected = nn.utils.clip_grad_norm_(theirs, bound)
    assert_close(norm, expected)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and b.grad is not None:
            assert_close(a.grad, b.grad)


@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_a_short_gradient_is_left_alone_and_a_long_one_keeps_its_direction(mode: twins.Mode) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    gradient = parameter.grad = torch.tensor([3.0, 4.0])
    with twins.use(mode):
        assert clip_gradients([parameter], 5.1) == 5
        assert gradient.tolist() == [3, 4]
        assert clip_gradients(iter([parameter]), 5.0) == 5
        assert_close(gradient, torch.tensor([3.0, 4.0]) * 5 / (5 + 1e-6))
        assert gradient[0] < 3
        clip_gradients([parameter], 1.0)
    assert_close(gradient, torch.tensor([0.6, 0.8]))
    assert parameter.grad is gradient


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_comes_back_as_its_norm(mode: twins.Mode, bad: float) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([bad, 1.0])
    with twins.use(mode):
        assert not clip_gradients([parameter], 1.0).isfinite()
        assert parameter.grad[1] == 1
        assert clip_gradients([], 1.0) == 0
