"""Random scalings of rotary frequencies, as we write them and as `transformers` does."""

import random
from collections.abc import Sequence
from typing import Any

from glassformer.nn.rope import RopeScaling


def random_scaling(
    kind: str, choose: random.Random, n_pairs: int, theta: float, originals: Sequence[int] = (16, 64, 4096, 8192)
) -> tuple[RopeScaling, dict[str, Any]]:
    """Ours, and the settings of theirs."""
    factor, original = choose.choice([1.0, 2.0, 3.5, 32.0]), choose.choice(originals)
    ours: dict[str, Any] = {"factor": factor}
    theirs: dict[str, Any] = {"factor": factor}
    if kind not in ("linear", "dynamic"):
        theirs["original_max_position_embeddings"] = original
    if kind != "linear":
        ours["original_context_length"] = original
    if kind == "llama3":
        low = choose.choice([0.5, 1.0, 2.0])
        more = {"low_freq_factor": low, "high_freq_factor": low * choose.choice([1.5, 4.0])}
        ours |= more
        theirs |= more
    if kind == "yarn" and choose.random() < 0.7:
        more = {"beta_fast": choose.choice([8.0, 32.0]), "beta_slow": choose.choice([0.5, 1.0, 7.0])}
        more["truncate"] = choose.random() < 0.5
        ours |= more
        theirs |= more
    if kind == "longrope":
        for name in ("short", "long"):
            factors = [choose.uniform(0.5, 20) for _ in range(n_pairs)]
            ours[f"{name}_factors"], theirs[f"{name}_factor"] = tuple(factors), factors
    if kind in ("yarn", "longrope") and choose.random() < 0.4:
        ours["attention_factor"] = theirs["attention_factor"] = choose.uniform(0.5, 2)
    return RopeScaling(kind=kind, **ours), {"rope_type": kind, "rope_theta": theta, **theirs}  # type: ignore[arg-type]
