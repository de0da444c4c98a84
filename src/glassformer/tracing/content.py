"""Which tensors of two traces hold the same numbers, whatever they are called and however they are laid out.

Transposed, reshaped, cut out of a fused matrix or repeated for a group of heads, numbers stay the same numbers. So a
tensor's content is its numbers in the order of their size, and two contents are the same where these are, to a
tolerance. What would be costly to sort is found by its mean powers first, which no rearrangement changes either.
"""

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from glassformer.tracing.trace import TensorRecord, Trace

MASKED = 1e30  # beyond it a number only says that something is left out: −∞, or the least number of its type
FEWEST = 4  # different numbers; fewer, such as zeros or ones, may stand in any tensor
SORTED = 1 << 22  # numbers that are sorted; larger tensors are compared by their mean powers
LARGE = 1 << 17  # numbers from which on it is worth a look whether they stand in the same order, before they are sorted
COARSE = 1e-3  # a tolerance above which sorted numbers of any two large tensors may agree: their order must, too
WORKED_OUT = ("numbers", "powers", "sorted", "telling")  # of a content, once it was asked for


@dataclass(eq=False)
class Content:
    """The numbers of one or several tensors that show the same part of a storage."""

    trace: Trace = field(repr=False)
    tensors: list[int]

    @cached_property
    def numbers(self) -> np.ndarray:
        """In the order of the tensor, each once: an axis of stride 0 repeats nothing."""
        return without_repeats(self.trace, self.tensors[0]).ravel()

    @cached_property
    def powers(self) -> np.ndarray:
        """The root mean square, other means in the same unit, and the share of numbers that are none, or too large."""
        x = self.numbers.astype(np.float64)
        with np.errstate(all="ignore"):
            finite = np.abs(x) < MASKED
        left_out = 1 - finite.mean() if x.size else 0.0
        x = x[finite]
        if not x.size:
            return np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, left_out])
        square = float(np.mean(x * x))
        cube = float(np.mean(x * x * x)) / square if square else 0.0
        return np.array([math.sqrt(square), x.mean(), np.abs(x).mean(), cube, x.min(), x.max(), left_out])

    @cached_property
    def sorted(self) -> np.ndarray:
        """The numbers by size, without those that only say that something is left out."""
        x = self.numbers.astype(np.float64)
        with np.errstate(all="ignore"):
            return np.sort(x[np.abs(x) < MASKED])

    @cached_property
    def telling(self) -> bool:
        """Whether it has enough different numbers to be known by them."""
        step = max(1, self.numbers.size // 4096)
        sample = self.numbers[::step]
        with np.errstate(all="ignore"):
            return len(np.unique(sample[np.abs(sample) < MASKED])) >= FEWEST


def without_repeats(trace: Trace, tensor: int) -> np.ndarray:
    """A tensor's numbers, of an axis along which all are the same one only the first."""
    record = trace.tensors[tensor]
    return trace.array(tensor)[tuple(slice(None) if stride else slice(1) for stride in record.strides)]


def contents_of(trace: Trace, like: Sequence[Content] = ()) -> list[Content]:
    """The contents of all tensors that hold fractions.

    `like` are those of another trace, which may share memory with this one, such as the weights: what has been worked
    out of these bytes holds here as well.
    """
    by_window: dict[tuple[object, ...], Content] = {}
    for record in trace.tensors:
        if record.dtype.is_floating_point and record.n_cells:
            window = _window(trace, record)
            by_window.setdefault(window, Content(trace, [])).tensors.append(record.id)
    for other in like:
        same = by_window.get(_window(other.trace, other.trace.tensors[other.tensors[0]]))
        if same is not None:
            vars(same).update({name: vars(other)[name] for name in WORKED_OUT if name in vars(other)})
    return list(by_window.values())


def _window(trace: Trace, record: TensorRecord) -> tuple[object, ...]:
    """The part of the memory that a tensor shows, in whatever order."""
    axes = sorted((n, s) for n, s in zip(record.shape, record.strides, strict=True) if n > 1 and s)
    return (trace.storages[record.storage].bytes.data_ptr(), record.offset, record.dtype, *axes)


class Matches:
    """For each tensor of one trace, the contents of another that are the same as its own."""

    def __init__(self, mine: list[Content], others: list[Content], tolerance: float) -> None:
        self.tolerance = tolerance
        self._others = sorted((other for other in others if other.telling), key=lambda other: other.powers[0])
        self._sizes = [float(other.powers[0]) for other in self._others]
        self._by_tensor: dict[int, list[Content]] = {}
        self.telling: set[int] = set()
        for content in mine:
            if content.telling:
                self.telling.update(content.tensors)
                same = [other for other in self._near(content) if self._same(content, other)]
                self._by_tensor.update(dict.fromkeys(content.tensors, same))

    def __getitem__(self, tensor: int) -> list[Content]:
        return self._by_tensor.get(tensor, [])

    def _near(self, content: Content) -> Iterator[Content]:
        size = float(content.powers[0])
        first = bisect.bisect_left(self._sizes, size * (1 - 2 * self.tolerance))
        last = bisect.bisect_right(self._sizes, size * (1 + 2 * self.tolerance))
        for other in self._others[first:last]:
            if np.all(np.abs(other.powers[:4] - content.powers[:4]) <= 10 * self.tolerance * size):
                yield other

    def _same(self, a: Content, b: Content) -> bool:
        if self.tolerance > COARSE:
            return any(
                in_the_same_order(a.trace, one, b.trace, other, self.tolerance)
                for one, other in itertools.product(a.tensors, b.tensors)
            )
        size = max(a.numbers.size, b.numbers.size)
        if size > LARGE and in_the_same_order(a.trace, a.tensors[0], b.trace, b.tensors[0], self.tolerance):
            return True
        if size > SORTED:
            return a.numbers.size == b.numbers.size
        few, many = sorted((a.sorted, b.sorted), key=len)
        times, rest = divmod(len(many), len(few)) if len(few) else (0, 1)
        return rest == 0 and distance(np.repeat(few, times), many) <= self.tolerance


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The root mean square of a − b, as a share of that of a; what is no number, or left out, must be so in both."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    with np.errstate(all="ignore"):
        finite, also = np.abs(a) < MASKED, np.abs(b) < MASKED
        if not np.array_equal(finite, also):
            return math.inf
        a, b = a[finite], b[finite]
        size, difference = float(np.mean(a * a)) if a.size else 0.0, float(np.mean((a - b) ** 2)) if a.size else 0.0
    return math.sqrt(difference / size) if size else math.inf if difference else 0.0


def in_the_same_order(trace: Trace, tensor: int, other: Trace, its_tensor: int, tolerance: float) -> bool:
    """Whether one is the other, perhaps with its axes in another order, joined or split."""
    return order_of(without_repeats(trace, tensor), without_repeats(other, its_tensor), tolerance) is not None


def order_of(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[int, ...] | None:
    """The order in which the axes of b make it a, if any does; axes of length 1 are left out."""
    a, b = a.squeeze(), b.squeeze()
    if a.size != b.size or b.ndim > 6:
        return None
    ends = _ends(a.shape)
    for order in itertools.permutations(range(b.ndim)):
        turned = b.transpose(order)
        its_ends = _ends(turned.shape)
        if (ends <= its_ends or its_ends <= ends) and distance(a, turned) <= tolerance:
            return order
    return None


def _ends(shape: tuple[int, ...]) -> set[int]:
    """After how many numbers an axis begins anew: of a tensor with an axis split, those of the whole one and more."""
    return set(np.cumprod(shape[::-1]).tolist())


def described(record: TensorRecord) -> str:
    """A tensor's name and shape."""
    return f"{record.name} ({'×'.join(map(str, record.shape)) or 'a number'})"
