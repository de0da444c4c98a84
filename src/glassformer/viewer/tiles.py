"""The numbers of a block: as they are, and as a pyramid of ever coarser texels for drawing it from afar.

A texel of level n stands for a patch of 2ⁿ × 2ⁿ cells: its mean, and the root of its mean square, since the mean of
weights is nearly zero and would make every matrix grey. A patch at the border has the cells that there are.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from glassformer.torch_internals import storage_key
from glassformer.tracing.trace import Trace, widened
from glassformer.viewer.scene import Block

MAX_BYTES = 256 << 20  # of pyramids that are kept, as far as they hold numbers of their own
TILE = 256  # texels along an edge, at most
FEW = 4  # the level whose patches are summed cell by cell
SAMPLE = 1 << 14  # numbers that a scale is estimated from


def block_window(trace: Trace, block: Block) -> np.ndarray:
    """A block's cells in place, row by row: [y, x]; bfloat16, which numpy lacks, is widened to float32."""
    window = torch.empty(0, dtype=getattr(torch, block.dtype))
    window.set_(trace.storages[block.storage].bytes, block.offset, block.size[::-1], block.strides[::-1])
    array: np.ndarray = widened(window).numpy()
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
        key = (storage_key(storage), block.offset, block.strides, cells.shape, cells.dtype, version)
        with self._lock:
            pyramid = self._kept.pop(key, None) or Pyramid(cells)
            self._kept[key] = pyramid  # now the newest; it keeps the cells alive, and so their address
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > MAX_BYTES:
                self._kept.popitem(last=False)
        return pyramid.tile(level, x, y)


class Pyramid:
    """The levels of one window, each made when it is first asked for."""

    def __init__(self, cells: np.ndarray) -> None:
        self.cells = cells
        self._levels: dict[int, Tensor] = {}  # of the patches of a level the sums of cells, and of their squares

    @property
    def nbytes(self) -> int:
        """The memory that its levels take, and its cells where they are a copy."""
        own = self.cells.nbytes if self.cells.base is None else 0
        return own + sum(sums.nbytes for sums in self._levels.values())

    def tile(self, level: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Pyramids` gives it."""
        here = slice(y, y + TILE), slice(x, x + TILE)
        if level == 0:
            numbers = _real(self.cells[here]).astype(np.float32)
            return numbers, np.abs(numbers)
        tall, wide = (_counts(n, level)[part] for n, part in zip(self.cells.shape, here, strict=True))
        mean, mean_square = (self._sums(level)[:, *here] / (tall[:, None] * wide)).float()
        return mean.numpy(), mean_square.sqrt().numpy()

    def _sums(self, level: int) -> Tensor:
        """Sums of many numbers are made of sums of few, so that float32 is wide enough for the many."""
        if level not in self._levels:
            if level > FEW:
                sums = _patches(self._sums(FEW), level - FEW)
            else:
                cells = torch.from_numpy(np.ascontiguousarray(_real(self.cells), np.float32))
                sums = torch.stack([_patches(each[None], level)[0] for each in (cells, cells * cells)]).double()
            self._levels[level] = sums
        return self._levels[level]


def _patches(of: Tensor, level: int) -> Tensor:
    """The sums over patches of 2ⁿ × 2ⁿ, those at the border perhaps smaller."""
    return torch.nn.functional.avg_pool2d(of, 1 << level, ceil_mode=True, divisor_override=1)


def _counts(n: int, level: int) -> Tensor:
    """How many cells the patches of a level have along an axis: 2ⁿ, the last one perhaps fewer."""
    starts = torch.arange(0, n, 1 << level)
    return (n - starts).clamp(max=1 << level)


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
    rank = math.ceil(0.995 * (sizes.size - 1))
    high = float(np.partition(sizes, rank)[rank])
    return high if high > 0 else float(sizes.max())
