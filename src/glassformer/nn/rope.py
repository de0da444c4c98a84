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
KINDS = ("linear", "dynamic", "yarn", "longrope", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How frequencies are slowed for texts that are longer than those of training, the original context.

        linear    all by `factor` (Chen et al. 2023, arXiv:2306.15595)
        dynamic   the slow ones more, and only as far as the text is longer: θ grows with its length, so that the
                  slowest one is divided by factor · length / original − (factor − 1)
        yarn      by `factor` those that turn less than `beta_slow` times in the original context, not at all those that
                  turn more than `beta_fast` times, and a ramp over the pairs in between (Peng et al. 2023,
                  arXiv:2309.00071); `truncate` rounds its ends to whole pairs
        longrope  each pair by a number of its own: `short_factors` in texts up to the original context, `long_factors`
                  in longer ones (Ding et al. 2024, arXiv:2402.13753)
        llama3    by `factor` wavelengths above original / `low_freq_factor`, not at all those below
                  original / `high_freq_factor`, smoothly in between (Llama 3.1's reference code, `apply_scaling`)

    "yarn" and "longrope" also sharpen attention: cos and sin are multiplied by `attention_factor`, and scores by its
    square. None stands for what their papers recommend for a context that is `factor` times the original one.
    """

    kind: Literal["linear", "dynamic", "yarn", "longrope", "llama3"] = "llama3"
    factor: float = 8.0
    original_context_length: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"rope_scaling.kind is {self.kind!r}; {', '.join(KINDS)} are known.")
        numbers = ("factor", "original_context_length", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow")
        for name in numbers:
            if not isinstance(getattr(self, name), int | float):
                raise ConfigError(f"rope_scaling.{name} must be a number, not {getattr(self, name)!r}.")
        if not 1 <= self.factor < math.inf:
            raise ConfigError(f"rope_scaling.factor is {self.factor}; it must be at least 1.")
        least = 2 if self.kind == "longrope" else 1  # it divides by the logarithm
        if not least <= self.original_context_length < math.inf:
            raise ConfigError(
                f"rope_scaling.original_context_length is {self.original_context_length}; it must be at least {least}."
            )
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if not 0 < getattr(self, low) < getattr(self, high) < math.inf:
                raise ConfigError(
                    f"rope_scaling needs 0 < {low} < {high}, not {getattr(self, low)} and {getattr(self, high)}."
                )
        for name in ("short_factors", "long_factors"):
            if not all(isinstance(n, int | float) and 0 < n < math.inf for n in getattr(self, name)):
                raise ConfigError(f"rope_scaling.{name} must be positive numbers.")
        if self.attention_factor is not None and not 0 < self.attention_factor < math.inf:
            raise ConfigError(f"rope_scaling.attention_factor is {self.attention_factor}; it must be positive.")

    @property
    def by_length(self) -> bool:
        """Whether frequencies depend on how long the text is."""
        return self.kind in ("dynamic", "longrope")

    @property
    def outgrown_at(self) -> int | None:
        """The length beyond which all frequencies are others; None where no length is such."""
        return self.original_context_length if self.kind == "longrope" else None

    def same_at(self, length: int, other: int) -> bool:
        """Whether texts of two lengths turn with the same frequencies."""
        original = self.original_context_length
        if self.kind == "dynamic":
            return max(length, original) == max(other, original)
        return self.kind != "longrope" or (length > original) == (other > original)

    @property
    def amplitude(self) -> float:
        """What cos and sin are multiplied by."""
        if self.kind not in ("yarn", "longrope"):
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.kind == "yarn":
            return 1 + 0.1 * math.log(self.factor)  # eq. 22
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_context_length))  # eq. 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RoPE:
    """From positions to rotations; owns no tensor, so a model's dtype never rounds its angles.

    What a query and a key come to depends on their distance alone:

    >>> x, rope = torch.ones(1, 4), RoPE(d_head=4)
    >>> query, key = rope(torch.tensor([7]))(x), rope(torch.tensor([5]))(x)
    >>> farther_on = rope(torch.tensor([107]))(x), rope(torch.tensor([105]))(x)
    >>> torch.allclose((query * key).sum(), (farther_on[0] * farther_on[1]).sum())
    True

    Where frequencies depend on the length of the text, a prompt turns with those of its whole length, read at once or
    in pieces (`inference/engine.py`), as its scaling defines it. Token by token, each turns with the frequencies of its
    own time, and keys that are in a cache stay as they are, as in `transformers`. A text that outgrows the original
    context of "longrope" is read again by the engine, as `transformers` has it of Phi-3. Each row of a batch has a
    length of its own; `transformers` takes the longest for all. Under an endless cache no length counts for more than
    the cache's capacity (`kv_cache.py`).
    """

    d_head: int
    d_rotary: int = 0  # features of a head that turn, the first ones; 0: all
    theta: float = 10_000.0
    style: Style = "half"
    scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.d_rotary, int) or not 0 <= self.d_rotary <= self.d_head or self.d_rotary % 2:
            raise ConfigError(f"d_rotary must be an even number from 0 to d_head {self.d_head}, not {self.d_rotary}.")
        if self.scaling is None:
            return
        if self.scaling.kind == "longrope":
            for name in ("short_factors", "long_factors"):
                if (n := len(getattr(self.scaling, name))) != self.n_pairs:
                    raise ConfigError(f"rope_scaling.{name} has {n} numbers for {self.n_pairs} pairs of features.")
        if self.scaling.kind == "dynamic" and self.n_pairs < 2:
            raise ConfigError('rope_scaling.kind "dynamic" needs two pairs of features or more in each head.')
        if self.scaling.kind == "yarn" and self.theta <= 1:
            raise ConfigError(f'rope_scaling.kind "yarn" needs a rope_theta above 1, not {self.theta}.')

    @property
    def n_pairs(self) -> int:
        """How many pairs of features turn."""
        return (self.d_rotary or self.d_head) // 2

    def __call__(self, positions: Int[Tensor, "*B T"], length: Int[Tensor, "*B 1"] | None = None) -> "Rotation":
        """The rotation of every position; angles are float64, since float32 is off by 10⁻³ at position 20,000.

        Where frequencies go by the length of the text and none is given, the text ends with these positions.
        """
        if self.scaling is None:
            return self._rotation(positions, None)
        if not self.scaling.by_length:
            length = None
        elif length is None:
            length = positions.amax(-1, keepdim=True) + 1
        return self._rotation(positions, length, self.scaling.amplitude)

    def further(self, by: Int[Tensor, "*B T"], length: Int[Tensor, "*B 1"] | None) -> "Rotation":
        """The rotation that moves on by so many positions what has been rotated, in a text of that length.

        None: frequencies go by no length.
        """
        return self._rotation(by, length)

    def _rotation(
        self, positions: Int[Tensor, "*B T"], length: Int[Tensor, "*B 1"] | None, amplitude: float = 1.0
    ) -> "Rotation":
        device = positions.device
        if device.type == "mps":  # it knows no float64
            frequency = self.frequencies(None if length is None else length.cpu()).float()
        else:
            frequency = self.frequencies(length)
        angles = positions[..., None] * frequency.to(device)
        if amplitude == 1:
            cos, sin = angles.cos(), angles.sin()
        else:
            cosine, sine = angles.cos(), angles.sin()
            cos, sin = amplitude * cosine, amplitude * sine
        return Rotation(cos=cos, sin=sin, style=self.style)

    def frequencies(self, length: Int[Tensor, "*B 1"] | None = None) -> Float[Tensor, "*b half"]:
        """θ^(−2i / D) radians per position for i = 0 … D/2 − 1, scaled for texts of some length.

        Where the scaling depends on it, every length has a row; without one, of short texts.
        """
        pair = torch.arange(self.n_pairs, dtype=torch.float64)
        scaling = self.scaling
        if scaling is None:
            return self._plain(pair)
        plain = self._plain(pair)
        original = scaling.original_context_length
        match scaling.kind:
            case "linear":
                return plain / scaling.factor
            case "llama3":
                slowed = plain / scaling.factor
                low, high = scaling.low_freq_factor, scaling.high_freq_factor
                turns = original * plain / (2 * math.pi)  # full circles in the original context
                kept = ((turns - low) / (high - low)).clamp(0, 1)
                return kept * plain + (1 - kept) * slowed
            case "yarn":
                slowed = plain / scaling.factor
                first, last = self._ramp(scaling)
                kept = 1 - ((pair - first) / (last - first)).clamp(0, 1)
                return kept * plain + (1 - kept) * slowed
            case "dynamic":
                if length is None:
                    return plain
                longer = (length[..., None].double() / original).clamp(min=1)
                growth = scaling.factor * longer - (scaling.factor - 1)
                exponent = -2 * pair / (2 * self.n_pairs - 2)
                return plain.to(length.device) * growth ** exponent.to(length.device)
            case "longrope":
                short, long = (
                    plain / torch.tensor(factors, dtype=torch.float64)
                    for factors in (scaling.short_factors, scaling.long_factors)
                )
                if length is None:
                    return short
                return torch.where(length[..., None] > original, long.to(length.device), short.to(length.device))

    def _plain(self, pair: Float[Tensor, " half"]) -> Float[Tensor, " half"]:
        d_rotary = 2 * self.n_pairs
        return self.theta ** (-2 * pair / d_rotary)

    def _ramp(self, scaling: RopeScaling) -> tuple[float, float]:
        """The pairs where YaRN's ramp begins and ends: those that turn so many times in the original context."""
        d_rotary = 2 * self.n_pairs
        first, last = (
            d_rotary * math.log(scaling.original_context_length / (turns * 2 * math.pi)) / (2 * math.log(self.theta))
            for turns in (scaling.beta_fast, scaling.beta_slow)
        )
        if scaling.truncate:
            first, last = float(math.floor(first)), float(math.ceil(last))
        first, last = max(first, 0.0), min(last, d_rotary - 1.0)
        return first, last if last != first else last + 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Turns the pairs of features of a query or a key by the angles of its positions; features that are left stay."""

    cos: Float[Tensor, "*B T half"]
    sin: Float[Tensor, "*B T half"]
    style: Style

    def __call__(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        """(a, b) becomes (a cos − b sin, b cos + a sin) for each pair."""
        d_rotary = 2 * self.cos.shape[-1]
        if d_rotary < x.shape[-1]:
            return torch.cat([self._turned(x[..., :d_rotary]), x[..., d_rotary:]], dim=-1)
        return self._turned(x)

    def _turned(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        if self.style == "half":
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
