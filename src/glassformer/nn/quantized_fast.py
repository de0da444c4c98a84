"""The fast twin of `quantized.py`: whole numbers multiplied by a kernel (`kernels/quantized.py`), in torch's threads.

What is no float32 on a CPU, or is to be differentiated, goes through the weights themselves, as there.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.kernels import quantized as kernels
from glassformer.nn.quantized_matrix import GROUP, TILE, QuantizedMatrix
from glassformer.nn.threads import run_together

KINDS = {"q8_0": kernels.Q8_0, "q4_0": kernels.Q4_0, "q4_1": kernels.Q4_1}
FOR_THREADS = 1 << 21  # products from which a second thread is worth calling
CHUNKS = 4  # for each thread


def linear(
    x: Float[Tensor, "*B d_in"], matrix: QuantizedMatrix, bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*B d_out"]:
    """Twin of `quantized.linear`, which rounds x to 8 bits."""
    is_plain = x.dtype == torch.float32 and x.device.type == matrix.levels.device.type == "cpu"
    if not is_plain or (x.requires_grad and torch.is_grad_enabled()):
        y = x @ matrix.dequantized(x.dtype).mT
        return y if bias is None else y + bias
    vectors = x.detach().reshape(-1, x.shape[-1])
    if bias is None or (bias.dtype == torch.float32 and not (bias.requires_grad and torch.is_grad_enabled())):
        y = product(vectors, matrix, None if bias is None else bias.detach())
    else:
        y = product(vectors, matrix) + bias
    return y.view(*x.shape[:-1], y.shape[-1])


def product(
    x: Float[Tensor, "N d_in"], matrix: QuantizedMatrix, bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "N d_out"]:
    """x Wᵀ + b for vectors in float32."""
    n_groups, (n_tiles, n) = matrix.n_groups, (len(matrix.levels), len(x))
    if x.shape[1] != n_groups * GROUP:
        x = torch.cat([x, x.new_zeros(n, n_groups * GROUP - x.shape[1])], dim=1)
    x = x.contiguous()
    bias = None if bias is None else bias.contiguous()
    q = torch.empty(n, n_groups * GROUP, dtype=torch.int8)
    scale, total = torch.empty(n, n_groups), torch.empty(n, n_groups, dtype=torch.int32)
    out = torch.empty(n, n_tiles * TILE)
    n_threads = torch.get_num_threads() if n * matrix.levels.numel() >= FOR_THREADS else 1
    fields = {
        kernels.X: x.data_ptr(),
        kernels.N_ROWS: n,
        kernels.N_GROUPS: n_groups,
        kernels.Q: q.data_ptr(),
        kernels.Q_SCALE: scale.data_ptr(),
        kernels.Q_TOTAL: total.data_ptr(),
        kernels.KIND: KINDS[matrix.kind],
        kernels.LEVELS: matrix.levels.data_ptr(),
        kernels.SCALE: matrix.scale.data_ptr(),
        kernels.OFFSET: 0 if matrix.offset is None else matrix.offset.data_ptr(),
        kernels.BIAS: 0 if bias is None else bias.data_ptr(),
        kernels.OUT: out.data_ptr(),
        kernels.WIDTH: n_tiles * TILE,
        kernels.N_OUT: matrix.shape[0],
        kernels.N_TILES: n_tiles,
        kernels.ROW_CHUNKS: min(n, CHUNKS * n_threads),
        kernels.TILE_CHUNKS: min(n_tiles, CHUNKS * n_threads),
    }
    places = np.zeros(kernels.N_PRODUCT, np.int64)
    places[[*fields]] = [*fields.values()]
    run_together(kernels.multiply, kernels.MULTIPLY, places, n_threads)
    return out[:, : matrix.shape[0]]
