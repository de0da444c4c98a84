"""Sinusoidal positions against the paper's formula in numpy float64."""

import numpy as np
import pytest
import torch

from glassformer.nn.position import sinusoidal
from support.tolerances import assert_close


def formula(position: int, i: int, d_model: int) -> float:
    angle = position / 10_000 ** (2 * (i // 2) / d_model)
    return float(np.sin(angle) if i % 2 == 0 else np.cos(angle))


@pytest.mark.parametrize("d_model", [1, 2, 5, 16, 512])
def test_sinusoidal_positions_are_the_papers_formula(d_model: int) -> None:
    positions = torch.tensor([0, 1, 2, 77, 5_000, 100_000])
    expected = [[formula(p, i, d_model) for i in range(d_model)] for p in positions.tolist()]
    assert_close(sinusoidal(positions, d_model), torch.tensor(expected))


@pytest.mark.parametrize("d_model", [1, 2, 5, 16])
def test_halves_are_all_sines_and_then_all_cosines(d_model: int) -> None:
    positions = torch.tensor([0, 3, 512])
    interleaved = sinusoidal(positions, d_model)
    halves = sinusoidal(positions, d_model, "halves")
    assert torch.equal(halves, torch.cat([interleaved[:, 0::2], interleaved[:, 1::2]], dim=-1))


@pytest.mark.parametrize("d_model", [4, 6, 128])
def test_tensor2tensors_last_wavelength_is_10000(d_model: int) -> None:
    positions = np.array([0, 1, 2, 77, 1499])
    step = np.log(10_000) / (d_model // 2 - 1)  # as get_timing_signal_1d of tensor2tensor has it
    angles = positions[:, None] * np.exp(-step * np.arange(d_model // 2))
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    assert_close(sinusoidal(torch.from_numpy(positions), d_model, "tensor2tensor"), expected)


def test_positions_come_in_any_order_and_batch_shape() -> None:
    positions = torch.tensor([[3, 0], [0, 9]])
    encoded = sinusoidal(positions, 6)
    assert encoded.shape == (2, 2, 6)
    assert torch.equal(encoded[0, 1], encoded[1, 0])
    assert torch.equal(encoded[1, 1], sinusoidal(torch.tensor([9]), 6)[0])


def test_a_shift_of_position_is_a_rotation_of_each_pair_that_does_not_depend_on_the_position() -> None:
    """§3.5: PE(p + k) is a linear function of PE(p)."""
    near, far = sinusoidal(torch.arange(8), 4), sinusoidal(torch.arange(8) + 5, 4)
    products = (near[:, 0::2] * far[:, 0::2] + near[:, 1::2] * far[:, 1::2]).mT  # cos of the turn, for each pair
    assert_close(products, products[:, :1].expand(2, 8))
