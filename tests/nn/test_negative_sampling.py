"""Negative sampling against its equations in numpy."""

import numpy as np
import torch

from glassformer.nn.negative_sampling import keep_probability, log_sigmoid, negative_sampling_loss, noise
from support.oracles import array
from support.tolerances import assert_close


def test_the_loss_is_equation_4() -> None:
    positive, negative = torch.randn(5, dtype=torch.float64) * 3, torch.randn(5, 4, dtype=torch.float64) * 3
    p, n = array(positive), array(negative)
    losses = [
        -np.log(1 / (1 + np.exp(-p[i]))) - sum(np.log(1 / (1 + np.exp(n[i, k]))) for k in range(4)) for i in range(5)
    ]
    assert_close(negative_sampling_loss(positive, negative), np.mean(losses))
    assert_close(negative_sampling_loss(positive, negative, "sum"), np.sum(losses))


def test_log_sigmoid_and_its_gradient_are_torchs_and_overflow_nowhere() -> None:
    x = torch.tensor([-1e4, -100.0, -1.0, 0.5, 1.0, 100.0, 1e4], dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.logsigmoid(x)
    found = log_sigmoid(x)
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0])


def test_noise_raises_the_share_of_rare_words() -> None:
    found = noise(torch.tensor([81, 16, 0]))
    assert_close(found, np.array([27, 8, 0]) / 35)


def test_frequent_words_are_kept_as_equation_5_says() -> None:
    counts = torch.tensor([9_000, 999, 1])
    assert_close(keep_probability(counts, 0.01), [np.sqrt(0.01 / 0.9), np.sqrt(0.01 / 0.0999), 1.0])
