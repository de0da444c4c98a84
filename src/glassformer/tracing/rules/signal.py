"""Fourier transforms: sums of the signal with the roots of unity."""

import numpy as np

from glassformer.tracing.formula import Formula, Number, call, times, total
from glassformer.tracing.rules.rule import BoundOperation, rule
from glassformer.tracing.trace import Index


@rule("_fft_r2c", "_fft_c2c")
def fft(op: BoundOperation, index: Index) -> Formula:
    """∑ₙ xₙ exp(∓2πi kn / N), over each of the axes."""
    dims = op.dims()
    run = op.along("self", index, dims)
    sign = 1 if op.arguments.get("forward") is False else -1
    sizes = [op.shape("self")[axis] for axis in dims]
    grid = op.grid(sizes)
    turns = sum(index[axis] * n / size for axis, n, size in zip(dims, grid, sizes, strict=True))
    return _normalised(op, total(times(run, Number(np.exp(sign * 2j * np.pi * turns), "ω"))), int(np.prod(sizes)))


@rule("_fft_c2r")
def inverse_fft(op: BoundOperation, index: Index) -> Formula:
    """The real signal of which these are the first half of the frequencies."""
    (dim,) = op.dims()
    size = op["last_dim_size"]
    run = op.along("self", index, [dim])
    k = np.arange(run.value.shape[-1])
    twice = np.where((k == 0) | (2 * k == size), 1, 2)  # the other half mirrors this one
    roots = Number(twice * np.exp(2j * np.pi * k * index[dim] / size), "ω")
    return _normalised(op, call("Re", total(times(run, roots))), size)


def _normalised(op: BoundOperation, transform: Formula, size: int) -> Formula:
    scale = {0: 1.0, 1: size**-0.5, 2: 1 / size}[op["normalization"]]
    return transform if scale == 1 else times(transform, scale)
