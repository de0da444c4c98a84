"""Gemma 2: every other layer sees a window of the latest tokens, and scores and logits are kept within a cap.

Gemma Team 2024 (arXiv:2408.00118). Next to read: `gemma.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.gemma import Gemma, GemmaConfig, initialize_gemma
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma2Config(GemmaConfig):
    """Sizes and choices of a Gemma 2; the defaults are those of the model with 2 billion parameters."""

    architecture: ClassVar[str] = "gemma2"

    sliding_windows: tuple[int, ...] = (4096, 0)
    score_softcap: float = 50.0
    logit_softcap: float = 30.0


class Gemma2(Gemma):
    """Tokens to the logits of the token after each."""


MEDIUM: dict[str, Any] = {"d_model": 3584, "n_layers": 42, "n_heads": 16, "n_kv_heads": 8, "d_ff": 14336}
LARGE: dict[str, Any] = {"d_model": 4608, "n_layers": 46, "n_heads": 32, "n_kv_heads": 16, "d_ff": 36864}

PRESETS = {
    "gemma-2-2b": Gemma2Config(),
    "gemma-2-9b": Gemma2Config(**MEDIUM),
    "gemma-2-27b": Gemma2Config(**LARGE, d_head=128, query_scalar=144),
}

SPEC = ModelSpec(config=Gemma2Config, module=Gemma2, initialize=initialize_gemma, presets=PRESETS)
