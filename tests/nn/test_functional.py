"""The equations against torch.nn.functional and against numpy float64, in both modes."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.nn import functional as F
from glassformer.twins import Mode, use
from support import oracles
from support.oracles import array
from support.tolerances import assert_close


@pytest.fixture(params=["readable", "fast"], autouse=True)
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    with use(request.param):
        yield request.param


SHAPES = [(5,), (3, 5), (2, 3, 4, 5), (2, 1, 1), (0, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_is_x_times_the_transposed_weight_plus_bias(shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.randn(shape), torch.randn(7, shape[-1]), torch.randn(7)
    assert_close(F.linear(x, weight), np.einsum("...i,oi->...o", array(x), array(weight)))
    assert_close(F.linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))


def test_one_hot_has_a_single_true_at_the_id() -> None:
    tokens = torch.tensor([[0, 3], [2, 2]])
    assert torch.equal(F.one_hot(tokens, 4).long(), torch.nn.functional.one_hot(tokens, 4))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_one_hot_times_the_matrix_equals_the_lookup(shape: tuple[int, ...]) -> None:
    tokens, weight = torch.randint(9, shape), torch.randn(9, 4)
    multiplied = F.one_hot(tokens, 9).float() @ weight
    assert torch.equal(F.embedding(tokens, weight), multiplied)


def test_one_hot_times_the_matrix_has_the_gradient_of_the_lookup() -> None:
    tokens, weight = torch.tensor([1, 1, 4]), torch.randn(5, 3, requires_grad=True)
    upstream = torch.randn(3, 3)
    (looked_up,) = torch.autograd.grad((F.embedding(tokens, weight) * upstream).sum(), weight)
    (multiplied,) = torch.autograd.grad((F.one_hot(tokens, 5).float() @ weight * upstream).sum(), weight)
    assert_close(looked_up, multiplied)


@pytest.mark.parametrize("dim", [-1, 0, 1, 2])
def test_softmax_along_any_axis(dim: int) -> None:
    x = torch.randn(2, 3, 4)
    assert_close(F.softmax(x, dim), oracles.softmax(array(x), dim))
    assert_close(F.log_softmax(x, dim), np.log(oracles.softmax(array(x), dim)))


@pytest.mark.parametrize("shift", [-1e4, -100.0, 100.0, 1e4])
def test_softmax_is_the_same_after_a_shift(shift: float) -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    assert_close(F.softmax(x + shift), F.softmax(x))
    assert_close(F.log_softmax(x + shift), F.log_softmax(x))


def test_softmax_of_logits_in_the_thousands_is_finite_and_sums_to_one() -> None:
    probs = F.softmax(torch.tensor([[1000.0, 999.0, -1000.0], [-5000.0, -5000.0, -5000.0]]))
    assert_close(probs.sum(-1), torch.ones(2))
    assert_close(probs[0], [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.0])
    assert_close(F.log_softmax(torch.tensor([0.0, -1000.0])), [0.0, -1000.0])  # log(softmax) would say −∞


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.randn(shape) * 3 + 1, torch.randn(shape[-1]), torch.randn(shape[-1])
    assert_close(F.layer_norm(x, weight, bias), torch.nn.functional.layer_norm(x, weight.shape, weight, bias))
    assert_close(F.layer_norm(x, weight, bias, 0.1), oracles.layer_norm(array(x), array(weight), array(bias), 0.1))


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape) * 3 + 1, torch.randn(shape[-1])
    assert_close(F.rms_norm(x, weight), torch.nn.functional.rms_norm(x, weight.shape, weight, 1e-5))
    assert_close(F.rms_norm(x, weight, 0.1), oracles.rms_norm(array(x), array(weight), 0.1))


@pytest.mark.parametrize(
    ("ours", "theirs", "numpy"),
    [
        (F.relu, torch.nn.functional.relu, lambda x: np.maximum(x, 0)),
        (F.gelu, torch.nn.functional.gelu, oracles.gelu),
        (F.gelu_tanh, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), oracles.gelu_tanh),
        (F.silu, torch.nn.functional.silu, oracles.silu),
    ],
    ids=["relu", "gelu", "gelu_tanh", "silu"],
)
def test_activations(
    ours: Callable[[Tensor], Tensor],
    theirs: Callable[[Tensor], Tensor],
    numpy: Callable[[oracles.Array], oracles.Array],
) -> None:
    x = torch.cat([torch.randn(50) * 3, torch.tensor([0.0, -0.0, 1e-20, 30.0, -30.0])])
    assert_close(ours(x), theirs(x))
    assert_close(ours(x.double()), numpy(array(x)))


def test_gelu_at_one_is_the_normal_distribution_function_of_one() -> None:
    assert_close(F.gelu(torch.tensor(1.0, dtype=torch.float64)), 0.8413447460685429)


def test_glu_swiglu_and_geglu_gate_the_second_with_the_first() -> None:
    gate, up = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert_close(F.glu(gate, up), torch.nn.functional.glu(torch.cat([up, gate], -1)))
    assert_close(F.swiglu(gate, up), oracles.silu(array(gate)) * array(up))
    assert_close(F.geglu(gate, up), oracles.gelu_tanh(array(gate)) * array(up))


def test_dropout_zeroes_with_probability_p_and_keeps_the_mean() -> None:
    x = torch.full((200, 500), 3.0)
    out = F.dropout(x, 0.2)
    assert set(out.unique().tolist()) == {0.0, 3.75}
    assert abs((out == 0).float().mean().item() - 0.2) < 0.005  # four standard deviations of 100,000 coins
    assert abs(out.mean().item() - 3.0) < 0.02


def test_dropout_passes_the_gradient_where_it_kept() -> None:
    x = torch.randn(50, 50, requires_grad=True)
    out = F.dropout(x, 0.5)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, (out != 0) * 2.0)


def losses(logits: Tensor, targets: Tensor) -> list[float]:
    """−log p of each target, in numpy float64."""
    rows, ids = array(logits).reshape(-1, logits.shape[-1]), targets.flatten().tolist()
    shifted = rows - rows.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return [-float(row[i]) for row, i in zip(log_probs, ids, strict=True)]


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (2, 1, 3)])
def test_cross_entropy_is_the_mean_over_any_batch_axes(batch: tuple[int, ...]) -> None:
    logits, targets = torch.randn(*batch, 7), torch.randint(7, batch)
    assert_close(F.cross_entropy(logits, targets), np.mean(losses(logits, targets)))


@pytest.mark.parametrize("scale", [1.0, 1000.0, 10_000.0])
def test_cross_entropy_of_large_logits_stays_exact(scale: float) -> None:
    logits, targets = torch.randn(6, 5) * scale, torch.randint(5, (6,))
    loss = F.cross_entropy(logits, targets)
    assert loss.isfinite()
    assert_close(loss, torch.tensor(np.mean(losses(logits, targets))))


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_vocabulary() -> None:
    assert_close(F.cross_entropy(torch.zeros(3, 50_257), torch.tensor([0, 1, 50_256])), math.log(50_257))


@pytest.mark.parametrize("ignored", [-100, 3])
def test_cross_entropy_leaves_the_ignored_targets_out_of_the_mean_and_of_the_gradient(ignored: int) -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    targets = torch.tensor([[0, ignored, 2], [ignored, 4, 1]])
    loss = F.cross_entropy(logits, targets, ignored)
    kept = targets != ignored
    assert_close(loss, np.mean(losses(logits[kept], targets[kept])))
    assert_close(F.cross_entropy(logits, targets, ignored, reduction="sum"), loss * int(kept.sum()))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).all()


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1.0])
def test_label_smoothing_mixes_in_the_mean_over_the_vocabulary(smoothing: float) -> None:
    logits, targets = torch.randn(4, 6), torch.tensor([0, 5, -100, 2])
    by_hand = [
        (1 - smoothing) * losses(row[None], torch.tensor([target]))[0]
        + smoothing * np.mean(losses(row.expand(6, 6), torch.arange(6)))
        for row, target in zip(logits, targets.tolist(), strict=True)
        if target != -100
    ]
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert_close(loss, np.mean(by_hand))
    assert_close(loss, torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing))


def test_the_gradient_of_cross_entropy_is_softmax_minus_one_hot_over_n() -> None:
    logits, targets = torch.randn(4, 6, dtype=torch.float64, requires_grad=True), torch.tensor([0, 5, 1, 2])
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, targets), logits)
    assert_close(gradient, (oracles.softmax(array(logits)) - np.eye(6)[targets]) / 4)
