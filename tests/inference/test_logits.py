"""What each sampling setting does to a distribution."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.generate import limits_of
from glassformer.inference.logits import (
    USUAL,
    Sampling,
    distribution,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    sampling_of,
    usual_of_answers,
)

LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero().flatten().tolist()


def test_the_defaults_leave_the_model_s_distribution_alone():
    probs = distribution(LOGITS, None, Sampling())
    torch.testing.assert_close(probs, LOGITS.exp())


def test_temperature_divides_the_logits():
    probs = distribution(LOGITS, None, Sampling(temperature=0.5))
    squared = LOGITS.exp() ** 2
    torch.testing.assert_close(probs, squared / squared.sum())


def test_temperature_zero_takes_the_most_likely_token():
    assert distribution(LOGITS, None, Sampling(temperature=0.0)).tolist() == [[1, 0, 0, 0]]


def test_a_tiny_temperature_neither_overflows_nor_gives_nan():
    probs = distribution(LOGITS * 100, None, Sampling(temperature=1e-300))
    assert probs.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(("k", "expected"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3])])
def test_top_k_keeps_the_k_most_likely(k, expected):
    assert kept(keep_top_k(LOGITS, k)) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.5, [0]), (0.51, [0, 1]), (0.8, [0, 1]), (0.81, [0, 1, 2]), (0.01, [0])])
def test_top_p_keeps_the_smallest_set_whose_mass_reaches_p(p, expected):
    # 0.5 + 0.3 is 0.8 only up to rounding, so the bound is approached from below
    assert kept(keep_top_p(LOGITS, p - 1e-9)) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.05, [0, 1, 2, 3]), (0.11, [0, 1, 2]), (0.31, [0, 1]), (1.0, [0])])
def test_min_p_keeps_tokens_that_are_p_times_as_likely_as_the_best(p, expected):
    assert kept(keep_min_p(LOGITS, p)) == expected


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.floats(0.01, 1.0))
def test_top_p_agrees_with_a_plain_loop(values, p):
    logits = torch.tensor([values], dtype=torch.float64)
    probs = torch.softmax(logits, -1)[0]
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    expected, mass = [], 0.0
    for i in order:
        expected.append(i)
        mass += float(probs[i])
        if mass >= p:
            break
    found = kept(keep_top_p(logits, p))
    missing = set(expected) ^ set(found)
    assert all(abs(mass - p) < 1e-9 for _ in missing) or found == sorted(expected)


def test_repetition_penalty_makes_seen_tokens_less_likely_whatever_their_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalise_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda p: sum(p) > 0.1), st.floats(0, 1, exclude_max=True)
)
def test_draw_finds_the_stretch_that_the_number_falls_into_and_never_an_impossible_token(weights, uniform):
    probs = torch.tensor([weights], dtype=torch.float64)
    probs = probs / probs.sum()
    token = int(draw(probs, torch.tensor([uniform], dtype=torch.float64)))
    assert probs[0, token] > 0
    below = float(probs[0, :token].sum())
    assert below - 1e-9 <= uniform <= below + float(probs[0, token]) + 1e-9


def test_draw_follows_the_distribution():
    probs = LOGITS.exp().expand(20_000, -1)
    counts = draw(probs, torch.rand(20_000, dtype=torch.float64)).bincount(minlength=4) / 20_000
    assert (counts - LOGITS.exp()[0]).abs().max() < 0.015


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 2.0},
        {"top_p": math.nan},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises(GenerationError, match=next(iter(setting))):
        Sampling(**setting)


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_settings_like_others():
    theirs = Sampling(top_k=np.int64(2), top_p=np.float32(0.5), temperature=np.float64(0.5), seed=np.uint8(3))  # type: ignore[arg-type]
    assert theirs == Sampling(top_k=2, top_p=0.5, temperature=0.5, seed=3)
    assert type(theirs.seed) is int
    assert limits_of(np.int64(3), 2) == [3, 3]  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
def test_a_generation_config_says_how_tokens_are_chosen_and_the_rest_is_as_usual() -> None:
    assert sampling_of({}) == USUAL
    said = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": 7, "do_sample": True}
    assert sampling_of(said) == replace(USUAL, temperature=0.6, top_k=20, repetition_penalty=1.1)
    assert sampling_of({"do_sample": False, "temperature": 0.6}).temperature == 0
    assert sampling_of({"top_p": None}) == USUAL  # transformers writes what is not set so
    with pytest.raises(ConfigError, match=r"generation_config.json: top_k must be a whole number, not 'many'"):
        sampling_of({"top_k": "many"})


def test_an_answer_is_greedy_where_nothing_says_how_to_draw_it() -> None:
    for silent in ({}, {"top_p": None}, {"seed": 3}, {"repetition_penalty": 1.1, "eos_token_id": 7}):
        assert usual_of_answers({}, silent).temperature == 0
        assert usual_of_answers(silent).temperature == 0
    for says in ({"top_p": 0.9}, {"temperature": 0.6}, {"top_k": 20}, {"min_p": 0.1}, {"do_sample": True}):
        assert usual_of_answers({}, says) == usual_of_answers(says, {}) == USUAL
