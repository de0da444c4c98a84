"""The files of a corpus, and the spans of them that can be read apart; `span_reader.py` reads them.

A file is one text, or, by its name, many documents: `.jsonl` has an object a line, `.parquet` a table, and one field of
each is a document. Text and `.jsonl` may be packed by gzip or Zstandard.
"""

import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from glassformer.compressed import is_compressed
from glassformer.errors import DataError

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

SEARCH_BYTES = 1 << 16
PACKED = (".gz", ".zst")
LINES = (".jsonl", ".ndjson")
TABLE = ".parquet"


class FileSpan(NamedTuple):
    """The bytes of a file from one offset to another; of documents, those that begin there."""

    path: Path
    start: int
    stop: int
    field: str = "text"  # of a document


def files_of(files: Files) -> list[tuple[Path, int]]:
    """Each file and its size; a DataError where there is no file, or no text in any."""
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    sizes = [_size(path) for path in paths]
    if sum(sizes) == 0:
        raise DataError(f"{', '.join(map(str, paths)) or 'no file'}: nothing to learn from, expected text.")
    return list(zip(paths, sizes, strict=True))


def shares_of(
    files: Sequence[tuple[Path, int]], parts: int, special_tokens: Sequence[bytes], field: str = "text"
) -> list[list[FileSpan]]:
    """The corpus in at most so many shares of about the same size, whose pre-tokens can be counted apart."""
    shares: list[list[FileSpan]] = [[] for _ in range(parts)]
    for path, size in files:
        offsets = cuts_of(path, size, parts, special_tokens) if parts > 1 else [0, size]
        for share, (start, stop) in zip(shares, pairwise(offsets), strict=False):
            share.append(FileSpan(path, start, stop, field))
    return [share for share in shares if share]


def _size(path: Path) -> int:
    if not path.is_file():
        raise DataError(f"{path}: expected a text file, and this is {'a folder' if path.is_dir() else 'no file'}.")
    return path.stat().st_size


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name."""
    return path.suffix == TABLE


def has_documents(path: Path) -> bool:
    """Whether a file holds documents, by its name, and is no text itself."""
    name = path.with_suffix("") if path.suffix in PACKED else path
    return name.suffix in LINES or is_table(path)


def cuts_of(path: Path, size: int, parts: int, special_tokens: Sequence[bytes]) -> list[int]:
    """Offsets, about `parts` + 1, between which a file's pre-tokens can be counted apart.

    A cut goes before a special token, or before a space that follows a visible ASCII character, where every pattern
    ends a pre-token without looking further; in a file of documents between two of them. Where no such place follows,
    there is no cut, and none in what is packed.
    """
    if is_table(path):
        return sorted({0, size} | {size * part // parts for part in range(1, parts)})
    if is_compressed(path):
        return [0, size]
    special_tokens = () if has_documents(path) else special_tokens
    place = rb"(?<=\n)" if has_documents(path) else rb"(?<=[!-~])(?= )"
    finder = re.compile(b"|".join([place, *sorted({re.escape(token[:1]) for token in special_tokens})]))
    special = _TokensByLength(frozenset(special_tokens), sorted(set(map(len, special_tokens))))
    with path.open("rb") as file:
        cuts = {_next_cut(file, size * part // parts, size, finder, special) for part in range(1, parts)}
    return sorted({0, size} | cuts)


class _TokensByLength(NamedTuple):
    """Special tokens, looked up by each of their lengths: ten thousand cost as much as ten."""

    tokens: frozenset[bytes]
    lengths: Sequence[int]

    def begin(self, data: bytes, at: int) -> bool:
        """Whether one begins at an offset."""
        return any(data[at : at + length] in self.tokens for length in self.lengths)

    def cross(self, data: bytes, at: int) -> bool:
        """Whether one begins before an offset and ends after it."""
        return any(
            data[start : start + length] in self.tokens
            for length in self.lengths
            for start in range(max(0, at - length + 1), at)
        )


def _next_cut(file: BinaryIO, offset: int, size: int, finder: re.Pattern[bytes], special: _TokensByLength) -> int:
    """The first place from `offset` on that may be cut and where no special token is cut in two; else the end.

    The finder's matches are empty at such a place; others are the first byte of a special token, perhaps.
    """
    margin = max(special.lengths, default=1)
    for start in range(offset, size, SEARCH_BYTES):
        first = max(0, start - margin)
        searched = start - first + SEARCH_BYTES
        file.seek(first)
        data = file.read(searched + margin)
        for match in finder.finditer(data, start - first):
            at = match.start()
            may_cut = not match[0] or special.begin(data, at)
            if at < searched and may_cut and not special.cross(data, at):
                return first + at
    return size
