"""Files that may be compressed, by gzip or Zstandard, read in bounded memory; what they unpack to has a limit too.

Which of these a file is, its first bytes say, and no text of UTF-8 begins like that.
"""

import gzip
import io
import zlib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from glassformer.errors import DataError, MissingExtra

MAX_INFLATION = 64  # how many times its size a compressed file may have; text has 3 to 5 times, MNIST 5
SMALL = 16 << 20  # bytes that any file may inflate to
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MAX_WINDOW_LOG = 27  # of what unpacks Zstandard: 128 MB, as its own program has it


def inflation_limit(size: int) -> int:
    """Bytes that a compressed file of `size` bytes may unpack to."""
    return max(size * MAX_INFLATION, SMALL)


def is_compressed(path: Path) -> bool:
    """Whether a file begins as one of gzip or of Zstandard; a DataError where it cannot be read."""
    with UnpackedFile(path) as file:
        return file.limit is not None


class UnpackedFile(io.RawIOBase):
    """The bytes of a file, of a compressed one those that it unpacks to; what is wrong with it is a DataError."""

    def __init__(self, path: Path) -> None:
        """Open the file; `limit` is how much it may unpack to, None where it is not compressed."""
        self.path = path
        self.limit: int | None = None
        self._n_bytes, self._kind = 0, ""
        self._opened: list[Any] = []
        try:
            self._file = path.open("rb", buffering=0)
            self._opened.append(self._file)
            magic = self._file.read(len(ZSTANDARD))
            self._file.seek(0)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if magic.startswith(GZIP):
            self._kind, self._errors = "gzip", (OSError, EOFError, zlib.error)
            self._opened.append(gzip.GzipFile(fileobj=self._file))
        elif magic == ZSTANDARD:
            zstd = _zstandard(path)
            self._kind, self._errors = "Zstandard", (OSError, EOFError, zstd.ZstdError)
            options = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
            self._opened.append(zstd.ZstdFile(self._file, options=options))
        if self._kind:
            self.limit = inflation_limit(path.stat().st_size)

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """The next bytes, as many as come at once."""
        try:
            n: int = self._opened[-1].readinto(buffer)
        except self._errors as error:
            reason = getattr(error, "strerror", None) or f"it is no whole {self._kind} file ({error})"
            raise DataError(f"{self.path} cannot be read: {reason}.") from None
        self._n_bytes += n
        if self.limit is not None and self._n_bytes > self.limit:
            raise DataError(
                f"{self.path} unpacks to more than {self.limit:,} bytes, {MAX_INFLATION} times its size: if that is "
                f"right, unpack it first."
            )
        return n

    def position(self) -> int:
        """How far the file itself has been read, in its own bytes."""
        return self._file.tell()

    def skip_to(self, offset: int) -> None:
        """Go to an offset of a file that is not compressed."""
        self._file.seek(offset)

    def close(self) -> None:
        """Close the file."""
        while self._opened:
            self._opened.pop().close()
        super().close()


def _zstandard(path: Path) -> Any:
    """The library, which is Python's own from 3.14 on."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    raise MissingExtra("backports.zstd", "zstd", f"{path}, packed with Zstandard,")
