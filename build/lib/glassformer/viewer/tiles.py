"""The numbers of a block: as they are, and as a pyramid of ever coarser texels for drawing it from afar.

A texel of level n stands for a patch of 2ⁿ × 2ⁿ cells: its mean, and the root of its mean square, since the mean of
weights is nearly zero and would make every matrix grey. A patch at the border has the cells that there are.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import torch

from glassformer.tracing.trace import Trace
from glassformer.viewer.scene import Block

MAX_BYTES = 256 << 20  # of pyramids that are kept, as far as they hold numbers of their own
TILE = 256  # texels along an edge, at most
SAMPLE = 1 << 14  # numbers that a scale is estimated from


def block_window(trace: Trace, block: Block) -> np.ndarray:
    """A block's cells in place, row by row: [y, x]; bfloat16, which numpy lacks, is widened to float32."""
    window = torch.empty(0, dtype=getattr(torch, block.dtype))
    window.set_(trace.storages[block.storage].bytes, block.offset, block.size[::-1], block.strides[::-1])
    array: np.ndarray = (window.float() if window.dtype == torch.bfloat16 else window).numpy()
    return array


class Pyramids:
    """The pyramids of a session, as many as fit; what is asked for again and again is made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Pyramid] = OrderedDict()

    def tile(self, trace: Trace, block: Block, level: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        """At most TILE × TILE texels from texel (x, y) on, float32: their means, and their roots of mean squares."""
        cells = block_window(trace, block)
        version = trace.versions.get(block.tensor)  # of a weight, which training changes in place
        storage = trace.storages[block.storage].bytes
        key = (storage._cdata, block.offset, block.strides, cells.shape, cells.dtype, version)
        with self._lock:
            pyramid = self._kept.pop(key, None) or Pyramid(cells)
            self._kept[key] = pyramid  # now the newest; it keeps the cells alive, and so their address
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > MAX_BYTES:
                self._kept.popitem(last=False)
        return pyramid.tile(level, x, y)


class Pyramid:
    """The levels of one window, each made from the one below when it is first asked for."""

    def __init__(self, cells: np.ndarray) -> None:
        self.cells = cells
        self._levels: list[tuple[np.ndarray, np.ndarray]] = []  # from level 1 on: means, and mean squares

    @property
    def nbytes(self) -> int:
        own = self.cells.nbytes if self.cells.base is None else 0
        return own + sum(mean.nbytes + square.nbytes for mean, square in self._levels)

    def tile(self, level: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Pyramids` gives it."""
        here = slice(y, y + TILE), slice(x, x + TILE)
        if level == 0:
            numbers = _real(self.cells[here]).astype(np.float32)
            return numbers, np.abs(numbers)
        mean, square = self._level(level)
        return mean[here].astype(np.float32), np.sqrt(square[here]).astype(np.float32)

    def _level(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        while len(self._levels) < level:
            if self._levels:
                mean, square = self._levels[-1]
            else:
                mean = _real(self.cells).astype(np.float32)
                square = np.square(mean, dtype=np.float64)
            below = len(self._levels)
            counts = _counts(self.cells.shape, below)
            self._levels.append((_halved(mean, counts), _halved(square, counts)))
        return self._levels[level - 1]


def _counts(shape: tuple[int, ...], level: int) -> tuple[np.ndarray, np.ndarray]:
    """How many cells a texel of a level has along y and along x: 2ⁿ, the last one perhaps fewer."""
    patch = 1 << level
    y, x = (np.diff([*range(0, n, patch), n]).astype(np.float64) for n in shape)
    return y, x


def _halved(of: np.ndarray, counts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Means over 2 × 2 texels, each weighing as many cells as it has."""
    for axis, count in enumerate(counts):
        weight = count if axis else count[:, None]
        starts = np.arange(0, of.shape[axis], 2)
        total = np.add.reduceat(of * weight, starts, axis=axis)
        area = np.add.reduceat(count, starts)
        of = total / (area if axis else area[:, None])
    return of


def _real(cells: np.ndarray) -> np.ndarray:
    return np.abs(cells) if np.iscomplexobj(cells) else cells


def scale(numbers: np.ndarray) -> float:
    """The 99.5th percentile of |x| over the finite ones, 0 where all are 0; of large arrays from a part of them."""
    for axis in sorted(range(numbers.ndim), key=lambda axis: -numbers.shape[axis]):
        step = max(1, min(numbers.shape[axis], numbers.size // SAMPLE))
        numbers = numbers[(slice(None),) * axis + (slice(None, None, step),)]
    sizes = np.abs(numbers).astype(np.float64).ravel()
    sizes = sizes[np.isfinite(sizes)]
    if not sizes.size:
        return 0.0
    high = float(np.percentile(sizes, 99.5, method="higher"))
    return high if high > 0 else float(sizes.max())
