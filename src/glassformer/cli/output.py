"""Where a command writes: results to stdout, progress and remarks to stderr. No other file of the command line prints.

What comes from a stranger, such as the labels of a model, its words or the names of files, may hold the control
characters that terminals obey. None passes: see `printable.py`.
"""

import json
import logging
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer import files
from glassformer.errors import DataError
from glassformer.printable import OBEYED, printable

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_line(text: str = "") -> None:
    """A line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def write_text(text: str, *, at_once: bool = False) -> None:
    """A piece of a result that is a text, which may have lines: as it is, except to a terminal."""
    sys.stdout.write(printable(text, keep="\n\t") if sys.stdout.isatty() else text)
    if at_once:
        sys.stdout.flush()


def print_json(value: Any) -> None:
    """A result for a program. JSON knows no infinite numbers and no complex ones: they become texts and pairs.

    It escapes fewer characters than terminals obey; escaped in its own way, the others are the same text to a program.
    """
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(plain(value), ensure_ascii=not utf8, allow_nan=False)
    sys.stdout.write(OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def plain(value: Any) -> Any:
    """The same value in the types that JSON has."""
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def print_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    right: Collection[str] = (),
    min_width: int | None = None,
) -> None:
    """A table, the columns under the headers `right` aligned there; no cell is cut, whatever the terminal's width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", show_header=any(headers))
    table.min_width = min_width
    for header in headers:
        table.add_column(Text(header), justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1 << 12).print(table)


def terminal_width() -> int:
    """How many characters a line of the terminal has; of a file, as many as are read well."""
    from rich.console import Console

    return Console(file=sys.stdout).width if sys.stdout.isatty() else 100


def print_styled(*parts: "RenderableType") -> None:
    """Lines and trees with colours at a terminal; what is in them has been made printable where it was made."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1 << 12, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=True)


def remark(text: str) -> None:
    """A sentence for the person at the terminal."""
    print(printable(text, keep="\n"), file=sys.stderr, flush=True)


class _Remarks(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        remark(record.getMessage())


@contextmanager
def remarks() -> Iterator[None]:
    """In the block, what the library logs is a sentence for the person at the terminal."""
    logger, handler = logging.getLogger("glassformer"), _Remarks()
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)


def read_argument(text: str) -> str:
    """The text of an argument; "-" stands for what comes through standard input."""
    if text != "-":
        return text
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"Standard input is not UTF-8 text: byte {error.start:,} cannot be read.") from None


def read_line(prompt: str) -> str | None:
    """A line that the person at the terminal writes, which can be edited where Python has readline; None at the end."""
    with suppress(ImportError):
        import_module("readline")
    try:
        if sys.stdout.isatty():
            return input(prompt)
        sys.stderr.write(prompt)  # results go elsewhere
        sys.stderr.flush()
        return input()
    except EOFError:
        remark("")
        return None
    except UnicodeDecodeError:
        raise DataError("What was written is not UTF-8 text.") from None


def new_destination(path: Path, *, overwrite: bool, folder: bool, reads: Iterable[str | Path] = ()) -> None:
    """Raise unless a file or a folder can be written at `path` without losing anything, such as what a command reads.

    A command asks this before its work, and passes `overwrite` on to what writes.
    """
    check = files.check_new_directory if folder else files.check_new_file
    check(path, overwrite=overwrite, reads=map(Path, reads))


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Any]:
    """A bar on stderr; call what comes with the units done so far, and of how many. Nothing where it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(description), total=total)
        yield lambda done, total=None, stage=description: progress.update(
            task, completed=done, total=total, description=printable(stage)
        )
