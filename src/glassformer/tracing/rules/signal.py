"""Fourier transforms: sums of the signal with the roots of unity."""

import numpy as np

from glassformer.tracing.formula import Formula, Number, call, times, total
from glassformer.tracing.rules.rule import Step, rule
from glassformer.tracing.trace import Index


@rule("_fft_r2c", "_fft_c2c")
def fft(step: Step, index: Index) -> Formula:
    """∑ₙ xₙ exp(∓2πi kn / N), over each of the axes."""
    dims = step.dims()
    run = step.along("self", index, dims)
    sign = 1 if step.arguments.get("forward") is False else -1
    sizes = [step.shape("self")[axis] for axis in dims]
    grid = step.grid(sizes)
    turns = sum(index[axis] * n / size for axis, n, size in zip(dims, grid, sizes, strict=True))
    return _normalised(step, total(times(run, Number(np.exp(sign * 2j * np.pi * turns), "ω"))), int(np.prod(sizes)))


@rule("_fft_c2r")
def inverse_fft(step: Step, index: Index) -> Formula:
    """The real signal of which these are the first half of the frequencies."""
    (dim,) = step.dims()
    size = step["last_dim_size"]
    run = step.along("self", index, [dim])
    k = np.arange(run.value.shape[-1])
    twice = np.where((k == 0) | (2 * k == size), 1, 2)  # the other half mirrors this one
    roots = Number(twice * np.exp(2j * np.pi * k * index[dim] / size), "ω")
    return _normalised(step, call("Re", total(times(run, roots))), size)


def _normalised(step: Step, made: Formula, size: int) -> Formula:
    scale = {0: 1.0, 1: size**-0.5, 2: 1 / size}[step["normalization"]]
    return made if scale == 1 else times(made, scale)
