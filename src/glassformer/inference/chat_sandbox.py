"""A chat template at work, in a process of its own: the program of a stranger's, written in jinja.

`python -m glassformer.inference.chat_sandbox` reads a template and the variables of each case as JSON, and writes what
comes of them as JSON. The process may take some seconds and some memory, and no more, whatever loops, numbers and texts
a template makes; in it, jinja's sandbox keeps the template to its variables. What templates may use is what
`transformers` lets them use. Next to read: `chat_template.py`, which asks.
"""

import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS = 3  # of one processor
MAX_BYTES = 1 << 30  # of memory, where the system heeds such a limit
MAX_CHARACTERS = 1 << 22  # of a conversation's text
MAX_POWER = 1 << 16  # bits, and items of what is repeated
LONGEST_MESSAGE = 500


class Refusal(TemplateError):
    """What a template raises by itself, such as that roles must alternate."""


class GenerationTag(Extension):
    """`{% generation %} … {% endgeneration %}` marks the assistant's text for training; here it stands as it is."""

    tags = {"generation"}  # noqa: RUF012 - where jinja looks for them

    def parse(self, parser: Parser) -> nodes.Node:
        """What is between the tags, whose variables are its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class PublicNamespace(Namespace):
    """`namespace(…)`: variables that loops may set, none of which has a name that Python gives a meaning."""

    def __init__(*args: Any, **values: Any) -> None:  # a template may set a variable `self`
        self, *others = args
        values = dict(*others, **values)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a variable of a namespace cannot be called {str(name)[:40]!r}")


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja as chat templates are written for, without the arithmetic that makes a small text a huge one."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"], cache_size=0
        )
        self.filters["tojson"] = to_json
        self.globals |= {
            "raise_exception": refuse,
            "strftime_now": lambda form: datetime.now().strftime(form),
            "dict": make_dict,
            "namespace": PublicNamespace,
        }

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """A product or a power, unless it would be huge."""
        sizes = [len(value) if isinstance(value, str | list | tuple) else value for value in (left, right)]
        a, b = (size if isinstance(size, int) else 0 for size in sizes)
        if operator == "**" and a.bit_length() * b > MAX_POWER:
            raise SecurityError(f"{str(a)[:20]} ** {str(b)[:20]} is too large")
        if operator == "*" and sizes != [left, right] and a * b > MAX_CHARACTERS:
            raise SecurityError(f"what would be repeated has {a * b:,} parts; {MAX_CHARACTERS:,} are the most")
        return super().call_binop(context, operator, left, right)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """The JSON of a value; jinja's own would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_dict(*items: Any, **values: Any) -> dict[Any, Any]:
    """`dict(…)`, which is a function here: the methods of a class would change what it is given."""
    return dict(*items, **values)


def refuse(message: object) -> None:
    """`raise_exception(…)`."""
    raise Refusal(str(message))


def render(template: str, variables: Mapping[str, Any]) -> str:
    """The text that a template makes of its variables; raises whatever the template does."""
    return Sandbox().from_string(template).render(variables)


def outcomes(template: str, cases: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Of each case its text, or what went wrong: the message, the line of the template, and of what kind it is."""
    for variables in cases:
        try:
            text = render(template, variables)
            if len(text) > MAX_CHARACTERS:
                raise SecurityError(f"its text has {len(text):,} characters; {MAX_CHARACTERS:,} are the most")
        except Exception as error:  # of a program of a stranger's
            yield {"error": _message(error), "kind": _kind(error), "line": _line(error)}
        else:
            yield {"text": text}


def _kind(error: Exception) -> str:
    kinds = {Refusal: "refusal", SecurityError: "forbidden", OverflowError: "forbidden", MemoryError: "memory"}
    return next((kind for each, kind in kinds.items() if isinstance(error, each)), "fault")


def _message(error: Exception) -> str:
    text = " ".join(str(error).split())[:LONGEST_MESSAGE].rstrip(".")
    return text if isinstance(error, TemplateError) and text else f"{type(error).__name__}, {text}".rstrip(", ")


def _line(error: Exception) -> str:
    """The line of the template at which it went wrong, "" where that is not known."""
    if isinstance(error, TemplateSyntaxError):
        return str(error.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    return next((str(frame.lineno) for frame in reversed(frames) if frame.filename == "<template>"), "")


def limit_process() -> None:
    """Let this process take no more than its share of time and memory; it goes without a limit that is unknown here."""
    with suppress(ImportError):
        import resource

        for kind, amount in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MAX_BYTES)):
            with suppress(OSError, ValueError):  # one that is lower already, too
                resource.setrlimit(kind, (amount, amount + 1))


def main() -> None:
    """Read a request and answer it."""
    request = json.loads(sys.stdin.buffer.read())
    limit_process()
    sys.stdout.write(json.dumps([*outcomes(request["template"], request["cases"])]))


if __name__ == "__main__":
    main()
