"""Rotary positions: each pair of features turns by an angle that grows with the position.

Su et al. 2021, eq. 34 (arXiv:2104.09864). A query at position m and a key at position n then meet at the angle of m − n
alone. Which features make a pair is a convention: the paper, Meta's code and the CS336 course turn neighbours
(2i, 2i + 1), "interleaved"; Hugging Face turns feature i with feature i + D / 2, "half". The two differ by an order of
the rows of q_proj and k_proj.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.errors import ConfigError

Style = Literal["half", "interleaved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How Llama stretches its frequencies to a longer context.

    "linear" divides every frequency by `factor`. "llama3" does so for wavelengths above
    `original_context_length / low_freq_factor`, leaves those below `original_context_length / high_freq_factor`, and
    goes over smoothly in between (Llama 3.1's reference code, `apply_scaling`).
    """

    kind: Literal["linear", "llama3"] = "llama3"
    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3"):
            raise ConfigError(f'rope_scaling.kind is {self.kind!r}; "linear" and "llama3" are known.')
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_context_length"):
            if not isinstance(getattr(self, name), int | float):
                raise ConfigError(f"rope_scaling.{name} must be a number, not {getattr(self, name)!r}.")
        if not 1 <= self.factor < math.inf:
            raise ConfigError(f"rope_scaling.factor is {self.factor}; it must be at least 1.")
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor < math.inf:
            raise ConfigError(
                f"rope_scaling needs 0 < low_freq_factor < high_freq_factor, not "
                f"{self.low_freq_factor} and {self.high_freq_factor}."
            )
        if not 1 <= self.original_context_length < math.inf:
            raise ConfigError(
                f"rope_scaling.original_context_length is {self.original_context_length}; it must be at least 1."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoPE:
    """From positions to rotations; owns no tensor, so a model's dtype never rounds its angles.

    What a query and a key come to depends on their distance alone:

    >>> x, rope = torch.ones(1, 4), RoPE(d_head=4)
    >>> query, key = rope(torch.tensor([7]))(x), rope(torch.tensor([5]))(x)
    >>> farther_on = rope(torch.tensor([107]))(x), rope(torch.tensor([105]))(x)
    >>> torch.allclose((query * key).sum(), (farther_on[0] * farther_on[1]).sum())
    True
    """

    d_head: int
    theta: float = 10_000.0
    style: Style = "half"
    scaling: RopeScaling | None = None

    def __call__(self, positions: Int[Tensor, "*B T"]) -> "Rotation":
        """The rotation of every position; angles are float64, since float32 is off by 10⁻³ at position 20,000."""
        frequencies = self.frequencies()
        if positions.device.type == "mps":  # it knows no float64
            frequencies = frequencies.float()
        angles = positions[..., None] * frequencies.to(positions.device)
        return Rotation(cos=angles.cos(), sin=angles.sin(), style=self.style)

    def frequencies(self) -> Float[Tensor, " half"]:
        """θ^(−2i / D) radians per position for i = 0 … D/2 − 1, scaled."""
        pair = torch.arange(self.d_head // 2, dtype=torch.float64)
        frequency = self.theta ** (-2 * pair / self.d_head)
        if self.scaling is None:
            return frequency
        slowed = frequency / self.scaling.factor
        if self.scaling.kind == "linear":
            return slowed
        low, high = self.scaling.low_freq_factor, self.scaling.high_freq_factor
        turns = self.scaling.original_context_length * frequency / (2 * math.pi)  # full circles in the old context
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequency + (1 - kept) * slowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Turns the pairs of features of a query or a key by the angles of its positions."""

    cos: Float[Tensor, "*B T half"]
    sin: Float[Tensor, "*B T half"]
    style: Style

    def __call__(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        """(a, b) becomes (a cos − b sin, b cos + a sin) for each pair."""
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        if self.style == "half":
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
