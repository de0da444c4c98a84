"""Bits of 64 bytes, against numpy."""

import numpy as np

from glassformer.kernels import njit
from glassformer.kernels.bits import highest, in_range, lowest
from glassformer.kernels.split import ByteArray


@njit
def members(data: ByteArray, start: int, low: int, n: int) -> tuple[np.uint64, int, int]:
    bits = in_range(data, np.uint64(start), np.uint8(low), np.uint8(n))
    return bits, lowest(bits), highest(bits) if bits else -1


def test_which_of_64_bytes_are_in_a_range() -> None:
    rng = np.random.default_rng(2)
    data = rng.integers(0, 256, 200).astype(np.uint8)
    for start, low, n in [(0, 97, 26), (3, 0, 128), (136, 32, 1), (7, 250, 6), (64, 0, 0)]:
        is_member = (low <= data[start : start + 64]) & (data[start : start + 64] < low + n)
        bits, first, last = members(data, start, low, n)
        assert [bool(int(bits) >> i & 1) for i in range(64)] == is_member.tolist()
        assert first == (int(is_member.argmax()) if is_member.any() else 64)
        assert last == int(bits).bit_length() - 1
