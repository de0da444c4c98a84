"""The course's requirements on loss, optimizer, schedule, clipping, batches, checkpoints and decoding."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cs336 import adapters
from glassformer.inference.logits import Sampling, distribution
from glassformer.nn import functional as F
from glassformer.twins import Mode, use
from support.tolerances import COURSE, assert_close

# Loss


@pytest.mark.parametrize("scale", [1.0, 1000.0, 10_000.0])
def test_cross_entropy_is_the_mean_log_sum_exp_form_at_any_scale(scale: float) -> None:
    logits, targets = torch.randn(8, 5) * scale, torch.randint(5, (8,))
    loss = adapters.run_cross_entropy(logits, targets)
    assert_close(loss, nn.functional.cross_entropy(logits.double(), targets), COURSE)


def test_cross_entropy_by_hand() -> None:
    """Probabilities 1/4 and 3/4: −(ln ¼ + ln ¾) / 2."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = adapters.run_cross_entropy(logits, torch.tensor([0, 1]))
    assert_close(loss, (math.log(4) - math.log(0.75)) / 2, COURSE)
    assert_close(loss.exp(), 4 / math.sqrt(3), COURSE)  # perplexity


def test_cross_entropy_takes_any_batch_axes() -> None:
    logits, targets = torch.randn(2, 3, 4, 5), torch.randint(5, (2, 3, 4))
    with use("readable"):
        assert_close(
            F.cross_entropy(logits, targets), adapters.run_cross_entropy(logits.flatten(0, 2), targets.flatten())
        )


# Optimizer


def problem() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    torch.manual_seed(1)
    x, y = torch.randn(20, 3), torch.randn(20, 2)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), lambda model: (model(x) - y).square().mean()


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_goes_the_way_of_torchs_adamw(mode: Mode, decay: float) -> None:
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": decay}
    ends = []
    for cls in (adapters.get_adamw_cls(), torch.optim.AdamW):
        model, loss = problem()
        optimizer = cls(model.parameters(), **settings)
        assert isinstance(optimizer, torch.optim.Optimizer)
        with use(mode):
            for _ in range(200):
                optimizer.zero_grad()
                loss(model).backward()
                optimizer.step()
        ends.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-4)


def test_the_first_step_of_adamw_by_hand() -> None:
    """At t = 1 the corrected moments are g and g²: a step of lr · sign(g), and lr · λ of the weight decays."""
    weight = nn.Parameter(torch.tensor([2.0, -1.0]))
    weight.grad = torch.tensor([0.5, -3.0])
    with use("readable"):
        adapters.get_adamw_cls()([weight], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.5).step()
    assert_close(weight, [2.0 - 0.1 * 0.5 * 2.0 - 0.1, -1.0 + 0.1 * 0.5 * 1.0 + 0.1], COURSE)


@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_adamw_skips_parameters_without_gradient_and_takes_groups(mode: Mode) -> None:
    moved, still, slow = (nn.Parameter(torch.ones(3)) for _ in range(3))
    moved.grad, slow.grad = torch.ones(3), torch.ones(3)
    groups = [{"params": [moved, still]}, {"params": [slow], "lr": 1e-3, "weight_decay": 0.0}]
    optimizer = adapters.get_adamw_cls()(groups, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    with use(mode):
        optimizer.step()
    assert torch.equal(still, torch.ones(3))
    assert_close(moved, torch.full((3,), 0.9), COURSE)
    assert_close(slow, torch.full((3,), 0.999), COURSE)


# Schedule


def test_the_schedule_rises_falls_along_half_a_cosine_and_stays() -> None:
    rates = [adapters.run_get_lr_cosine_schedule(t, 1.0, 0.1, 4, 12) for t in range(15)]
    rising = [0.0, 0.25, 0.5, 0.75]
    falling = [0.1 + 0.45 * (1 + math.cos(math.pi * k / 8)) for k in range(9)]
    np.testing.assert_allclose(rates, [*rising, *falling, 0.1, 0.1], atol=1e-12)
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)


def test_the_schedule_without_warmup_begins_at_the_highest_rate() -> None:
    assert adapters.run_get_lr_cosine_schedule(0, 1.0, 0.1, 0, 10) == 1.0
    assert adapters.run_get_lr_cosine_schedule(5, 1.0, 0.1, 0, 10) == pytest.approx(0.55)
    assert adapters.run_get_lr_cosine_schedule(7, 1.0, 0.1, 7, 7) in (1.0, 0.1)  # no division by zero


# Clipping


def with_gradients(*gradients: Tensor | None) -> list[nn.Parameter]:
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(()) if gradient is None else torch.zeros_like(gradient))
        parameter.grad = gradient
        parameters.append(parameter)
    return parameters


