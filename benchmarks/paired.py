"""Timing two things side by side, so that a machine whose speed drifts is fair to both.

A and B run in turn, A B A B …; the median of the pairs' ratios is what counts, with a 95 % interval from the order
statistics of the pairs (a sign test turned round), which assumes nothing of the noise's shape.
"""

import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Seconds a run of each (medians), and how many times faster ours is (median, 95 % interval)."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f}–{self.high:.2f})"


def compare(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    pairs: int = 15,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time both in turn; each call is one measurement, so let it last some tens of milliseconds.

    With time.process_time as the clock, what other programs do to the machine counts less; it adds up all threads.
    """
    for _ in range(warmup):
        ours()
        theirs()
    return comparison([(seconds(ours, clock), seconds(theirs, clock)) for _ in range(pairs)])


def comparison(times: Sequence[tuple[float, float]]) -> Comparison:
    """What pairs of seconds, ours and theirs, say."""
    pairs, ratios = len(times), sorted(theirs / ours for ours, theirs in times)
    skip = max(math.floor((pairs - 1.96 * math.sqrt(pairs)) / 2), 0)
    return Comparison(
        ours=statistics.median(ours for ours, _ in times),
        theirs=statistics.median(theirs for _, theirs in times),
        ratio=statistics.median(ratios),
        low=ratios[skip],
        high=ratios[-1 - skip],
        pairs=pairs,
    )


def seconds(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes."""
    start = clock()
    run()
    return clock() - start


def gemm_peak(size: int = 1024, repeats: int = 10) -> float:
    """Float32 operations a second of a square matrix product: the most that this machine gives now."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(repeats))


def saved_rows(name: str) -> dict[str, Any]:
    """The rows of an earlier run."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())["rows"]) if path.exists() else {}


def save(name: str, rows: dict[str, Any]) -> None:
    """Write the results, with what they were measured on, as JSON."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "rows": {key: asdict(value) if isinstance(value, Comparison) else value for key, value in rows.items()},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
