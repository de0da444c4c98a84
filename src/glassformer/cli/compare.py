"""`glassformer compare`: where two models that should compute the same part."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import OPENING, ContextLength, Opening, load
from glassformer.cli.output import print_json, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from glassformer.tracing.compare import Comparison, StepPair, TracedStep

app = App(
    name="compare",
    help_epilogue="Example:  glassformer compare nano-sort preset:nano-sort --input CBABBC",
)

ROWS = 16  # of the table of differences


@app.default
def compare(
    a: str,
    b: str,
    /,
    *,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    tokens: str | None = None,
    tolerance: float | None = None,
    as_is: Flag = False,
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    json: Flag = False,
) -> None:
    """Run two models on one input, and name the first operation where they part.

    Names and steps need not be the same on both sides: operations are paired by their numbers. The exit code is 0 where
    the answers agree and 1 where they do not.

    Parameters
    ----------
    a
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, preset:NAME, or what
        `glassformer trace` has recorded.
    b
        The other one.
    input
        What both read: a text, of which - reads it from standard input, or the file of a picture or of a recording.
    tokens
        The ids of a text instead, with commas between.
    tolerance
        The relative difference that is none; without it, what rounding may come to.
    as_is
        Run both in the precision of their files, and not in float64, where rounding hides nothing.
    json
        Print a JSON object.
    """
    from glassformer import api
    from glassformer.cli.trace import inputs_of, is_trace
    from glassformer.errors import ConfigError

    recordings = [is_trace(each) for each in (a, b)]
    if all(recordings):
        if (input, tokens, context_length) != (None, None, None):
            raise ConfigError(
                "Both are recordings, with their input: leave out --input, --tokens and --context-length."
            )
        no_effect("on recordings", as_is=as_is, from_pickle=opening.from_pickle, option=opening.option)
    sides: list[Any] = [
        api.load_trace(Path(each)) if kept else load(each, opening=opening, context_length=context_length)
        for each, kept in zip((a, b), recordings, strict=True)
    ]
    models = [side for side in sides if isinstance(side, api.Model)]
    given = [inputs_of(model, input, tokens) for model in models[:1]]
    with progress_bar("comparing", None):
        comparison = api.compare(*sides, *given, tolerance=tolerance, as_is=as_is)
    show(comparison, json=json)
    sys.exit(0 if comparison.same else 1)


def show(comparison: "Comparison", *, json: bool) -> None:
    """A comparison for a program, or for a person: the parting first, then how the difference grows."""
    places = comparison.places
    if json:
        print_json(
            {
                "same": comparison.same,
                "difference": comparison.difference,
                "tolerance": comparison.tolerance,
                "parting": None
                if comparison.parting is None
                else {
                    "a": None if places[0] is None else as_mapping(places[0]),
                    "b": None if places[1] is None else as_mapping(places[1]),
                    "because": list(comparison.parting.because),
                },
                "growth": [
                    {"a": as_mapping(pair.a), "b": as_mapping(pair.b), "difference": pair.difference}
                    for pair in comparison.growth
                ],
            }
        )
        return
    for line in str(comparison).splitlines():
        print_line(line)
    if comparison.parting is not None:
        print_table(
            ("difference", "A", "B", "operation"),
            [
                (f"{pair.difference:.1e}", pair.a.result, pair.b.result, pair.b.operation.name)
                for pair in chosen(comparison.growth, comparison.tolerance)
            ],
            right=("difference",),
        )


def chosen(growth: "list[StepPair]", tolerance: float) -> "list[StepPair]":
    """A few rows: the last before the difference shows, the first where it does, then some evenly up to the last."""
    first = next((number for number, pair in enumerate(growth) if pair.difference > tolerance), len(growth))
    rest = range(max(first - 1, 0), len(growth))
    step = max(1, len(rest) // ROWS)
    numbers = {*rest[:3], *rest[::step], *rest[-1:]}
    return [growth[number] for number in sorted(numbers)]


def as_mapping(place: "TracedStep") -> dict[str, Any]:
    """A step for a program."""
    step = place.operation
    source = {"file": step.source.file, "line": step.source.line, "text": step.source.text}
    return {
        "operation": step.name,
        "number": step.number,
        "module": step.module,
        "result": place.result,
        "source": source,
    }