def test_clipping_scales_all_gradients_by_one_factor_in_place() -> None:
    """Norm √(9 + 16 + 144) = 13."""
    one, other = torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])
    parameters = with_gradients(one, None, other)
    adapters.run_gradient_clipping(iter(parameters), 1.0)
    assert parameters[0].grad is one
    assert parameters[1].grad is None
    assert_close(one, [3 / (13 + 1e-6), 4 / (13 + 1e-6)], COURSE)
    assert_close(other, [[12 / (13 + 1e-6)]], COURSE)


def test_clipping_is_torchs() -> None:
    gradients = [torch.randn(5, 5), torch.randn(3)]
    ours, theirs = (with_gradients(*(gradient.clone() for gradient in gradients)) for _ in range(2))
    adapters.run_gradient_clipping(ours, 0.01)
    nn.utils.clip_grad_norm_(theirs, 0.01)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one.grad, other.grad, COURSE)


def test_gradients_below_the_bound_stay_untouched() -> None:
    gradient = torch.tensor([0.3, 0.4])
    before = gradient.clone()
    adapters.run_gradient_clipping(with_gradients(gradient), 0.6)
    assert torch.equal(gradient, before)
    adapters.run_gradient_clipping(with_gradients(None), 1.0)


# Batches


def test_a_batch_is_two_long_tensors_the_second_one_token_on() -> None:
    x, y = adapters.run_get_batch(np.arange(100), 32, 7, "cpu")
    assert x.shape == y.shape == (32, 7)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(y, x + 1)
    assert torch.equal(x, x[:, :1] + torch.arange(7))


def test_every_start_up_to_the_last_possible_one_is_equally_likely() -> None:
    starts = np.concatenate([adapters.run_get_batch(np.arange(17), 100, 7, "cpu")[0][:, 0].numpy() for _ in range(100)])
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10  # 0 … 17 − 7 − 1
    assert (np.abs(counts - 1000) < 5 * math.sqrt(1000 * 0.9)).all()


def test_the_shortest_possible_text_has_one_stretch() -> None:
    x, y = adapters.run_get_batch(np.array([4, 5, 6]), 3, 2, "cpu")
    assert x.tolist() == [[4, 5]] * 3
    assert y.tolist() == [[5, 6]] * 3


def test_a_memory_mapped_uint16_file_is_read(tmp_path: Path) -> None:
    np.arange(60_000, 60_100, dtype=np.uint16).tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.uint16, mode="r")
    x, y = adapters.run_get_batch(mapped, 8, 5, "cpu")
    assert (x >= 60_000).all()
    assert torch.equal(y, x + 1)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises((RuntimeError, AssertionError), match=r"(?i)cuda"):
        adapters.run_get_batch(np.arange(100), 2, 5, "cuda:99")


# Checkpoints


@pytest.mark.parametrize("where", ["path", "text", "file"])
@pytest.mark.usefixtures("unchecked")  # the type checker does not take a BytesIO for a BinaryIO
def test_a_checkpoint_brings_model_optimizer_and_iteration_back_exactly(where: str, tmp_path: Path) -> None:
    def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
        model, loss = problem()
        optimizer = adapters.get_adamw_cls()(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)

        def step() -> None:
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()

        for _ in range(steps):
            step()
        return model, optimizer, step

    model, optimizer, step = trained(5)
    buffer = io.BytesIO()
    place: Any = {"path": tmp_path / "a.pt", "text": str(tmp_path / "a.pt"), "file": buffer}[where]
    adapters.run_save_checkpoint(model, optimizer, 5, place)
    buffer.seek(0)
    other, its_optimizer, its_step = trained(0)
    assert adapters.run_load_checkpoint(place, other, its_optimizer) == 5
    for _ in range(3):  # the moments and the count of steps came back too
        step()
        its_step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


# Decoding


def test_temperature_zero_is_greedy_and_a_small_one_nearly_so() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert distribution(logits, None, Sampling(temperature=0.0)).tolist() == [[0.0, 1.0, 0.0]]
    assert distribution(logits, None, Sampling(temperature=0.01))[0, 1] > 1 - 1e-12
    halved = torch.softmax(logits.double() / 0.5, -1)
    assert_close(distribution(logits, None, Sampling(temperature=0.5)), halved)


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.4, [1.0, 0, 0, 0]), (0.6, [5 / 8, 3 / 8, 0, 0]), (0.9, [10 / 19, 6 / 19, 3 / 19, 0]), (1.0, None)],
)
def test_top_p_keeps_the_smallest_set_of_likely_tokens_that_reaches_p(p: float, kept: list[float] | None) -> None:
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    out = distribution(probs.log(), None, Sampling(top_p=p))
    assert_close(out, probs if kept is None else [kept])
