"""ggml's block formats: the bytes of a quantized row, back to numbers; and Q8_0 out of numbers.

Weights stand in blocks of 32 or 256, each with scales of its own: a weight is `scale * q`, in some formats minus or
plus an offset, and q has 2 to 8 bits. Formats whose levels stand in long tables are dequantized by the library `gguf`.
Next to read: `gguf_file.py`, which has the tensors in such blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.errors import MissingExtra
from glassformer.nn.quantized_matrix import QuantizedRows

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

WEIGHTS_AT_ONCE = 1 << 20  # so many are dequantized in one go, since each takes some 20 bytes on the way
KEPT = ("Q8_0", "Q4_0", "Q4_1")  # what can run as it is
NONLINEAR = np.array(  # the 16 levels of IQ4_NL, finer around zero
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFormat:
    """How tensors of a type lie in a file: blocks of `n_bytes` for `n_weights` each.

    `dequantize` turns blocks (N, n_bytes) into weights (N, n_weights); None: they are plain numbers of `dtype`.
    """

    name: str
    n_weights: int
    n_bytes: int
    dtype: torch.dtype = torch.float32
    dequantize: Callable[[Bytes], Floats] | None = None


def numbers(data: Bytes, format: BlockFormat) -> Tensor:
    """The weights in these bytes, one after the other; plain numbers stay where they are."""
    if format.dequantize is None:
        return torch.from_numpy(data).view(format.dtype)
    blocks = data.reshape(-1, format.n_bytes)
    weights = np.empty((len(blocks), format.n_weights), dtype=np.float32)
    step = WEIGHTS_AT_ONCE // format.n_weights
    with np.errstate(invalid="ignore", over="ignore"):  # a broken scale gives no number, which `build` refuses
        for start in range(0, len(blocks), step):
            weights[start : start + step] = format.dequantize(blocks[start : start + step])
    return torch.from_numpy(weights.reshape(-1))


def levels_and_scales(data: Bytes, format: BlockFormat, shape: tuple[int, int]) -> QuantizedRows:
    """A matrix in blocks of a kind that is `KEPT`: their parts, side by side."""
    blocks = data.reshape(shape[0], -1, format.n_bytes)
    n_halves = 2 if format.name == "Q4_1" else 1
    halves = np.ascontiguousarray(blocks[:, :, : 2 * n_halves]).view("<f2").astype(np.float16)
    levels = np.ascontiguousarray(blocks[:, :, 2 * n_halves :]).reshape(len(blocks), -1)
    return QuantizedRows(
        levels=torch.from_numpy(levels.view(np.int8) if format.name == "Q8_0" else levels),
        scale=torch.from_numpy(np.ascontiguousarray(halves[:, :, 0])),
        offset=torch.from_numpy(np.ascontiguousarray(halves[:, :, 1])) if n_halves == 2 else None,
        shape=shape,
    )


# ---- parts of a block


def half(blocks: Bytes, at: int) -> Floats:
    """The float16 at this byte of each block, as a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def unpacked(data: Bytes, width: int, bits: int) -> Bytes:
    """Small numbers out of bytes: of each run of `width` bytes first the lowest bits of all, then the next.

    >>> unpacked(np.array([[0x21, 0x43]], dtype=np.uint8), width=2, bits=4).tolist()
    [[1, 3, 2, 4]]
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    runs = data.reshape(len(data), -1, 1, width)
    parts: Bytes = (runs >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(len(data), -1)


def scaled(scale: Floats, q: npt.NDArray[np.generic]) -> Floats:
    """Each of a block's scales (N, G), times the run of q (N, G * width) that it is for."""
    runs = q.astype(np.float32).reshape(*scale.shape, -1)
    product: Floats = scale[..., None] * runs
    return product


# ---- blocks of 32: one scale d, in the formats _1 also the least value m


def q4_0(blocks: Bytes) -> Floats:
    """d (q − 8)."""
    return half(blocks, 0) * (unpacked(blocks[:, 2:], 16, 4).astype(np.float32) - 8)


def q4_1(blocks: Bytes) -> Floats:
    """d q + m."""
    return half(blocks, 0) * unpacked(blocks[:, 4:], 16, 4) + half(blocks, 2)


def q5_0(blocks: Bytes) -> Floats:
    """d (q − 16); the fifth bits stand before the others."""
    q = unpacked(blocks[:, 6:], 16, 4) | unpacked(blocks[:, 2:6], 1, 1) << 4
    return half(blocks, 0) * (q.astype(np.float32) - 16)


def q5_1(blocks: Bytes) -> Floats:
    """d q + m."""
    q = unpacked(blocks[:, 8:], 16, 4) | unpacked(blocks[:, 4:8], 1, 1) << 4
    return half(blocks, 0) * q + half(blocks, 2)


def q8_0(blocks: Bytes) -> Floats:
    """d q, of signed bytes."""
    return half(blocks, 0) * blocks[:, 2:].view(np.int8)


def iq4_nl(blocks: Bytes) -> Floats:
    """d times one of 16 levels."""
    return half(blocks, 0) * NONLINEAR[unpacked(blocks[:, 2:], 16, 4)]


# ---- blocks of 256: a scale for every 16 or 32 weights, which are small numbers times d themselves


