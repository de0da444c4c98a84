"""Words' times: warping and filtering by their definitions, and what is done with punctuation and pauses."""

import random
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from glassformer.inference.word_times import WordTiming, fit, median_filter, merge_punctuation, standardised, warp
from support.counts import count


def cheapest(cost: npt.NDArray[np.float64]) -> float:
    """The sum along the cheapest path, one cell after the other."""
    n, m = cost.shape
    total = np.full((n, m), np.inf)
    for i, j in np.ndindex(n, m):
        before = [total[a, b] for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        total[i, j] = cost[i, j] + min(before, default=0.0)
    return float(total[-1, -1])


def test_the_path_is_whole_and_no_path_is_cheaper() -> None:
    choose = np.random.default_rng(0)
    for _ in range(count("matrices to warp")):
        cost = choose.normal(size=(choose.integers(1, 9), choose.integers(1, 30)))
        rows, columns = warp(cost)
        assert (rows[0], columns[0]) == (0, 0)
        assert (rows[-1] + 1, columns[-1] + 1) == cost.shape
        steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
        assert steps <= {(0, 1), (1, 0), (1, 1)}
        assert cost[rows, columns].sum() == pytest.approx(cheapest(cost))


def test_a_diagonal_of_gains_is_followed() -> None:
    rows, columns = warp(-np.eye(4).repeat(3, axis=1))
    assert {(j // 3, j) for j in range(12)} <= set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_the_median_of_each_neighbourhood_with_mirrored_ends() -> None:
    x = torch.randn(2, 3, 11)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3)), mode="reflect")
    expected = np.stack([np.median(padded[..., i : i + 7], axis=-1) for i in range(11)], axis=-1)
    np.testing.assert_array_equal(median_filter(x, 7), expected)
    short = torch.randn(2, 3)
    assert torch.equal(median_filter(short, 7), short)


def test_standardised_weights_have_mean_0_and_deviation_1_over_the_tokens() -> None:
    weights = torch.rand(2, 5, 7).double()
    weights[:, :, 3] = 0.25  # a moment at which all tokens look alike says nothing
    found = standardised(weights)
    torch.testing.assert_close(found.mean(-2), torch.zeros(2, 7).double())
    assert (found[:, :, 3] == 0).all()
    torch.testing.assert_close(found[:, :, 0].std(-1, correction=0), torch.ones(2).double())


def timed(*words: tuple[str, float, float]) -> list[WordTiming]:
    return [
        WordTiming(text=text, tokens=[i], start=float(a), end=float(b), probability=0.5)
        for i, (text, a, b) in enumerate(words)
    ]


def test_punctuation_goes_to_its_word() -> None:
    words = timed(
        (" (", 0, 0.1), ("one", 0.1, 0.3), (",", 0.3, 0.3), (" two", 0.3, 0.6), ("!", 0.6, 0.6), (")", 0.6, 0.7)
    )
    merge_punctuation(words)
    assert [(word.text, word.tokens, word.start) for word in words if word.text] == [
        (" (one,", [0, 1, 2], 0.1),
        (" two!)", [3, 4, 5], 0.3),
    ]


def test_a_word_at_the_end_of_a_sentence_does_not_take_in_the_pause() -> None:
    words = timed(
        (" a", 0, 0.3), (" b", 0.3, 0.6), (".", 0.6, 3.0), (" c", 3.0, 3.3), (".", 3.3, 3.4), (" d", 3.4, 9.0)
    )
    assert merge_punctuation(words) == pytest.approx(0.3)
    assert words[2].end == pytest.approx(1.2)
    assert words[5].start == pytest.approx(8.4)


def test_no_words_have_no_length() -> None:
    assert merge_punctuation([]) == 0.0
    assert merge_punctuation(timed((" a", 1.0, 1.0))) == 0.0


def test_every_word_lasts_some_time_and_words_follow_one_another() -> None:
    for seed in range(count("words to fit between two times")):
        choose = random.Random(seed)
        start = choose.randint(0, 10**6) / 100
        n_words = choose.randint(1, 30)
        end = start + 0.02 * n_words + choose.choice([0, 0.01, 1, 20])
        moments = sorted(
            choose.choices([start - 0.1, start, start + 0.1, (start + end) / 2, end, end + 0.3], k=n_words)
        )
        words = timed(*((f" {i}", a, b) for i, (a, b) in enumerate(pairwise([*moments, end]))))
        fit(words, start, end)
        assert all(word.end - word.start > 0.0185 for word in words)  # 20 ms, whose ends are rounded to 1 ms
        assert all(one.end <= other.start for one, other in pairwise(words))
        assert words[0].start >= start - 0.0006
        assert words[-1].end <= end + 0.0006
        assert all(len(str(time).partition(".")[2]) <= 3 for word in words for time in (word.start, word.end))


def test_words_that_have_time_enough_stay_where_they_are() -> None:
    words = timed((" a", 1.0, 1.5), (" b", 1.5, 1.5), (" c", 1.5, 2.0), (" d", 2.2, 3.0), (" e", 3.0, 3.0))
    fit(words, 1.0, 3.0)
    assert [(word.start, word.end) for word in words] == [
        (1.0, 1.5),
        (1.5, 1.52),
        (1.52, 2.0),
        (2.2, 2.98),
        (2.98, 3.0),
    ]
