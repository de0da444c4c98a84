"""A set of small numbers: a bit of an array of words for each that may be in it, a power of two of words."""

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import inlined

Words = NDArray[np.uint64]


@inlined
def is_marked(marks: Words, number: np.uint64) -> bool:
    """Whether this number, or one with the same last bits, is in a set."""
    place = number & np.uint64(64 * len(marks) - 1)
    return bool(marks[place // np.uint64(64)] >> (place & np.uint64(63)) & np.uint64(1))


@inlined
def mark(marks: Words, number: np.uint64) -> None:
    """Let `is_marked` be true of this number."""
    place = number & np.uint64(64 * len(marks) - 1)
    marks[place // np.uint64(64)] |= np.uint64(1) << (place & np.uint64(63))
