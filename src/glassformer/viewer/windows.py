"""How a tensor of any shape becomes rectangles of cells: windows of two axes, with more than two axes one per slice.

The last two axes are seen, x being the one before the last, as with tokens and their features; a weight is seen with
its inputs along x and its outputs along y. Axes before them are counted through. Where that would be too many slices,
axes are folded into one where the strides allow it.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from glassformer.tracing.trace import TensorRecord

MAX_SLICES = 64
MOST_SLICES = 1024  # where strides do not allow fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWindow:
    """Cells (i, j) at element `offset` + i · strides[0] + j · strides[1] of a storage; i runs along x, j along y."""

    offset: int
    strides: tuple[int, int]
    size: tuple[int, int]
    start: tuple[int, int] = (0, 0)  # which cell of the whole axis the first one is, where the axis is cut into panels
    index: str = ""  # of the slice, "[0,1]"
    head: int | None = None

    def turned(self) -> "CellWindow":
        """x and y exchanged."""
        return replace(self, strides=self.strides[::-1], size=self.size[::-1], start=self.start[::-1])

    def cut(
        self, axis: int, begin: int, end: int, *, keep_start: bool = False, head: int | None = None
    ) -> "CellWindow":
        """The cells from `begin` up to `end` along x (0) or y (1)."""
        size, start = list(self.size), list(self.start)
        size[axis] = end - begin
        start[axis] = begin if keep_start else 0
        index = ["", ""]
        index[1 - axis], index[axis] = ":", f"{begin}:{end}"
        return replace(
            self,
            offset=self.offset + begin * self.strides[axis],
            size=(size[0], size[1]),
            start=(start[0], start[1]),
            index=f"[{begin}:{end}]" if 1 in self.size else f"[{index[1]},{index[0]}]",
            head=self.head if head is None else head,
        )


def windows(record: TensorRecord) -> list[CellWindow]:
    """All cells of a tensor, as few windows as MAX_SLICES asks for where its strides allow that.

    None of a tensor that would be more than MOST_SLICES.
    """
    shape, strides = list(record.shape), list(record.strides)
    is_weight = record.kind in ("weight", "buffer")
    if len(shape) < 2:
        column = CellWindow(offset=record.offset, strides=(0, *strides, 0)[:2], size=(1, *shape, 1)[:2])  # type: ignore[arg-type]
        return [column if is_weight else column.turned()]
    while len(shape) > 2 and math.prod(shape[:-2]) > MAX_SLICES and _fold(shape, strides):
        pass
    if math.prod(shape[:-2]) > MOST_SLICES:
        return []
    cell_windows = []
    for index in product(*map(range, shape[:-2])):
        window = CellWindow(
            offset=record.offset + sum(i * stride for i, stride in zip(index, strides, strict=False)),
            strides=(strides[-2], strides[-1]),
            size=(shape[-2], shape[-1]),
            index=f"[{','.join(map(str, index))}]" if math.prod(shape[:-2]) > 1 else "",
        )
        cell_windows.append(window.turned() if is_weight else window)
    return cell_windows


def _fold(shape: list[int], strides: list[int]) -> bool:
    """Make one axis of two neighbours, the last ones that lie in memory as one; False where there are none."""
    for axis in reversed(range(len(shape) - 1)):
        if strides[axis] == strides[axis + 1] * shape[axis + 1] or 1 in shape[axis : axis + 2]:
            stride = strides[axis] if shape[axis + 1] == 1 else strides[axis + 1]
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
            strides[axis : axis + 2] = [stride]
            return True
    return False


def heads(cell_windows: Sequence[CellWindow], n_heads: int, axis: int) -> list[CellWindow]:
    """One window for each head: they are slices already, or lie side by side along an axis."""
    if len(cell_windows) == n_heads:
        return [replace(window, head=head) for head, window in enumerate(cell_windows)]
    if len(cell_windows) == 1 and cell_windows[0].size[axis] % n_heads == 0:
        n = cell_windows[0].size[axis] // n_heads
        return [cell_windows[0].cut(axis, head * n, (head + 1) * n, head=head) for head in range(n_heads)]
    return list(cell_windows)


def panels(window: CellWindow, axis: int, width: int) -> list[CellWindow]:
    """A long axis cut into pieces that know where they begin."""
    n = window.size[axis]
    if n <= width:
        return [window]
    return [window.cut(axis, i, min(i + width, n), keep_start=True) for i in range(0, n, width)]


def covers(cell_windows: Sequence[CellWindow], itemsize: int, records: Sequence[TensorRecord]) -> bool:
    """Whether every byte of these tensors is shown by the windows, which have cells of `itemsize` bytes."""
    spans = _spans(cell_windows, itemsize)
    outside = [record for record in records if record.n_cells and not _within(spans, record)]
    if not outside:
        return True
    covered = np.zeros(
        max([*(_bytes_of(record)[1] for record in outside), *(_end(w) * itemsize for w in cell_windows)]), bool
    )
    needed = np.zeros_like(covered)
    for window in cell_windows:
        _mark(covered, itemsize, window.offset, window.size, window.strides)
    for record in outside:
        _mark(needed, record.dtype.itemsize, record.offset, record.shape, record.strides)
    return not (needed & ~covered).any()


def _spans(cell_windows: Sequence[CellWindow], itemsize: int) -> list[tuple[int, int]]:
    """The bytes that dense windows show, from and to, those that touch each other in one: most often it is one."""
    spans: list[tuple[int, int]] = []
    dense = ((w.offset * itemsize, (w.offset + math.prod(w.size)) * itemsize) for w in cell_windows if _is_dense(w))
    for begin, end in sorted(dense):
        if spans and begin <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((begin, end))
    return spans


def _within(spans: Sequence[tuple[int, int]], record: TensorRecord) -> bool:
    first, last = _bytes_of(record)
    place = bisect_right(spans, first, key=lambda span: span[0]) - 1
    return place >= 0 and last <= spans[place][1]


def _bytes_of(record: TensorRecord) -> tuple[int, int]:
    """From and to."""
    own = record.dtype.itemsize
    return record.offset * own, _last(record.offset, record.shape, record.strides) * own + own


def _mark(marks: np.ndarray, itemsize: int, offset: int, shape: Sequence[int], strides: Sequence[int]) -> None:
    once = [n if stride else 1 for n, stride in zip(shape, strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(
        marks[offset * itemsize :], (*once, itemsize), (*(stride * itemsize for stride in strides), 1)
    )
    view[...] = True


def _is_dense(window: CellWindow) -> bool:
    (a, na), (b, nb) = sorted((s, n) for s, n in zip(window.strides, window.size, strict=True))
    return (na == 1 or a == 1) and (nb == 1 or b == (na if na > 1 else 1))


def _last(offset: int, shape: Sequence[int], strides: Sequence[int]) -> int:
    return offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))


def _end(window: CellWindow) -> int:
    return _last(window.offset, window.size, window.strides) + 1


def flat(record: TensorRecord, nbytes: int) -> Iterator[CellWindow]:
    """A whole storage row by row: what always shows everything."""
    n = nbytes // record.dtype.itemsize
    width = record.shape[-1] if record.shape and record.shape[-1] and n % record.shape[-1] == 0 else n
    if n:
        yield CellWindow(offset=0, strides=(width, 1), size=(n // width, width), index="")
