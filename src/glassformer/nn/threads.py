"""Several threads run one kernel at once: torch's own, where they are OpenMP's, since those are awake.

After each operation torch's threads look for more work for some milliseconds. Threads of ours would have to share the
processors with them, which has cost a third of a decode step and half of a product.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PROCESS = os.getpid()  # a fork has none of its parent's threads, OpenMP's neither, and would wait for them


class HasAddress(Protocol):
    """What C may call (`kernels.Callback`)."""

    @property
    def address(self) -> int:
        """Where its machine code begins."""


def run_together(
    kernel: Callable[[int], None], callback: HasAddress, places: NDArray[np.int64], n_threads: int
) -> None:
    """Call a kernel with the address of an array, in up to so many threads at once.

    It must return to this thread when all is done, and at once where it comes late: then or never it is called in
    others. `callback` is the same kernel. The array says where all else lies.
    """
    address = places.ctypes.data
    parallel = _openmp() if n_threads > 1 and os.getpid() == PROCESS else None
    if parallel is not None:
        parallel(callback.address, address, n_threads, 0)
        return
    for _ in range(n_threads - 1):
        _pool().submit(_late, kernel, places)
    kernel(address)


def _late(kernel: Callable[[int], None], places: NDArray[np.int64]) -> None:
    kernel(places.ctypes.data)  # the array is alive as long as this waits


@cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """What begins a parallel region in the OpenMP library that torch has loaded; None where there is none."""
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    begin: Callable[[int, int, int, int], None] = parallel
    return begin


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="kernel")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