def q2_k(blocks: Bytes) -> Floats:
    """d s q − dmin m, with s and m of 4 bits for every 16 weights."""
    s, m = blocks[:, :16] & 15, blocks[:, :16] >> 4
    q = unpacked(blocks[:, 16:80], 32, 2)
    weights = scaled(half(blocks, 80) * s, q) - (half(blocks, 82) * m)[..., None]
    return weights.reshape(len(blocks), -1)


def q3_k(blocks: Bytes) -> Floats:
    """d (s − 32) (q − 4), with s of 6 bits for every 16 weights; the third bits of q come first."""
    low, high = unpacked(blocks[:, 96:104], 8, 4), unpacked(blocks[:, 104:108], 4, 2)
    s = (low | high << 4).astype(np.float32) - 32
    q = (unpacked(blocks[:, 32:96], 32, 2) | unpacked(blocks[:, :32], 32, 1) << 2).astype(np.float32) - 4
    return scaled(half(blocks, 108) * s, q).reshape(len(blocks), -1)


def q4_k(blocks: Bytes) -> Floats:
    """d s q − dmin m, with s and m of 6 bits for every 32 weights."""
    return _with_six_bit_scales(blocks, unpacked(blocks[:, 16:], 32, 4))


def q5_k(blocks: Bytes) -> Floats:
    """The same with five bits, of which the fifth come first."""
    q = unpacked(blocks[:, 48:], 32, 4) | unpacked(blocks[:, 16:48], 32, 1) << np.uint8(4)
    return _with_six_bit_scales(blocks, q)


def _with_six_bit_scales(blocks: Bytes, q: Bytes) -> Floats:
    """d s q − dmin m. Of 12 bytes, four have the first scales, four the first offsets; the others are in two parts."""
    first_s, first_m, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    s = np.concatenate([first_s & 63, rest & 15 | first_s >> 6 << 4], axis=1)
    m = np.concatenate([first_m & 63, rest >> 4 | first_m >> 6 << 4], axis=1)
    weights: Floats = scaled(half(blocks, 0) * s, q) - (half(blocks, 2) * m)[..., None]
    return weights.reshape(len(blocks), -1)


def q6_k(blocks: Bytes) -> Floats:
    """d s (q − 32), with s a signed byte for every 16 weights."""
    s = blocks[:, 192:208].view(np.int8)
    q = unpacked(blocks[:, :128], 64, 4) | unpacked(blocks[:, 128:192], 32, 2) << 4
    return scaled(half(blocks, 208) * s, q.astype(np.float32) - 32).reshape(len(blocks), -1)


# ---- formats with tables of levels, and the newest


def by_library(name: str) -> Callable[[Bytes], Floats]:
    """What the library `gguf` makes of blocks of the type of this name."""

    def dequantize(blocks: Bytes) -> Floats:
        try:
            import gguf
        except ImportError:
            raise MissingExtra("gguf", "gguf", f"Reading weights of type {name}") from None
        weights: Floats = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
        return weights

    return dequantize


def to_q8_0(weights: Floats) -> Bytes:
    """Blocks (N, 34) of weights (N, 32): d is a 127th of the largest, q is rounded, halves away from zero."""
    scale = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    steps = weights * inverse
    q = (np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5))).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), q.view(np.uint8)], axis=1)


FORMATS = {  # by ggml's number for the type
    0: BlockFormat(name="F32", n_weights=1, n_bytes=4),
    1: BlockFormat(name="F16", n_weights=1, n_bytes=2, dtype=torch.float16),
    2: BlockFormat(name="Q4_0", n_weights=32, n_bytes=18, dequantize=q4_0),
    3: BlockFormat(name="Q4_1", n_weights=32, n_bytes=20, dequantize=q4_1),
    6: BlockFormat(name="Q5_0", n_weights=32, n_bytes=22, dequantize=q5_0),
    7: BlockFormat(name="Q5_1", n_weights=32, n_bytes=24, dequantize=q5_1),
    8: BlockFormat(name="Q8_0", n_weights=32, n_bytes=34, dequantize=q8_0),
    10: BlockFormat(name="Q2_K", n_weights=256, n_bytes=84, dequantize=q2_k),
    11: BlockFormat(name="Q3_K", n_weights=256, n_bytes=110, dequantize=q3_k),
    12: BlockFormat(name="Q4_K", n_weights=256, n_bytes=144, dequantize=q4_k),
    13: BlockFormat(name="Q5_K", n_weights=256, n_bytes=176, dequantize=q5_k),
    14: BlockFormat(name="Q6_K", n_weights=256, n_bytes=210, dequantize=q6_k),
    20: BlockFormat(name="IQ4_NL", n_weights=32, n_bytes=18, dequantize=iq4_nl),
    30: BlockFormat(name="BF16", n_weights=1, n_bytes=2, dtype=torch.bfloat16),
}
BY_LIBRARY = {  # by ggml's number: name, weights and bytes of a block
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
FORMATS |= {
    kind: BlockFormat(name=name, n_weights=n_weights, n_bytes=n_bytes, dequantize=by_library(name))
    for kind, (name, n_weights, n_bytes) in BY_LIBRARY.items()
}
