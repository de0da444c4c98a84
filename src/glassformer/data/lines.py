"""The lines of text files, gzipped or not, one at a time: memory follows the longest line, not the file.

Files come from strangers: a line has a greatest length, and a gzipped file may not become arbitrarily larger.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from glassformer.errors import DataError

MAX_LINE = 4 << 20  # bytes: a long novel
MAX_INFLATION = 64  # how many times its size a compressed file may have; text has 3 to 5 times, MNIST 5
SMALL = 16 << 20  # bytes that any file may inflate to


def inflation_limit(size: int) -> int:
    """Bytes that a compressed file of `size` bytes may unpack to."""
    return max(size * MAX_INFLATION, SMALL)


def read_lines(path: Path) -> Iterator[str]:
    r"""The lines of a UTF-8 file, without `\n` or `\r\n`, which alone end them, and without a byte-order mark."""
    position = 0
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            limit = inflation_limit(path.stat().st_size) if zipped else None
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as file:
                while line := file.readline(MAX_LINE + 1):
                    if len(line) > MAX_LINE:
                        raise DataError(
                            f"{path} has a line of more than {MAX_LINE:,} bytes, so it is no list of texts."
                        )
                    if limit is not None and position + len(line) > limit:
                        raise DataError(
                            f"{path} unpacks to more than {limit:,} bytes, {MAX_INFLATION} times its size: if that is "
                            f"right, unpack it first."
                        )
                    text = line.decode()
                    yield (text.removeprefix("\ufeff") if position == 0 else text).rstrip("\r\n")
                    position += len(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {position + error.start:,} cannot be read.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"it is no whole gzip file ({error})"
        raise DataError(f"{path} cannot be read: {reason}.") from None
