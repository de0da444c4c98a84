"""Gemma 3, the models of text: five layers with a window to one without, which turns by other angles.

Gemma Team 2025 (arXiv:2503.19786). Queries and keys are normalised, where Gemma 2 has caps. Next to read: `gemma.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.gemma import Gemma, GemmaConfig, initialize_gemma
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Config(GemmaConfig):
    """Sizes and choices of a Gemma 3; the defaults are those of the model with 1 billion parameters."""

    architecture: ClassVar[str] = "gemma3"

    vocab_size: int = 262144
    context_length: int = 32768
    d_model: int = 1152
    n_heads: int = 4
    n_kv_heads: int = 1
    d_ff: int = 6912
    rope_theta: float = 1_000_000.0
    rope_theta_local: float = 10_000.0
    qk_norm: bool = True
    sliding_windows: tuple[int, ...] = (512, 512, 512, 512, 512, 0)


class Gemma3(Gemma):
    """Tokens to the logits of the token after each."""


SMALL: dict[str, Any] = {"d_model": 640, "n_layers": 18, "d_ff": 2048}

PRESETS = {"gemma-3-270m": Gemma3Config(**SMALL), "gemma-3-1b": Gemma3Config()}

SPEC = ModelSpec(config=Gemma3Config, module=Gemma3, initialize=initialize_gemma, presets=PRESETS)
