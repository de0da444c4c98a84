"""A number's explanation as JSON: `Explanation` in `web/src/types.ts`, which the page computes itself for small models.

    answer(trace, tensor, [0, 1, 5, 2])["text"]      "blocks.0.attn.scores#1[0,1,5,2] / …"

Truth counts as 0 or 1, and numbers that JSON lacks are text: "nan", "inf", "-inf", and "1+2i" for complex ones.
"""

import linecache
import math
from collections.abc import Sequence, Set
from typing import Any

from glassformer.errors import TraceError
from glassformer.tracing.explain import Explanation, Verdict, explain
from glassformer.tracing.formula import Number
from glassformer.tracing.render import numpy_of, render
from glassformer.tracing.trace import Cell, Recorded, SourceLine, Trace
from glassformer.tracing.trace_json import source_record
from glassformer.viewer.folding import folded

MAX_TERMS, MAX_SOURCES = 256, 4096  # as in types.ts
CONTEXT = 3  # lines before and after the one that asked for the operation


def answer(trace: Trace, tensor: int, index: Sequence[int], steps: Set[int] = frozenset()) -> dict[str, Any]:
    """All that the page shows of one number; with the storages of steps, over named operands (`folding.py`).

    Raises `TraceError` where there is no such cell, or no rule for it.
    """
    if not 0 <= tensor < len(trace.tensors):
        raise TraceError(f"The trace has no tensor {tensor}.")
    explanation = folded(explain(Recorded(trace, tensor)[tuple(index)]), steps)
    record = trace.tensors[tensor]
    dtype = str(record.dtype).removeprefix("torch.")
    common = {"cell": cell_ref(explanation.cell), "kind": record.kind, "dtype": dtype}
    if explanation.formula is None or explanation.computed is None or explanation.operation is None:
        return {**common, **FROM_OUTSIDE, "numpy": numpy_of(Number(explanation.value), dtype)}
    sources, operation = explanation.sources, explanation.operation
    return {
        **common,
        "computed": None if explanation.computed == explanation.cell else cell_ref(explanation.computed),
        "text": render(explanation.formula),
        "numbers": render(explanation.formula, numbers=True),
        "latex": render(explanation.formula, "latex"),
        "mathml": render(explanation.formula, "mathml"),
        "numpy": "" if len(sources) > MAX_SOURCES else numpy_of(explanation.formula, dtype),
        "terms": _terms(explanation),
        "n_terms": len(explanation.terms),
        "sources": [cell_ref(cell) for cell in sources[:MAX_SOURCES]],
        "n_sources": len(sources),
        "check": _check(explanation.check()),
        "operation": {"id": operation.id, "name": operation.name, "module": operation.module},
        "source": source_with_context(trace, operation.source),
    }


FROM_OUTSIDE: dict[str, Any] = {
    **dict.fromkeys(("computed", "check", "operation", "source")),
    **dict.fromkeys(("text", "numbers", "latex", "mathml"), ""),
    "terms": [],
    "n_terms": 0,
    "sources": [],
    "n_sources": 0,
}


def cell_ref(cell: Cell) -> dict[str, Any]:
    """A cell with its number, to point at."""
    return {
        "tensor": cell.tensor,
        "index": list(cell.index),
        "value": plain(cell.value),
        "name": cell.trace.tensors[cell.tensor].name,
    }


def plain(value: Any) -> int | float | str:
    """A number as JSON has it, or a word."""
    if isinstance(value, complex):
        real, imaginary = (repr(part).removesuffix(".0") for part in (value.real, value.imag))
        return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}i"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return int(value) if isinstance(value, bool) else value


def _terms(explanation: Explanation) -> list[dict[str, Any]]:
    return [
        {
            "operands": [cell_ref(cell) for cell in term.operands],
            "value": plain(term.value),
            "product": term.product,
        }
        for term in explanation.why(MAX_TERMS)
    ]


def _check(verdict: Verdict) -> dict[str, Any]:
    return {
        "recomputed": plain(verdict.recomputed),
        "difference": plain(verdict.difference),
        "bound": verdict.bound,
        "passed": verdict.passed,
    }


def source_with_context(trace: Trace, source: SourceLine) -> dict[str, Any]:
    """A line of source with those around it, if it was recorded here: no file that a stranger's trace names is read."""
    lines = linecache.getlines(source.file) if trace.replay is not None else []
    first = max(1, source.line - CONTEXT)
    here = lines[first - 1 : source.line + CONTEXT] if 1 <= source.line <= len(lines) else []
    context = [line.rstrip("\n") for line in here]
    return {**source_record(source), "first": first if context else source.line, "context": context}
