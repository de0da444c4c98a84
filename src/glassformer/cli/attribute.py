"""`glassformer attribute`: which parts of a model a logit came from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import OPENING, ContextLength, Opening
from glassformer.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from glassformer.tracing.attribute import Attribution

app = App(
    name="attribute",
    help_epilogue="Example:  glassformer attribute nano-sort --input CBABBC --cell 'logits[0,-1,0]'",
)

WIDTH = 24  # characters of the longest bar


@app.default
def attribute(
    model: str,
    /,
    *,
    cell: str,
    minus: str | None = None,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    tokens: str | None = None,
    terms: int = 20,
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    json: Flag = False,
) -> None:
    """Show which parts of a model a logit came from: embedding, position, every head and MLP, biases.

    The scales of norms are held at what they were, so that the parts add up to the logit. Of what heads brought, it is
    said from which position. The numbers are computed on the CPU, in float32.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, preset:NAME, or what
        `glassformer trace` has recorded.
    cell
        The logit: a tensor's name and a place in it, such as logits[0,-1,42]; negative numbers count from the end.
    minus
        Another one, to be subtracted: why this token and not that one?
    input
        What the model reads: a text, of which - reads it from standard input, or the file of a picture or of a
        recording, where the model sees or hears.
    tokens
        The ids of a text instead, with commas between.
    terms
        How many of the largest parts to show.
    json
        Print a JSON object.
    """
    from glassformer.cli.trace import is_trace, record
    from glassformer.errors import ConfigError
    from glassformer.tracing import attribute as attributing
    from glassformer.tracing import trace_file as traces

    if terms < 1:
        raise ConfigError("--terms must be at least 1.")
    kept = is_trace(model)
    if kept and (input, tokens, context_length) != (None, None, None):
        raise ConfigError(f"{model} is a recording, with its input: leave out --input, --tokens and --context-length.")
    if kept:
        no_effect("on a recording", from_pickle=opening.from_pickle, option=opening.option)
        trace = traces.load(Path(model))
    else:
        trace = record(model, input, tokens, opening=opening, context_length=context_length)
    show(attributing.attribute(trace, cell, minus=minus), terms, json=json)


def show(attribution: "Attribution", n_terms: int, *, json: bool) -> None:
    """The parts of a logit, for a program or as bars."""
    if json:
        print_json(as_mapping(attribution))
        return
    name = str(attribution.cell) if attribution.minus is None else f"{attribution.cell} − {attribution.minus}"
    terms = attribution.why(n_terms)
    rest = sum(term.value for term in attribution.terms) - sum(term.value for term in terms)
    rows: list[tuple[str, str, float, str]] = [
        (term.kind, str(term), term.value, at_most(term.sources)) for term in terms
    ]
    if len(attribution.terms) > len(terms):
        rows.append(("", f"{len(attribution.terms) - len(terms)} smaller ones", rest, ""))
    largest = max((abs(value) for _, _, value, _ in rows), default=0.0) or 1.0
    print_line(f"{name} = {attribution.value:+.6f}, the scales of norms held")
    print_table(
        ("", "part", "adds", "", "most of it from position"),
        [(kind, part, f"{value:+.4f}", bar(value / largest), source) for kind, part, value, source in rows],
        right=("adds",),
    )
    mark = "✓" if attribution.passed else "✗"
    bounds = f"{attribution.rounding:+.1e} of {attribution.bound:.1e} allowed"
    print_line(f"{mark} the parts add up to the logit, but for what was rounded: {bounds}")
    by_source = attribution.sources().tolist()
    if by_source:
        largest = max(map(abs, by_source)) or 1.0
        print_table(
            ("position", "heads brought from it", ""),
            [(str(position), f"{value:+.4f}", bar(value / largest)) for position, value in enumerate(by_source)],
            right=("position", "heads brought from it"),
        )


def bar(share: float) -> str:
    """A bar as long as a share of 1: full for what adds, light for what takes away."""
    return ("█" if share > 0 else "░") * round(abs(share) * WIDTH)


def at_most(sources: Any) -> str:
    """The position that a head brought most from."""
    return "" if sources is None else str(int(sources.abs().argmax()))


def as_mapping(attribution: "Attribution") -> dict[str, Any]:
    """An attribution for a program."""
    return {
        "cell": str(attribution.cell),
        "minus": None if attribution.minus is None else str(attribution.minus),
        "value": attribution.value,
        "terms": [
            {
                "kind": term.kind,
                "name": term.name,
                "head": term.head,
                "value": term.value,
                "sources": None if term.sources is None else term.sources.tolist(),
            }
            for term in attribution.terms
        ],
        "sources": attribution.sources().tolist(),
        "rounding": attribution.rounding,
        "bound": attribution.bound,
        "passed": attribution.passed,
    }
