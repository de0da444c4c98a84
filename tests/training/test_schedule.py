"""Learning rates, against numbers worked out by hand and against torch's own schedules."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.training.schedule import constant, noam, warmup_cosine


def test_warmup_cosine_has_the_course_s_values() -> None:
    rates = [warmup_cosine(step, 1.0, 0.1, 7, 21) for step in range(25)]
    assert rates[:8] == pytest.approx([step / 7 for step in range(8)])
    assert rates[14] == pytest.approx(0.1 + 0.9 / 2)
    assert rates[8] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 14)))
    assert rates[21:] == pytest.approx([0.1] * 4)


@given(
    warmup=st.integers(0, 50), cosine=st.integers(1, 200), highest=st.floats(1e-6, 1), share=st.floats(0, 1)
)  # fmt: skip
def test_warmup_cosine_rises_then_falls_between_its_bounds(
    warmup: int, cosine: int, highest: float, share: float
) -> None:
    lowest = highest * share
    rates = [warmup_cosine(step, highest, lowest, warmup, warmup + cosine) for step in range(warmup + cosine + 2)]
    assert all(a <= b for a, b in pairwise(rates[: warmup + 1]))
    assert all(a >= b - 1e-15 for a, b in pairwise(rates[warmup:]))
    assert rates[warmup] == pytest.approx(highest)
    assert rates[-1] == lowest


def test_warmup_cosine_equals_torch_s_annealing() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.03)
    for step in range(41):
        assert warmup_cosine(step, 0.3, 0.03, 0, 40) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_no_warmup_and_no_cosine_divide_by_nothing() -> None:
    assert warmup_cosine(0, 1.0, 0.1, 0, 10) == 1.0
    assert warmup_cosine(5, 1.0, 0.1, 5, 5) == 0.1
    assert constant(0, 1.0, 0) == 1.0


def test_noam_is_the_paper_s_equation_and_peaks_after_the_warmup() -> None:
    rates = [noam(step, 512, 4000) for step in range(1, 20_000)]
    assert max(rates) == rates[3999] == pytest.approx(512**-0.5 * 4000**-0.5)
    assert rates[99] == pytest.approx(512**-0.5 * 100 * 4000**-1.5)
    assert rates[15_999] == pytest.approx(512**-0.5 * 16_000**-0.5)
    assert noam(0, 512, 4000) == 0
    assert noam(1, 512, 0, factor=2.0) == pytest.approx(2 * 512**-0.5)


def test_constant_rises_and_stays() -> None:
    assert [constant(step, 2.0, 4) for step in range(7)] == [0, 0.5, 1, 1.5, 2, 2, 2]
