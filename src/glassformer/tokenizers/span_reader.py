"""The texts in a span of a file, in blocks: memory follows the longest document, and no file.

Files come from strangers: what is packed may not become arbitrarily larger, and a document has a greatest length.
"""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glassformer import strict_json
from glassformer.compressed import UnpackedFile
from glassformer.errors import DataError
from glassformer.tokenizers.corpus import FileSpan, has_documents, is_table
from glassformer.tokenizers.pretokenize import without_surrogates

READ_BYTES = 1 << 19
LONGEST_DOCUMENT = 16 << 20  # bytes, three times the Bible
KINDS = {  # of what is no text in JSON
    type(None): "null",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
MAX_VALUES = 1 << 21  # about, of a line: a text has commas too


class TextBlock(NamedTuple):
    """A part of a text in UTF-8, which may end within a character, and whether the text ends with it."""

    data: bytes
    ends: bool


class SpanReader:
    """The texts of a span; `n_read` is how many bytes of its file have been read."""

    def __init__(self, span: FileSpan, block_bytes: int = READ_BYTES) -> None:
        """Take the span, and how much of a text comes at once."""
        self.span, self.block_bytes = span, block_bytes
        self.has_documents = has_documents(span.path)
        self.n_read = 0
        self._n_bytes = 0  # of a text so far, unpacked

    def blocks(self) -> Iterator[TextBlock]:
        """All blocks of all texts, one text after the other."""
        if is_table(self.span.path):
            return self._of_table()
        return self._of_lines() if self.has_documents else self._of_text()

    def texts(self) -> Iterator[Iterator[str]]:
        """Each text in pieces, all of which must be taken before the next text is."""
        blocks = self.blocks()
        for first in blocks:
            yield self._text(first, blocks)

    def _text(self, block: TextBlock, blocks: Iterator[TextBlock]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            n_undecoded = len(decoder.getstate()[0]) + len(block.data)
            try:
                text = decoder.decode(block.data, final=block.ends)
            except UnicodeDecodeError as error:
                raise self.not_utf8(n_undecoded - error.start) from None
            yield text
            if block.ends:
                return
            block = next(blocks)

    def not_utf8(self, n_behind: int) -> DataError:
        """What to raise where so many bytes before the end of the last block no character begins."""
        if self.has_documents:
            return DataError(f"{self.span.path} has a document that is not UTF-8 text.")
        at = self.span.start + self._n_bytes - n_behind
        return DataError(
            f"{self.span.path} is not UTF-8 text: byte {at:,} cannot be read. Convert it first, for instance with "
            f"iconv."
        )

    def _of_text(self) -> Iterator[TextBlock]:
        path, start, stop, _ = self.span
        with UnpackedFile(path) as file:
            is_packed = file.limit is not None
            if not is_packed:
                file.skip_to(start)
            while data := file.read(
                self.block_bytes if is_packed else min(self.block_bytes, stop - start - self.n_read)
            ):
                self._n_bytes += len(data)
                self.n_read = file.position() if is_packed else self._n_bytes
                yield TextBlock(data, False)
        yield TextBlock(b"", True)

    def _of_lines(self) -> Iterator[TextBlock]:
        path, start, stop, field = self.span
        with UnpackedFile(path) as raw:
            is_packed = raw.limit is not None
            if not is_packed:
                raw.skip_to(start)
            at, n_lines = start, 0
            with io.BufferedReader(raw, READ_BYTES) as file:
                while (is_packed or at < stop) and (line := file.readline(LONGEST_DOCUMENT + 1)):
                    try:
                        document = _field_of(line, field)
                    except DataError as error:
                        number = n_lines + 1 + _lines_before(path, start)
                        raise error.about(f"{path}, line {number:,} (at byte {at:,})") from None
                    at, n_lines = at + len(line), n_lines + 1
                    self.n_read = raw.position() if is_packed else at - start
                    if document is not None:
                        yield TextBlock(document, True)

    def _of_table(self) -> Iterator[TextBlock]:
        from glassformer.tokenizers.parquet import read_column

        path, start, stop, field = self.span
        for data in read_column(path, field, start, stop, LONGEST_DOCUMENT):
            yield TextBlock(data, True)
        self.n_read = stop - start


def _lines_before(path: Path, at: int) -> int:
    """How many lines end before an offset of a file."""
    n_lines = 0
    with path.open("rb") as file:
        while at > 0 and (data := file.read(min(READ_BYTES, at))):
            n_lines, at = n_lines + data.count(b"\n"), at - len(data)
    return n_lines


def _field_of(line: bytes, field: str) -> bytes | None:
    """The text of an object's field; None for a line without anything."""
    if len(line) > LONGEST_DOCUMENT:
        raise DataError(f"it has more than {LONGEST_DOCUMENT:,} bytes, and is no document.")
    if line.isspace():
        return None
    document = strict_json.parse(line, "it", max_values=MAX_VALUES, error=DataError)
    text = document.get(field)
    if not isinstance(text, str):
        names = ", ".join(name for name, value in document.items() if isinstance(value, str))
        what = f"{KINDS[type(text)]} and no text" if field in document else "no text"
        raise DataError(
            f"it has {what} under {field[:80]!r}; its texts are {names[:200] or 'none'}.",
            python="field= names another.",
            command="--field names another.",
        )
    return without_surrogates(text).encode()
