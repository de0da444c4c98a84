"""The pyramid of a block, against numpy's own means."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from glassformer.viewer.tiles import TILE, Pyramid, Pyramids, block_window, scale
from support.viewed import recorded

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    elements=st.floats(-100, 100, width=32),
)


@settings(max_examples=100)
@given(MATRICES, st.integers(0, 6))
def test_a_texel_is_the_mean_and_the_root_mean_square_of_its_patch(cells: np.ndarray, level: int) -> None:
    mean, rms = Pyramid(cells).tile(level, 0, 0)
    patch = 1 << level
    ny, nx = cells.shape
    assert mean.shape == rms.shape == (-(-ny // patch), -(-nx // patch))
    for y, x in np.ndindex(mean.shape):
        part = cells[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].astype(np.float64)
        assert math.isclose(mean[y, x], part.mean(), rel_tol=1e-5, abs_tol=1e-3)
        assert math.isclose(rms[y, x], np.sqrt((part * part).mean()), rel_tol=1e-5, abs_tol=1e-4)


def test_tiles_side_by_side_are_the_whole() -> None:
    cells = np.random.default_rng(0).standard_normal((300, 700), np.float32)
    pyramid = Pyramid(cells)
    rows = [np.hstack([pyramid.tile(0, x, y)[0] for x in range(0, 700, TILE)]) for y in range(0, 300, TILE)]
    assert np.array_equal(np.vstack(rows), cells)
    assert pyramid.tile(1, TILE, 0)[0].shape == (150, 350 - TILE)


def test_numbers_that_are_none_stay_visible() -> None:
    cells = np.ones((4, 4), np.float32)
    cells[0, 0], cells[3, 3] = np.nan, -np.inf
    mean, rms = Pyramid(cells).tile(1, 0, 0)
    assert np.isnan(mean[0, 0])
    assert mean[1, 1] == -np.inf
    assert rms[1, 1] == np.inf
    assert mean[0, 1] == 1


def test_a_tile_of_a_block_is_its_window() -> None:
    trace, scene = recorded("nano-sort")
    for block in scene.blocks:
        values, sizes = Pyramids().tile(trace, block, 0, 0, 0)
        cells = block_window(trace, block)[:TILE, :TILE]
        assert values.shape == cells.shape == (min(block.size[1], TILE), min(block.size[0], TILE))
        assert np.array_equal(values, cells.astype(np.float32))
        assert np.array_equal(sizes, np.abs(values))


def test_a_weight_that_training_has_changed_gets_a_new_pyramid() -> None:
    trace, scene = recorded("a wide vocabulary")
    block = next(block for block in scene.blocks if block.role == "up_weight")
    pyramids = Pyramids()
    before = pyramids.tile(trace, block, 2, 0, 0)[0].copy()
    weight = trace.parameters[block.tensor]
    with torch.no_grad():
        weight.add_(1.0)
        trace.versions[block.tensor] = weight._version
        assert np.allclose(pyramids.tile(trace, block, 2, 0, 0)[0], before + 1, atol=1e-6)
        weight.sub_(1.0)
        trace.versions[block.tensor] = weight._version


def test_a_scale_is_nearly_the_largest_size_and_ignores_what_is_no_number() -> None:
    numbers = np.linspace(-2, 1, 1001)
    assert 1.9 < scale(numbers) <= 2
    assert scale(np.array([np.nan, np.inf, -3.0])) == 3
    assert scale(np.zeros((3, 3))) == 0
    assert scale(np.empty((0, 2))) == 0
    assert scale(np.array([0.0] * 1000 + [5.0])) == 5
    assert scale(np.array([True, False])) == 1
    large = np.random.default_rng(0).standard_normal((1, 64, 20_000))
    assert abs(scale(large) - 2.8) < 0.2
