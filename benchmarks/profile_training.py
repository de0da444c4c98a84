"""Where the time of a training step goes, ours and transformers'. Run: python benchmarks/profile_training.py

Shares of the processor time that torch's profiler sees in each kind of operation, on one thread.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from paired import RESULTS
from torch.profiler import ProfilerActivity, profile

from training import ALPHABET, SIZES, ours, theirs

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("scaled_dot_product",),
    "tanh and powers of GELU": ("gelu", "aten::tanh", "aten::pow"),  # our twin has a sigmoid, which counts below
    "layer norm": ("layer_norm",),
    "optimizer and clipping": ("adamw", "addcdiv", "addcmul", "lerp", "norm", "aten::sqrt", "_foreach"),
    "loss": ("log_softmax", "nll_loss", "cross_entropy"),
}


def kind_of(operation: str) -> str:
    """Which row of the table an operation belongs to."""
    return next(
        (kind for kind, names in KINDS.items() if any(name in operation for name in names)),
        "other elementwise work and copies",
    )


def shares(step: Callable[[], None]) -> dict[str, float]:
    """The share of each kind in the time of three calls."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(3):
            step()
    time = Counter[str]()
    for event in recorded.key_averages():
        time[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: round(value / time.total(), 3) for kind, value in time.most_common()}


def main() -> None:
    """Print and save the table."""
    torch.set_num_threads(1)
    rows = {}
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            text = "".join(np.random.default_rng(0).choice(list(ALPHABET), size=100_000))
            (Path(folder) / "text.txt").write_text(text)
            tokens = np.random.default_rng(0).integers(len(ALPHABET), size=100_000).astype(np.uint16)
            rows[name] = {"ours": shares(ours(size, Path(folder))), "transformers": shares(theirs(size, tokens))}
        for who, found in rows[name].items():
            print(f"{name:6} {who:13}", ", ".join(f"{kind} {share:.0%}" for kind, share in found.items()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "profile_training.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
