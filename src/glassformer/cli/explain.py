"""`glassformer explain`: the arithmetic behind one number."""

import fnmatch
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect, unless
from glassformer.cli.loading import OPENING, ContextLength, Opening
from glassformer.cli.output import print_json, print_line, print_table, write_text

app = App(
    name="explain",
    help_epilogue="Example:  glassformer explain nano-sort --input CBABBC --names '*.scores'",
)


MAX_NESTED = 100  # steps in each other


@app.default
def explain(
    model: str,
    /,
    *,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    tokens: str | None = None,
    names: str | None = None,
    cell: str | None = None,
    depth: int = 1,
    terms: int = 8,
    latex: Flag = False,
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    json: Flag = False,
) -> None:
    """Show how one number of a forward pass was computed: formula, operands, the line of source, and the check.

    The numbers are computed on the CPU, in float32.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, preset:NAME, or what
        `glassformer trace` has recorded.
    input
        What the model reads: a text, of which - reads it from standard input, or the file of a picture or of a
        recording, where the model sees or hears.
    tokens
        The ids of a text instead, with commas between.
    names
        List the names that fit this pattern, such as blocks.0.attn.*; without it and without a cell, all are listed.
    cell
        A tensor's name and a place in it, such as blocks.0.attn.scores[0,1,5,2].
    depth
        How many steps to walk back towards the tokens.
    terms
        How many of the largest terms of a sum to show.
    latex
        Print the equation as LaTeX, and nothing else.
    json
        Print a JSON object.
    """
    from glassformer.cli.trace import is_trace, record
    from glassformer.errors import ConfigError
    from glassformer.tracing import explain as explaining
    from glassformer.tracing import trace_file as traces
    from glassformer.tracing.render import render

    if depth < 1 or terms < 1:
        raise ConfigError("--depth and --terms must be at least 1.")
    if latex and (json or cell is None):
        raise ConfigError("--latex prints the equation of a --cell and nothing else: leave out --json, and give one.")
    if json and depth > MAX_NESTED:
        raise ConfigError(f"--json puts each step into the one before it, so --depth can be {MAX_NESTED} at most.")
    if names is not None and cell is not None:
        raise ConfigError("--names lists names, --cell explains a number: give one of them.")
    if cell is None:
        no_effect("without --cell", depth=unless(depth, 1), terms=unless(terms, 8))
    kept = is_trace(model)
    if kept and (input, tokens, context_length) != (None, None, None):
        raise ConfigError(f"{model} is a recording, with its input: leave out --input, --tokens and --context-length.")
    if kept:
        no_effect("on a recording", from_pickle=opening.from_pickle, option=opening.option)
    trace = (
        traces.load(Path(model))
        if kept
        else record(model, input, tokens, opening=opening, context_length=context_length)
    )
    if cell is None:
        list_names(trace, names or "*", json=json)
        return
    explanation = explaining.explain(explaining.cell_named(trace, cell), depth, terms=terms)
    if latex:
        print_line("" if explanation.formula is None else render(explanation.formula, "latex", of=explanation.cell))
    elif json:
        print_json(as_mapping(explanation, set()))
    else:
        write_text(f"{explaining.describe(explanation, terms)}\n")


def list_names(trace: Any, pattern: str, *, json: bool) -> None:
    """The names of a trace that fit a pattern, with shapes and the lines that computed them."""
    from glassformer.errors import ConfigError

    paths = [path for path, ids in trace.names.items() if not trace.tensors[ids[-1]].derived]
    rows = [(path, trace[path]) for path in paths if fnmatch.fnmatchcase(path, pattern)]
    if not rows:
        raise ConfigError(f"--names {pattern}: no name fits; a * stands for any letters, as in *.scores.")
    if json:
        print_json([{"name": path, "shape": list(tensor.shape), "axes": list(tensor.axes)} for path, tensor in rows])
        return
    print_table(
        ("name", "shape", "line of source"),
        [
            (path, "×".join(map(str, tensor.shape)), tensor.operation.source.text if tensor.operation else "")
            for path, tensor in rows
        ],
    )


def as_mapping(explanation: Any, met: set[Any]) -> dict[str, Any]:
    """An explanation for a program; within it, each cell is given where it occurs first."""
    from glassformer.tracing.render import render

    verdict = explanation.check()
    new = [inner for cell, inner in explanation.inner.items() if cell not in met]
    met.update(explanation.inner)
    return {
        "cell": str(explanation.cell),
        "value": explanation.value,
        "formula": None if explanation.formula is None else render(explanation.formula),
        "latex": None if explanation.formula is None else render(explanation.formula, "latex", of=explanation.cell),
        "mathml": None if explanation.formula is None else render(explanation.formula, "mathml", of=explanation.cell),
        "terms": [
            {"operands": {str(cell): cell.value for cell in term.operands}, "value": term.value}
            for term in explanation.why(len(explanation.terms))
        ],
        "sources": [str(cell) for cell in explanation.sources],
        "check": {
            "passed": verdict.passed,
            "recomputed": verdict.recomputed,
            "difference": verdict.difference,
            "bound": verdict.bound,
        },
        "source": None
        if explanation.source is None
        else {"file": explanation.source.file, "line": explanation.source.line, "text": explanation.source.text},
        "inner": [as_mapping(inner, met) for inner in new],
    }
