"""Traces on disk: `trace.json`, which has the records, and `data/NNN.bin`, which have the bytes of the storages.

    save(trace, Path("runs/trace"))        a folder, sealed with a manifest of hashes
    save(trace, Path("trace.gft"))         the same files in one, a zip
    trace = load(Path("trace.gft"))        to look at, to explain and to check, without the model

`docs/trace-format.md` describes the format, `trace.schema.json` says the same to programs; here are the bytes, in
`trace_json.py` the records. A trace may come from a stranger: nothing of it is executed, nothing is allocated that the
file does not have, and whatever does not fit together is a `TraceError`. What stays behind is the module: a loaded
trace cannot be run again with changes.
"""

import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from glassformer import files
from glassformer.errors import CheckpointCorrupt, CheckpointError, TraceError
from glassformer.tracing import trace_json
from glassformer.tracing.trace import Trace
from glassformer.tracing.validate import RECORDS

SUFFIX = ".gft"
CHUNK = 64 << 20  # bytes of a data file, unless a single storage has more
SMALL = 4 << 20  # bytes that any records may inflate to
MAX_INFLATION = 200  # how many times their compressed size larger ones may have
ALIGNED = 64  # each storage begins at a multiple, so that a reader can map it into memory
OF_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, IndexError, KeyError)  # of broken ones


