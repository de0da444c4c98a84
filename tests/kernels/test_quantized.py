"""The kernel of quantized products gives the same whole numbers with the instructions of every processor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import glassformer
from glassformer.kernels.quantized import instructions
from support.counts import count

HERE = instructions()
WITH_AVX_512 = ["AVX2", "plain", "AVX-VNNI"]  # which such a processor runs, too
FORCED = {"AVX512-VNNI": WITH_AVX_512, "AVX-VNNI": ["AVX2", "plain"], "AVX2": ["plain"]}.get(HERE, [])

SCRIPT = """
import sys
import numpy as np
from glassformer.kernels import quantized

quantized.instructions = lambda: sys.argv[1]
random = np.random.default_rng(0)
n_tiles, n_groups, n = 2, 3, 7
x = random.integers(-127, 128, (n, n_groups, 32)).astype(np.float32)
x[:, :, 0] = 127
q = np.empty(x.shape, np.int8)
scale, total = np.empty((n, n_groups), np.float32), np.empty((n, n_groups), np.int32)
bias = np.arange(n_tiles * 16, dtype=np.float32)
ones, offsets = np.ones((n_tiles, n_groups, 16), np.float16), np.full((n_tiles, n_groups, 16), -3, np.float16)
for name, bits in (("q8_0", 8), ("q4_0", 4), ("q4_1", 4)):
    levels = random.integers(0, 256, (n_tiles, n_groups, bits, 16, 4)).astype(np.uint8)
    rows = levels.transpose(0, 3, 1, 2, 4).reshape(n_tiles * 16, n_groups, -1)
    halves = np.concatenate([rows & 15, rows >> 4], 2).astype(np.int64)
    weights = {"q8_0": rows.view(np.int8).astype(np.int64), "q4_0": halves - 8, "q4_1": halves - 3}[name]
    out = np.empty((n, n_tiles * 16), np.float32)
    product = np.zeros(quantized.N_PRODUCT, np.int64)
    arrays = {"X": x, "Q": q, "Q_SCALE": scale, "Q_TOTAL": total, "LEVELS": levels, "SCALE": ones, "OFFSET": offsets}
    sizes = {"N_ROWS": n, "N_GROUPS": n_groups, "KIND": getattr(quantized, name.upper()), "WIDTH": n_tiles * 16}
    sizes |= {"N_OUT": n_tiles * 16, "N_TILES": n_tiles, "ROW_CHUNKS": 3, "TILE_CHUNKS": 2}
    for field, array in {**arrays, "BIAS": bias, "OUT": out}.items():
        product[getattr(quantized, field)] = array.ctypes.data
    for field, size in sizes.items():
        product[getattr(quantized, field)] = size
    quantized.multiply(product.ctypes.data)
    assert (q == x).all() and (scale == 1).all() and (total == x.sum(2)).all()
    assert (out == np.einsum("ngi,rgi->nr", x, weights) + bias).all(), name
"""


@pytest.mark.parametrize("name", [*FORCED, HERE][: count("instructions of processors")])
def test_whole_numbers_are_multiplied_exactly(name: str, tmp_path: Path) -> None:
    source = str(Path(glassformer.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr


def test_instructions_are_chosen_by_features() -> None:
    assert instructions("+avx2,+avx512bw,+avx512vl,+avx512vnni") == "AVX512-VNNI"
    assert instructions("+avx2,-avx512vnni,+avxvnni") == "AVX-VNNI"
    assert instructions("+sse2,+avx2") == "AVX2"
    assert instructions("+neon,+dotprod") == "NEON dot product"
    assert instructions("+neon") == "plain"
