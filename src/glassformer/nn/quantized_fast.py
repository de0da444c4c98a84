"""The fast twin of `quantized.py`: whole numbers multiplied by a kernel (`kernels/quantized.py`), in torch's threads.

What is no float32 on a CPU, or is to be differentiated, goes through the weights themselves, as there.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.kernels import quantized as kernels
from glassformer.nn.quantized_matrix import GROUP, TILE, QuantizedMatrix

KERNELS = {
    "q8_0": kernels.multiply_q8_0,
    "q4_0": kernels.multiply_q4_0,
    "q4_1": kernels.multiply_q4_1,
}
FOR_THREADS = 1 << 23  # products from which a second thread is worth the 30 microseconds that it takes to call it


def linear(
    x: Float[Tensor, "*B d_in"], matrix: QuantizedMatrix, bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*B d_out"]:
    """Twin of `quantized.linear`, which rounds x to 8 bits."""
    is_plain = x.dtype == torch.float32 and x.device.type == matrix.levels.device.type == "cpu"
    if not is_plain or (x.requires_grad and torch.is_grad_enabled()):
        y = x @ matrix.dequantized(x.dtype).mT
        return y if bias is None else y + bias
    y = product(x.detach().reshape(-1, x.shape[-1]), matrix)
    if bias is not None:
        y = y + bias if bias.requires_grad and torch.is_grad_enabled() else y.add_(bias)
    return y.view(*x.shape[:-1], y.shape[-1])


def product(x: Float[Tensor, "N d_in"], matrix: QuantizedMatrix) -> Float[Tensor, "N d_out"]:
    """x Wᵀ for vectors in float32."""
    n_groups, (n_tiles, n) = matrix.n_groups, (len(matrix.levels), len(x))
    if x.shape[1] != n_groups * GROUP:
        x = torch.cat([x, x.new_zeros(n, n_groups * GROUP - x.shape[1])], dim=1)
    x = x.contiguous()
    q = torch.empty(n, n_groups * GROUP, dtype=torch.int8)
    scale, total = torch.empty(n, n_groups), torch.empty(n, n_groups, dtype=torch.int32)
    n_threads = min(torch.get_num_threads(), n_tiles) if n * matrix.levels.numel() >= FOR_THREADS else 1

    def quantize(lo: int, hi: int) -> None:
        places = [each.data_ptr() + each.stride(0) * each.element_size() * lo for each in (x, q, scale, total)]
        kernels.quantize(places[0], hi - lo, n_groups, *places[1:])

    _share(quantize, n, n_threads if n > TILE else 1)
    out = torch.empty(n, n_tiles * TILE)

    def multiply(lo: int, hi: int) -> None:
        offset = 0 if matrix.offset is None else matrix.offset.data_ptr()
        places = matrix.levels.data_ptr(), matrix.scale.data_ptr(), offset
        rounded = q.data_ptr(), scale.data_ptr(), total.data_ptr()
        KERNELS[matrix.kind](*places, n_groups, *rounded, n, out.data_ptr(), n_tiles * TILE, lo, hi)

    _share(multiply, n_tiles, n_threads)
    return out[:, : matrix.shape[0]]


def _share(work: Callable[[int, int], None], n: int, n_threads: int) -> None:
    """Work from 0 to n, a part of it in each thread.

    Ctrl-C may end this call before the other threads are done, so that the work itself has to keep its memory alive.
    """
    bounds = [n * i // n_threads for i in range(n_threads + 1)]
    others = [_threads().submit(work, lo, hi) for lo, hi in pairwise(bounds[1:])]
    work(0, bounds[1])
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    """As many as are ever wanted at once; they begin when they are."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="quantized")


if hasattr(os, "register_at_fork"):  # a fork has none of its parent's threads, and would wait for them
    os.register_at_fork(after_in_child=_threads.cache_clear)
