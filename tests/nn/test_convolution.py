"""Convolution along a sequence: torch's, and the sum that defines it."""

import random

import numpy as np
import torch

from glassformer.nn.convolution import Conv1d, conv1d
from glassformer.twins import use
from support.counts import count
from support.tolerances import assert_close


def test_it_is_the_sum_over_windows() -> None:
    x, weight, bias = torch.randn(2, 7, 3), torch.randn(4, 3, 5), torch.randn(4)
    stride, padding = 2, 3
    padded = np.pad(x.double().numpy(), ((0, 0), (padding, padding), (0, 0)))
    expected = np.zeros((2, (7 + 2 * padding - 5) // stride + 1, 4))
    for b, t, out in np.ndindex(expected.shape):
        expected[b, t, out] = float(bias[out]) + sum(
            float(weight[out, c, k]) * padded[b, stride * t + k, c] for c in range(3) for k in range(5)
        )
    for mode in ("readable", "fast"):
        with use(mode):
            assert_close(conv1d(x, weight, bias, stride, padding), expected)


def test_it_is_the_convolution_of_torch() -> None:
    choose = random.Random(0)
    for _ in range(count("convolutions")):
        d_in, d_out, width, stride = (choose.randint(1, 5) for _ in range(4))
        layer = Conv1d(d_in, d_out, width=width, stride=stride, padding=choose.randint(0, 3)).double()
        torch.nn.init.normal_(layer.bias)
        x = torch.randn(choose.randint(1, 3), choose.randint(width, 12), d_in, dtype=torch.float64)
        expected = torch.nn.functional.conv1d(x.mT, layer.weight, layer.bias, stride, layer.padding).mT
        for mode in ("readable", "fast"):
            with use(mode):
                assert_close(layer(x), expected)


def test_a_text_moved_by_one_stride_gives_the_result_moved_by_one() -> None:
    layer = Conv1d(3, 4, width=3, stride=2)
    x = torch.randn(1, 12, 3)
    assert_close(layer(x[:, 2:]), layer(x)[:, 1:])


def test_its_weights_keep_the_variance_of_what_comes_in() -> None:
    layer = Conv1d(200, 600, width=3)
    assert abs(layer(torch.randn(4, 50, 200)).std() - 1) < 0.05
    assert (layer.bias == 0).all()
