"""The lines of text files, compressed or not, one at a time: memory follows the longest line, not the file.

Files come from strangers: a line has a greatest length, and a compressed file may not become arbitrarily larger.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from glassformer.compressed import UnpackedFile
from glassformer.errors import DataError

MAX_LINE = 4 << 20  # bytes: a long novel


def read_lines(path: Path) -> Iterator[str]:
    r"""The lines of a UTF-8 file, without `\n` or `\r\n`, which alone end them, and without a byte-order mark."""
    position = 0
    try:
        with io.BufferedReader(UnpackedFile(path)) as file:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise DataError(f"{path} has a line of more than {MAX_LINE:,} bytes, so it is no list of texts.")
                text = line.decode()
                yield (text.removeprefix("\ufeff") if position == 0 else text).rstrip("\r\n")
                position += len(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {position + error.start:,} cannot be read.") from None
