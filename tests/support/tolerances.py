"""How close is equal: one table by dtype, each row with its reason. `assert_close` picks the row."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """|actual − expected| ≤ atol + rtol · |expected|."""

    rtol: float
    atol: float
    reason: str


BY_DTYPE = {
    torch.float64: Tolerance(
        rtol=1e-10, atol=1e-10, reason="2⁻⁵³ ≈ 1e-16, times sums of some thousand terms taken in another order"
    ),
    torch.float32: Tolerance(
        rtol=1e-5, atol=1e-5, reason="2⁻²⁴ ≈ 6e-8, times sums of some hundred terms taken in another order"
    ),
    torch.bfloat16: Tolerance(
        rtol=2e-2, atol=5e-2, reason="2⁻⁸ ≈ 4e-3 of the largest term a rounding; readable equations round at each step"
    ),
}

ENLARGED = Tolerance(
    rtol=0, atol=1e-6, reason="float64: norms that divide by almost nothing make some random models enlarge rounding"
)
NEARLY_TIED = Tolerance(rtol=0, atol=1e-4, reason="logits around 1 that another program computes in float32")
COURSE = Tolerance(rtol=1e-5, atol=1e-5, reason="the CS336 course's own tests ask for 1e-6 to 1e-4 in float32")
COURSE_MODEL = Tolerance(rtol=1e-2, atol=1e-4, reason="what the course's own test of the whole language model asks for")


def assert_close(actual: Tensor, expected: object, tolerance: Tolerance | None = None) -> None:
    """Equal shapes, and values within the tolerance; `expected` is anything that makes a tensor, and may be wider."""
    wanted = expected if isinstance(expected, Tensor) else torch.as_tensor(expected, dtype=torch.float64)
    assert actual.shape == wanted.shape, f"shape {tuple(actual.shape)}, expected {tuple(wanted.shape)}"
    allowed = tolerance or BY_DTYPE[actual.dtype]
    torch.testing.assert_close(
        actual.detach().double(), wanted.detach().double(), rtol=allowed.rtol, atol=allowed.atol, equal_nan=True
    )


def assert_greedy(logits: Tensor, tokens: Tensor) -> None:
    """Each token has the largest of its logits, or one so near to it that another's rounding may prefer it."""
    chosen = logits.gather(-1, tokens[..., None])[..., 0]
    assert_close(chosen.double(), logits.amax(-1).double(), NEARLY_TIED)
