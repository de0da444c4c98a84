"""Where a command writes: results to stdout, progress and remarks to stderr."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.errors import DataError


def print_json(value: Any) -> None:
    """A result for a program."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def remark(text: str) -> None:
    """A sentence for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


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


def new_destination(path: Path, *, overwrite: bool, folder: bool, reads: Iterable[str | Path] = ()) -> None:
    """Raise unless a file or a folder can be written at `path` without losing anything, such as what a command reads.

    A command asks this before its work, and passes `overwrite` on to what writes.
    """
    check = files.check_new_directory if folder else files.check_new_file
    check(path, overwrite=overwrite, reads=map(Path, reads), permission="--overwrite")


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Any]:
    """A bar on stderr; call what comes with the units done so far, and of how many. Nothing where it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done, total=None, stage=description: progress.update(
            task, completed=done, total=total, description=stage
        )