def save(trace: Trace, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a trace as a folder, or as one file where the path ends in .gft; a crash leaves the old one or the new.

    Raises `TraceError` where weights have changed since they were recorded, and what `load` would refuse.
    """
    path = Path(path)
    if sys.byteorder != "little":
        raise TraceError("Traces are written little-endian, and this machine is not.")
    for tensor in trace.parameters:
        trace.value(tensor)  # raises where a weight has changed
    places, data = _layout([storage.nbytes for storage in trace.storages])
    content = trace_json.encode(trace, places, data)
    members = {name: _pieces(trace, places, number) for number, name in enumerate(data)}
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    with _faults():
        written = text.encode("utf-8", "surrogatepass")
        with files.errors_about(path):
            trace_json.decode(trace_json.parse(written))
        if path.suffix == SUFFIX:
            with files.new_file(path, overwrite=overwrite) as file:
                _write_zip(file, written, members)
        else:
            with files.new_directory(path, overwrite=overwrite) as folder:
                (folder / "data").mkdir()
                files.write(folder / RECORDS, written)
                for name, pieces in members.items():
                    files.write(folder / name, *pieces)
    return path


def load(path: Path) -> Trace:
    """Read a trace, as a folder or as one file."""
    with _faults():
        if path.is_dir():
            files.verify(path, required=False)
        elif not path.is_file():
            raise CheckpointError(f"There is no trace at {path}.")
        with files.errors_about(path), _folder(path) if path.is_dir() else _zip(path) as members:
            content = trace_json.parse(_read_whole(members))
            trace = trace_json.decode(content)
            _read_data(trace, content, members)
    return trace


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever is wrong with a file is wrong with the trace."""
    try:
        yield
    except (CheckpointError, OSError) as error:
        raise TraceError(str(error)) from error


class Members:
    """The files of a trace, in a folder or in a zip: their sizes, and a way to open them."""

    def __init__(self, sizes: Mapping[str, int], opened: Callable[[str], AbstractContextManager[IO[bytes]]]) -> None:
        self.sizes, self.opened = sizes, opened

    def open(self, name: str, size: int) -> AbstractContextManager[IO[bytes]]:
        """A file that has this size, else an error."""
        if self.sizes.get(name) != size:
            raise CheckpointCorrupt(f"{name} has {self.sizes.get(name, 'no')} bytes; {RECORDS} says {size:,}.")
        return self.opened(name)


@contextmanager
def _folder(path: Path) -> Iterator[Members]:
    names = [name for name in _names(path) if name != files.MANIFEST]
    paths = {name: files.file_in(path, name) for name in names}
    yield Members({name: file.stat().st_size for name, file in paths.items()}, lambda name: paths[name].open("rb"))


def _names(folder: Path) -> list[str]:
    data = folder / "data"
    inner = [f"data/{file.name}" for file in sorted(data.iterdir())] if data.is_dir() else []
    return [RECORDS, *inner]


@contextmanager
def _zip(path: Path) -> Iterator[Members]:
    """The members of a zip. Data is not compressed, so that there is never more of it than the file has."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
                deflated = info.compress_type == zipfile.ZIP_DEFLATED and info.filename == RECORDS
                if not (plain or deflated) or info.flag_bits & 1:
                    raise CheckpointCorrupt(f"{info.filename[:200]!r} is compressed or encrypted; zip it without.")
                if info.file_size > max(SMALL, MAX_INFLATION * info.compress_size):
                    raise CheckpointCorrupt(f"{info.filename} would inflate to {info.file_size:,} bytes.")
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if len(sizes) < len(archive.infolist()):
                raise CheckpointCorrupt("A file comes twice in it.")
            if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
                raise CheckpointCorrupt("Its files overlap.")
            yield Members(sizes, archive.open)
    except CheckpointError:
        raise
    except OF_ZIP as error:
        reason = str(error)[:200] or "it ends too early"
        raise CheckpointCorrupt(f"It is no zip file, or a broken one: {reason.rstrip('.')}.") from None


def _write_zip(path: Path, written: bytes, members: Mapping[str, Sequence[bytes | memoryview]]) -> None:
    """The same bytes for the same trace: no times, no owners."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(RECORDS), written, zipfile.ZIP_DEFLATED)
        for name, pieces in members.items():
            info = zipfile.ZipInfo(name)
            info.file_size = sum(map(len, pieces))
            with archive.open(info, "w") as member:
                for piece in pieces:
                    member.write(piece)


def _pieces(trace: Trace, places: Sequence[tuple[int, int]], number: int) -> list[bytes | memoryview]:
    """What stands in a data file: storages, and zeros up to where the next one begins."""
    pieces: list[bytes | memoryview] = []
    end = 0
    for storage, (file, offset) in zip(trace.storages, places, strict=True):
        if file == number:
            pieces += [bytes(offset - end), _window(storage.bytes)]
            end = offset + storage.nbytes
    return pieces


def _window(storage: torch.UntypedStorage) -> memoryview:
    """The bytes of a storage, to read and to write."""
    return memoryview(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())  # type: ignore[arg-type]


def _read_whole(members: Members) -> bytes:
    size = members.sizes.get(RECORDS, 0)
    if size > trace_json.MAX_JSON_BYTES:
        raise CheckpointCorrupt(f"{RECORDS} has {size:,} bytes; at most {trace_json.MAX_JSON_BYTES:,} are read here.")
    if RECORDS not in members.sizes:
        raise CheckpointCorrupt(f"It has no {RECORDS}, so it is no trace.")
    with members.open(RECORDS, size) as stream:
        return stream.read()


def _read_data(trace: Trace, content: Mapping[str, Any], members: Members) -> None:
    """Fill the storages, from files of exactly the sizes and names that they lead to."""
    _check_layout(content)
    names = [entry["file"] for entry in content["data"]]
    unknown = sorted(set(members.sizes) - {RECORDS, *names})
    if unknown:
        raise CheckpointCorrupt(f"{unknown[0][:200]!r} is no part of the trace.")
    with ExitStack() as stack:
        streams = [stack.enter_context(members.open(e["file"], e["nbytes"])) for e in content["data"]]
        ends = [0] * len(streams)
        for storage, entry in zip(trace.storages, content["storages"], strict=True):
            number, offset, nbytes = entry["data"], entry["offset"], entry["nbytes"]
            stream = streams[number]
            storage.bytes = torch.UntypedStorage(nbytes)  # type: ignore[no-untyped-call]
            padding = stream.read(offset - ends[number])
            if any(padding) or stream.readinto(_window(storage.bytes)) != nbytes:
                raise CheckpointCorrupt(f"{names[number]} is cut off, or has numbers where no storage is.")
            ends[number] = offset + nbytes
        if any(stream.read(1) for stream in streams):  # a zip compares its checksums at the end
            raise CheckpointCorrupt("A data file is longer than it says.")


# ---- where the storages are


def _layout(nbytes: Sequence[int]) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """For each storage, the number of its data file and the place in it; and the names and sizes of these files.

    Storages follow each other, each at the next multiple of 64 bytes; one that would make a file larger than 64 MiB
    begins the next. Nothing else is allowed, so that no byte is there twice, or for nothing.
    """
    places: list[tuple[int, int]] = []
    sizes: list[int] = []
    for size in nbytes:
        at = -(-sizes[-1] // ALIGNED) * ALIGNED if sizes else 0
        if not sizes or (at and at + size > CHUNK):
            sizes.append(0)
            at = 0
        places.append((len(sizes) - 1, at))
        sizes[-1] = at + size
    return places, {f"data/{number:03}.bin": size for number, size in enumerate(sizes)}


def _check_layout(content: Mapping[str, Any]) -> None:
    places, data = _layout([storage["nbytes"] for storage in content["storages"]])
    if [(storage["data"], storage["offset"]) for storage in content["storages"]] != places:
        raise CheckpointCorrupt("The storages do not follow each other in the data files.")
    if [(entry["file"], entry["nbytes"]) for entry in content["data"]] != list(data.items()):
        raise CheckpointCorrupt("The data files are not those that the storages fill.")
