"""`glassformer trace`: record a forward pass, keep it, verify every number in it."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import OPENING, ContextLength, Opening, load
from glassformer.cli.output import (
    new_destination,
    print_json,
    print_line,
    print_table,
    progress_bar,
    read_argument,
    remark,
)

app = App(
    name="trace",
    usage="Usage: glassformer trace MODEL --input TEXT --out DIR [OPTIONS]\n       glassformer trace --check DIR",
    help_epilogue="Example:  glassformer trace nano-sort --input CBABBC --out runs/trace",
)


@app.default
def trace(
    model: str | None = None,
    /,
    *,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    tokens: str | None = None,
    out: Path | None = None,
    check: Path | None = None,
    cells: int = 0,
    seed: int = 0,
    modules: Annotated[tuple[str, ...], Parameter(negative="")] = ("*",),
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    overwrite: Flag = False,
    json: Flag = False,
) -> None:
    """Record a forward pass operation by operation, keep it, and verify every number in it.

    The numbers are computed on the CPU, in float32.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, or preset:NAME.
    input
        What the model reads: a text, of which - reads it from standard input, or the file of a picture or of a
        recording, where the model sees or hears.
    tokens
        The ids of a text instead, with commas between.
    out
        Where to keep the recording: a directory, or one file that ends in .gft.
    check
        Recompute the numbers of a recording from their recorded operands, and report by operation.
    cells
        Check only so many numbers, drawn evenly over the kinds of operations, and at least 200 of each kind; 0 checks
        all.
    seed
        Of that draw.
    modules
        Record only modules whose path fits this pattern, or check only them, such as blocks.0.*; can be given several
        times.
    overwrite
        Replace a recording that is already there.
    json
        Print a JSON object.
    """
    from glassformer.errors import ConfigError
    from glassformer.tracing import check as checking
    from glassformer.tracing import trace_file as traces

    if (model is None) == (check is None):
        raise ConfigError("Name a model to record, or --check a recording, and not both.")
    if cells < 0:
        raise ConfigError("--cells must be at least 0.")
    if check is not None:
        if (input, tokens, out, context_length) != (None, None, None, None):
            raise ConfigError(
                "--check verifies a recording as it is: leave out --input, --tokens, --out and --context-length."
            )
        no_effect("with --check", overwrite=overwrite, from_pickle=opening.from_pickle, option=opening.option)
        if not cells:
            no_effect("without --cells", seed=seed)
        with progress_bar("recomputing", None) as update:
            kept = traces.load(check)
            report = checking.check(kept, cells=cells or None, seed=seed, modules=modules, progress=update)
        show(report, json=json)
        sys.exit(0 if report.passed else 1)
    no_effect("without --check", cells=cells, seed=seed)
    if out is None:
        raise ConfigError("Say where to keep the recording: --out DIR, or --out FILE.gft.")
    read = [path for path in (model, input) if path is not None]
    new_destination(out, overwrite=overwrite, folder=out.suffix != traces.SUFFIX, reads=read)
    recorded = record(str(model), input, tokens, modules, opening=opening, context_length=context_length)
    traces.save(recorded, out, overwrite=overwrite)
    n_cells = sum(recorded.tensors[output].n_cells for _, output in recorded.computed())
    facts = {"path": str(out), "operations": len(recorded.operations), "computed_cells": n_cells}
    if json:
        print_json(facts)
        return
    print_line(f"{out}: {len(recorded.operations):,} operations, {n_cells:,} computed numbers")
    remark(f"Verify it:  glassformer trace --check {out}")


def record(
    model: str,
    text: str | None,
    tokens: str | None,
    modules: tuple[str, ...] = ("*",),
    *,
    opening: Opening = OPENING,
    context_length: int | None = None,
) -> Any:
    """The trace of a model that the command line names."""
    from glassformer import api

    loaded = load(model, opening=opening, context_length=context_length)
    return api.trace(loaded, inputs_of(loaded, text, tokens), modules=list(modules))


def inputs_of(loaded: Any, text: str | None, tokens: str | None) -> Any:
    """What --input or --tokens gives a model to read."""
    from glassformer.errors import ConfigError
    from glassformer.kinds import kind_of
    from glassformer.kinds.kind import text_tokenizer

    if (text is None) == (tokens is None):
        raise ConfigError("Give the model something to read: --input TEXT (or FILE) or --tokens 1,2,3, and not both.")
    kind = kind_of(loaded)
    if tokens is not None:
        return kind.read(loaded, read_tokens(tokens))
    if kind.reads_text and text_tokenizer(loaded) is None:
        raise ConfigError(
            f"This model came without a tokenizer. {loaded.no_tokenizer} Give it --tokens 1,2,3 instead of --input."
        )
    return kind.read(loaded, read_argument(str(text)) if kind.reads_text else str(text))


def read_tokens(text: str) -> list[int]:
    """The ids that --tokens gives."""
    from glassformer.errors import ConfigError

    try:
        return [int(token) for token in text.split(",")]
    except ValueError:
        raise ConfigError(f"--tokens {text}: ids are whole numbers with commas between.") from None


def is_trace(path: str) -> bool:
    """Whether this is a recording that was kept, and not a model."""
    return path.endswith(".gft") or (Path(path) / "trace.json").is_file()


def show(report: Any, *, json: bool) -> None:
    """The report of a check as a table."""
    rows = sorted(report.by_operation.items(), key=lambda row: (-row[1].failures, row[0]))
    if json:
        by_operation = {
            name: {"kind": tally.kind, "cells": tally.cells, "failures": tally.failures, "worst": tally.worst}
            for name, tally in rows
        }
        print_json(
            {
                "computed_cells": report.total,
                "checked": report.checked,
                "failures": len(report.failures),
                "by_operation": by_operation,
            }
        )
        return
    figures = ("cells", "failures", "worst error / bound")
    print_table(
        ("operation", "rule", *figures),
        [(name, one.kind, f"{one.cells:,}", f"{one.failures:,}", f"{one.worst:.3f}") for name, one in rows],
        right=figures,
    )
    for name, tally in rows:
        if tally.failures:
            print_line(f"{name}: {tally.reason}")
    print_line(f"{report.checked:,} of {report.total:,} computed numbers recomputed, {len(report.failures):,} failures")
