"""The text of a UTF-8 file as a stream of pieces, in constant memory. It imports nothing that takes time."""

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path

from glassformer.errors import DataError

READ_BYTES = 1 << 17


def read_text(path: Path, on_progress: Callable[[int], None] | None = None) -> Iterator[str]:
    """The text of a UTF-8 file in pieces, its line ends as they are."""
    size = size_of(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                yield decoder.decode(data)
                done += len(data)
                if on_progress is not None:
                    on_progress(done)
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at = done - len(decoder.getstate()[0]) + error.start
        raise DataError(
            f"{path} is not UTF-8 text: byte {at:,} cannot be read. Convert it first, for instance with iconv."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if done != size:
        raise DataError(f"{path} had {size:,} bytes and then {done:,}: it changed while it was read.")


def size_of(path: Path) -> int:
    """The bytes of a text file that is there."""
    if not path.exists():
        raise DataError(f"There is no file {path}. `glassformer data get` fetches public texts.")
    if not path.is_file():
        raise DataError(f"{path} is not a text file.")
    return path.stat().st_size
