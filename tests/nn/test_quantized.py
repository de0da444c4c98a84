"""Quantized layers: each form computes what the weights that it stands for give, within what rounding allows."""

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.inference.quantize import to_int4, to_int8
from glassformer.kernels import quantized as kernels
from glassformer.nn import quantized, quantized_fast, threads
from glassformer.nn.quantized import QuantizedEmbedding
from glassformer.nn.quantized_matrix import GROUP, LevelKind, QuantizedMatrix, QuantizedRows
from glassformer.twins import use
from support.counts import count

KINDS: tuple[LevelKind, ...] = ("q8_0", "q4_0", "q4_1")


def random_rows(kind: LevelKind, shape: tuple[int, int], random: np.random.Generator) -> QuantizedRows:
    """Any levels and scales, of both signs as files may have them."""
    n_groups = -(-shape[1] // GROUP)
    bits = 8 if kind == "q8_0" else 4
    low, high, dtype = (-128, 128, np.int8) if bits == 8 else (0, 256, np.uint8)
    levels = random.integers(low, high, (shape[0], n_groups * GROUP * bits // 8)).astype(dtype)
    scale, offset = (random.normal(0, 0.1, (shape[0], n_groups)).astype(np.float16) for _ in range(2))
    return QuantizedRows(
        levels=torch.from_numpy(levels),
        scale=torch.from_numpy(scale),
        offset=torch.from_numpy(offset) if kind == "q4_1" else None,
        shape=shape,
    )


def weights_of(rows: QuantizedRows) -> np.ndarray:
    """The numbers in float64, by loops over blocks as ggml's documentation has them."""
    n_rows, n_columns = rows.shape
    levels, scale = rows.levels.numpy(), rows.scale.numpy().astype(np.float64)
    weights = np.zeros((n_rows, scale.shape[1] * GROUP))
    for g in range(scale.shape[1]):
        if rows.kind == "q8_0":
            block = levels[:, g * GROUP : (g + 1) * GROUP].astype(np.float64)
        else:
            data = levels[:, g * 16 : (g + 1) * 16]
            block = np.concatenate([data & 15, data >> 4], axis=1).astype(np.float64)
        if rows.kind == "q4_0":
            block -= 8
        weights[:, g * GROUP : (g + 1) * GROUP] = block * scale[:, g : g + 1]
        if rows.offset is not None:
            weights[:, g * GROUP : (g + 1) * GROUP] += rows.offset.numpy().astype(np.float64)[:, g : g + 1]
    return weights[:, :n_columns]


def rounding_of(x: np.ndarray) -> np.ndarray:
    """How far each number of x may be from what is multiplied: half a step of its group."""
    filled = np.pad(x, ((0, 0), (0, -x.shape[1] % GROUP)))
    steps = np.abs(filled.reshape(len(x), -1, GROUP)).max(2) / 127
    return np.repeat(steps / 2, GROUP, axis=1)[:, : x.shape[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_weights_within_the_rounding_of_x(kind: LevelKind) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    for _ in range(count("quantized matrices")):
        shape = int(random.integers(1, 90)), int(random.integers(1, 200))
        rows = random_rows(kind, shape, random)
        matrix, weights = QuantizedMatrix(rows), weights_of(rows)
        n = int(random.integers(1, 20))
        x = random.normal(0, 10.0 ** random.integers(-3, 4), (n, shape[1])).astype(np.float32)
        x[random.random(x.shape) < 0.2] = 0
        bias = torch.from_numpy(random.normal(size=shape[0]).astype(np.float32))
        exact = x.astype(np.float64) @ weights.T + bias.numpy()
        sizes = np.abs(x.astype(np.float64)) @ np.abs(weights).T + np.abs(bias.numpy())
        rounded = rounding_of(x.astype(np.float64)) @ np.abs(weights).T
        y = quantized.linear(torch.from_numpy(x), matrix, bias).numpy()
        assert (np.abs(y - exact) <= rounded * 1.0001 + sizes * 1e-5 + 1e-30).all()
        with use("readable"):
            readable = quantized.linear(torch.from_numpy(x), matrix, bias).numpy()
            wide = quantized.linear(torch.from_numpy(x).double(), matrix).numpy()
        assert (np.abs(readable - exact) <= sizes * 1e-5 + 1e-30).all()
        assert np.allclose(wide, exact - bias.numpy(), rtol=1e-12, atol=1e-12)
        for row in range(n):  # whoever else is multiplied
            assert np.array_equal(quantized.linear(torch.from_numpy(x[row]), matrix, bias).numpy(), y[row])


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_in_tiles_is_the_rows_that_it_was_made_of(kind: LevelKind) -> None:
    random = np.random.default_rng(3)
    for shape in ((1, 1), (16, 32), (17, 33), (50, 70)):
        rows = random_rows(kind, shape, random)
        again = QuantizedMatrix(rows).rows()
        assert again.kind == kind
        assert again.fault() == ""
        for name in ("levels", "scale", "offset"):
            before, after = getattr(rows, name), getattr(again, name)
            assert (before is None and after is None) or torch.equal(before, after)
        table = QuantizedMatrix(rows)
        tokens = torch.from_numpy(random.integers(0, shape[0], (2, 3)))
        assert torch.equal(QuantizedEmbedding(table)(tokens), table.dequantized()[tokens])
        assert np.allclose(table.dequantized(torch.float64).numpy(), weights_of(rows), rtol=1e-12, atol=0)


def fault(rows: QuantizedRows, **changes: object) -> str:
    parts: dict[str, object] = {name: getattr(rows, name) for name in ("levels", "scale", "offset", "shape")}
    return QuantizedRows(**{**parts, **changes}).fault()  # type: ignore[arg-type]


def test_parts_that_do_not_fit_are_named() -> None:
    rows = random_rows("q4_1", (5, 40), np.random.default_rng(4))
    assert fault(rows) == ""
    assert "levels" in fault(rows, levels=rows.levels[:, :-1])
    assert "levels" in fault(rows, levels=rows.levels.to(torch.int16))
    assert "scale" in fault(rows, scale=rows.scale.float())
    assert "offset" in fault(rows, offset=rows.offset[:4] if rows.offset is not None else None)
    assert "NaN" in fault(rows, scale=torch.full_like(rows.scale, torch.nan))
    assert fault(rows, levels=rows.levels.view(torch.int8)) != ""


def test_weights_are_rounded_to_the_nearest_level() -> None:
    torch.manual_seed(5)
    for scale in (1.0, 1e-3, 1e3):
        weight = torch.randn(20, 70) * scale
        weight[3] = 0
        weight[4, :32] = 0.25 * scale
        for quantize, levels in ((to_int8, 254), (to_int4, 15)):
            matrix = QuantizedMatrix(quantize(weight))
            groups = torch.cat([weight, weight.new_zeros(20, 26)], 1).view(20, 3, 32)
            span = 2 * groups.abs().amax(2) if levels == 254 else groups.amax(2) - groups.amin(2)
            step = (span / levels).repeat_interleave(32, 1)[:, :70]
            error = (matrix.dequantized() - weight).abs()
            half = 0.51 if levels == 254 else 2.0  # in 4 bits the extremes may be cut for the sake of the others
            of_scale = levels / 2 * 2.0**-25 + (levels == 15) * 2e-3 * scale  # which is float16, as is the offset
            assert (error <= half * step + of_scale).all()


def test_what_stands_in_4_bits_already_is_found_again() -> None:
    random = np.random.default_rng(6)
    rows = random_rows("q4_1", (32, 128), random)
    levels = rows.levels.view(32, 4, 16).clone()
    levels[:, :, 0] = 0xF0  # the least and the greatest level are in every group, as converters leave it
    rows = QuantizedRows(levels=levels.flatten(1), scale=rows.scale.abs() + 0.01, offset=rows.offset, shape=rows.shape)
    weight = QuantizedMatrix(rows).dequantized()
    again = QuantizedMatrix(to_int4(weight)).dequantized()
    assert (again - weight).abs().max() < 2e-3 * weight.abs().max()


def test_numbers_that_are_none_stay_none() -> None:
    matrix = QuantizedMatrix(to_int8(torch.randn(16, 64)))
    x = torch.randn(2, 64)
    x[1, 3] = torch.nan
    y = quantized.linear(x, matrix)
    assert y[0].isfinite().all()
    assert y[1].isnan().all()


def test_a_gradient_flows_to_x() -> None:
    torch.manual_seed(7)
    matrix = QuantizedMatrix(to_int8(torch.randn(16, 64)))
    x: Tensor = torch.randn(2, 64, requires_grad=True)
    quantized.linear(x, matrix).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, matrix.dequantized().sum(0).expand(2, -1), rtol=1e-4, atol=1e-5)


def test_another_precision_of_a_module_leaves_its_levels_and_scales() -> None:
    matrix = QuantizedMatrix(random_rows("q4_1", (20, 64), np.random.default_rng(0)))
    before, x = matrix.rows(), torch.randn(3, 64)
    y = quantized.linear(x, matrix)
    for change in (matrix.float, matrix.double, matrix.bfloat16, matrix.half, lambda: matrix.to("meta", torch.float64)):
        change()
        assert (matrix.scale.dtype, matrix.levels.dtype) == (torch.float16, torch.uint8)
        if matrix.scale.is_meta:
            continue
        assert torch.equal(matrix.rows().scale, before.scale)
        assert torch.equal(quantized.linear(x, matrix), y)


def test_each_number_of_threads_and_each_kind_of_them_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, bias = QuantizedMatrix(to_int8(torch.randn(50, 96))), torch.randn(50)
    monkeypatch.setattr(quantized_fast, "FOR_THREADS", 0)
    for n in (1, 3, 40):
        x, results = torch.randn(n, 96), []
        for n_threads, has_openmp in ((1, True), (2, True), (3, True), (2, False)):
            monkeypatch.setattr(torch, "get_num_threads", lambda n_threads=n_threads: n_threads)
            with monkeypatch.context() as patch:
                if not has_openmp:
                    patch.setattr(threads, "_openmp", lambda: None)
                results += [quantized_fast.product(x, matrix, bias) for _ in range(5)]
        assert all(torch.equal(each, results[0]) for each in results)


def test_a_thread_that_comes_late_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[Any] = []

    def noted(kernel: Any, callback: Any, places: Any, n_threads: int) -> None:
        kernel(places.ctypes.data)
        products.append((kernel, places))

    monkeypatch.setattr(quantized_fast, "run_together", noted)
    quantized_fast.product(torch.ones(3, 32), QuantizedMatrix(to_int8(torch.ones(32, 32))))
    ((kernel, places),) = products
    places[kernels.X : kernels.OUT + 1] = 0  # the memory has gone by then
    kernel(places.ctypes.data)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_has_threads_of_its_own() -> None:
    matrix, x, n = QuantizedMatrix(to_int8(torch.ones(32, 32))), torch.ones(1, 32), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantized_fast, "FOR_THREADS", 0)
        torch.set_num_threads(2)
        try:
            y = quantized_fast.product(x, matrix)
            time.sleep(0.05)  # the thread waits for more
            child = os.fork()
            if not child:
                signal.alarm(20)
                os._exit(0 if torch.equal(quantized_fast.product(x, matrix), y) else 1)
            assert os.waitpid(child, 0)[1] == 0
        finally:
            torch.set_num_threads(n)
