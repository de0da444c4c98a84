"""The table of numbers explained, by model and operation. Run: python tests/explained.py docs/explained.md"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import glassformer as gf
from foreign import FOREIGN
from glassformer.tracing.check import Report, check
from glassformer.tracing.record import record
from glassformer.tracing.trace import Trace

CELLS = 10_000
TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2, 0, 0, 0, 0, 0]])
SMALL = {"vocab_size": 11, "context_length": 12, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24}
OURS: dict[str, Callable[[], Trace]] = {
    "nano-sort": lambda: gf.trace(gf.build("nano-sort"), TOKENS),
    "Llama": lambda: gf.trace(gf.build("llama", **SMALL, n_kv_heads=2), TOKENS),
    "the CS336 language model": lambda: gf.trace(gf.build("cs336", **SMALL), TOKENS),
}


def traces() -> Iterator[tuple[str, Trace]]:
    """Every model of ours, and every module of others, with fused operations taken apart."""
    for name, build in OURS.items():
        yield name, build()
    for name, case in FOREIGN.items():
        module, inputs, keywords = case()
        yield name, record(module, *inputs, decompose=True, **keywords)


def main(path: Path) -> None:
    """Check, and write the page."""
    lines = [
        "# Numbers explained",
        "",
        f"Each model's recorded numbers are recomputed in float64 from the recorded operands: {CELLS:,} of them, drawn",
        "evenly over the kinds of operations, all where there are fewer, and at least 200 of each kind. A number fails",
        "when it differs by more than rounding explains, or when its operation has no rule. Random weights; modules of",
        "others are recorded as they are installed, with fused operations taken apart.",
        "",
        f"Written by `python tests/explained.py docs/explained.md` on {time.strftime('%Y-%m-%d')},",
        f"torch {torch.__version__.partition('+')[0]}.",
        "",
        "| model | operations | computed numbers | checked | failures | kinds | largest error / bound |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    reports: dict[str, Report] = {}
    for name, trace in traces():
        report = reports[name] = check(trace, cells=CELLS)
        worst = max(tally.worst for tally in report.by_operation.values())
        lines.append(
            f"| {name} | {len(trace.operations):,} | {report.total:,} | {report.checked:,} | {len(report.failures)} "
            f"| {len(report.by_operation)} | {worst:.2f} |"
        )
        print(lines[-1])
    lines += [
        "",
        "By operation, over all models:",
        "",
        "| operation | rule | checked | failures | largest error / bound |",
    ]
    lines += ["| --- | --- | --: | --: | --: |"]
    for base in sorted({base for report in reports.values() for base in report.by_operation}):
        tallies = [report.by_operation[base] for report in reports.values() if base in report.by_operation]
        cells, failures = sum(t.cells for t in tallies), sum(t.failures for t in tallies)
        worst = max(t.worst for t in tallies)
        lines.append(f"| `{base}` | {tallies[0].kind} | {cells:,} | {failures} | {worst:.2f} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
