"""What recording costs: by operation on nano-sort, and in memory on GPT-2's shape. Run: python benchmarks/tracing.py

The first rows are what torch itself asks for: a mode that does nothing, around its Python functions and around its
kernels. The second sees more: views, and what C++ calls.
"""

import cProfile
import pstats
import resource
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from paired import save, seconds
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import glassformer as gf

TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2, 0, 0, 0, 0, 0]])
RUNS = 41


class Functions(TorchFunctionMode):
    """Sees calls of torch's Python functions, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what reaches torch's kernels, and counts it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Print and save the table."""
    model = gf.build("nano-sort")
    rows: dict[str, Any] = {}

    def forward(mode: Any) -> None:
        with gf.use("readable", attention="naive"), torch.no_grad(), mode:
            model.module(TOKENS)

    def median(run: Callable[[], Any]) -> float:
        run()
        return statistics.median(seconds(run) for _ in range(RUNS))

    plain = median(lambda: forward(nullcontext()))
    modes: dict[str, type[Functions | Operations]] = {"a function mode": Functions, "a dispatch mode": Operations}
    for name, mode in modes.items():
        counting: Functions | Operations = mode()
        forward(counting)
        took = median(lambda mode=mode: forward(mode()))  # type: ignore[misc]
        rows[name] = {"sees": counting.count, "microseconds_each": 1e6 * (took - plain) / counting.count}
        print(f"{name} that does nothing: sees {counting.count}, {rows[name]['microseconds_each']:.1f} µs each")
    trace = gf.trace(model, TOKENS)
    recording = median(lambda: gf.trace(model, TOKENS))
    again = median(lambda: forward(nullcontext()))
    each = 1e6 * (recording - plain) / len(trace.operations)
    rows["recording nano-sort"] = {
        "operations": len(trace.operations),
        "forward_ms": 1e3 * plain,
        "recording_ms": 1e3 * recording,
        "microseconds_an_operation": each,
        "forward_after_recording_ms": 1e3 * again,
    }
    print(f"recording {len(trace.operations)} steps: {each:.0f} µs each beyond the forward pass ({1e3 * plain:.1f} ms)")
    print(f"the forward pass after recording: {1e3 * again:.1f} ms")
    rows["where recording's time goes"] = shares(lambda: gf.trace(model, TOKENS))
    large = gf.build("gpt2")
    before = peak_gib()
    took = seconds(lambda: rows.update(size=gf.trace(large, torch.arange(64)[None])))
    size = rows.pop("size")
    rows["GPT-2's 124M shape at 64 positions"] = {
        "operations": len(size.operations),
        "seconds": took,
        "peak_gib": peak_gib(),
        "peak_gib_before": before,
    }
    print(f"GPT-2's shape at 64 positions: {took:.1f} s, {len(size.operations)} operations, peak {peak_gib():.2f} GiB")
    save("tracing", rows)


def shares(run: Callable[[], Any], n: int = 10) -> dict[str, float]:
    """The functions that take the most time themselves, each with its share of the whole."""
    profile = cProfile.Profile()
    profile.runcall(lambda: [run() for _ in range(20)])
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    largest = sorted(stats.items(), key=lambda item: -item[1][2])[:n]
    return {f"{Path(file).name}:{name}": round(own / whole, 3) for (file, _, name), (_, _, own, _, _) in largest}


def peak_gib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
