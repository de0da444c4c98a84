"""ggml's block formats against the library `gguf`, on random bytes."""

import gguf
import numpy as np
import pytest
import torch

from glassformer.checkpoints import ggml_blocks
from glassformer.checkpoints.ggml_blocks import FORMATS, BlockFormat

KINDS = pytest.mark.parametrize("kind", FORMATS, ids=[format.name for format in FORMATS.values()])


@KINDS
def test_a_block_has_the_size_and_the_name_that_ggml_says(kind: int) -> None:
    format = FORMATS[kind]
    theirs = gguf.GGMLQuantizationType(kind)
    assert format.name == theirs.name
    assert (format.n_weights, format.n_bytes) == gguf.GGML_QUANT_SIZES[theirs]


@KINDS
def test_random_bytes_are_the_numbers_that_the_library_reads(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales that are infinite or none among them; dequantized in several goes, of which the last is smaller."""
    monkeypatch.setattr(ggml_blocks, "WEIGHTS_AT_ONCE", 1 << 12)
    format = FORMATS[kind]
    data = np.random.default_rng(kind).integers(0, 256, (1000, format.n_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = gguf.dequantize(data, gguf.GGMLQuantizationType(kind)).reshape(-1)
    ours = ggml_blocks.numbers(data.reshape(-1), format)
    np.testing.assert_array_equal(ours.float().numpy(), theirs)


def test_plain_numbers_are_not_copied() -> None:
    data = np.arange(8, dtype=np.float32)
    tensor = ggml_blocks.numbers(data.view(np.uint8), BlockFormat(name="F32", n_weights=1, n_bytes=4))
    data[3] = 70
    torch.testing.assert_close(tensor, torch.tensor([0.0, 1, 2, 70, 4, 5, 6, 7]))
