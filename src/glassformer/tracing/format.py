"""Traces on disk: `trace.json`, which has the records, and `data/NNN.bin`, which have the bytes of the storages.

    save(trace, Path("runs/trace"))        a folder, sealed with a manifest of hashes
    save(trace, Path("trace.gft"))         the same files in one, a zip
    trace = load(Path("trace.gft"))        to look at, to explain and to check, without the model

`docs/trace-format.md` describes the format, `trace.schema.json` says the same to programs. A trace may come from a
stranger: nothing of it is executed, nothing is allocated that the file does not have, and whatever does not fit
together is a `TraceError`. What stays behind is the module: a loaded trace cannot be run again with changes.
"""

import io
import json
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, get_args

import torch

from glassformer import files, strict_json
from glassformer.errors import CheckpointCorrupt, CheckpointError, TraceError
from glassformer.tracing.trace import Kind, ModuleRecord, Operation, Ref, Source, Storage, TensorRecord, Trace

FORMAT, VERSION = "glassformer-trace", 1
RECORDS = "trace.json"
SUFFIX = ".gft"
CHUNK = 64 << 20  # bytes of a data file, unless a single storage has more
ALIGNED = 64  # each storage begins at a multiple, so that a reader can map it into memory
MAX_JSON_BYTES = 256 << 20
MAX_VALUES = 1 << 22
MAX_EXPANDED = 1 << 28  # cells of a tensor that repeats its storage; one that does not may have as many as there are
MAX_AXES = 32  # numpy's limit
MAX_TEXT = 4_000
MAX_DEPTH = 16  # of lists among arguments
SAFE = 2**53  # integers that every reader of JSON keeps
DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
OPERATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z]\w*)?", re.ASCII)
OF_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, IndexError, KeyError)  # of broken ones


def save(trace: Trace, path: Path) -> Path:
    """Write a trace as a folder, or as one file where the path ends in .gft; a crash leaves the old one or the new.

    Raises `TraceError` where weights have changed since they were recorded, and what `load` would refuse.
    """
    if sys.byteorder != "little":
        raise TraceError("Traces are written little-endian, and this machine is not.")
    for tensor in trace.parameters:
        trace.value(tensor)  # raises where a weight has changed
    places, sizes = _layout([storage.nbytes for storage in trace.storages])
    text = json.dumps(_encode(trace, places, sizes), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    members = {_data_file(number): _pieces(trace, places, number) for number in range(len(sizes))}
    with _faults():
        records = text.encode("utf-8", "surrogatepass")
        with files.about(path):
            _decode(_parse(records))
        if path.suffix == SUFFIX:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_file(path, _zipped(records, members, sizes))
        else:
            with files.new_directory(path) as folder:
                (folder / "data").mkdir()
                files.write(folder / RECORDS, records)
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
        with files.about(path), _folder(path) if path.is_dir() else _zip(path) as members:
            content = _parse(_read_whole(members))
            trace = _decode(content)
            _read_data(trace, content, members)
    return trace


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever is wrong with a file is wrong with the trace."""
    try:
        yield
    except (CheckpointError, OSError) as error:
        raise TraceError(str(error)) from error


# ---- the bytes


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
    found = {name: files.inside(path, name) for name in names}
    yield Members({name: file.stat().st_size for name, file in found.items()}, lambda name: found[name].open("rb"))


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


def _zipped(records: bytes, members: Mapping[str, Sequence[bytes | memoryview]], sizes: Sequence[int]) -> bytes:
    """The same bytes for the same trace: no times, no owners."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(RECORDS), records, zipfile.ZIP_DEFLATED)
        for (name, pieces), size in zip(members.items(), sizes, strict=True):
            info = zipfile.ZipInfo(name)
            info.file_size = size
            with archive.open(info, "w") as member:
                for piece in pieces:
                    member.write(piece)
    return buffer.getvalue()


def _layout(nbytes: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """For each storage, in which data file it is and where; and the sizes of these files.

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
    return places, sizes


def _data_file(number: int) -> str:
    return f"data/{number:03}.bin"


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
    if size > MAX_JSON_BYTES:
        raise CheckpointCorrupt(f"{RECORDS} has {size:,} bytes; at most {MAX_JSON_BYTES:,} are read here.")
    if RECORDS not in members.sizes:
        raise CheckpointCorrupt(f"It has no {RECORDS}, so it is no trace.")
    with members.open(RECORDS, size) as stream:
        return stream.read()


def _read_data(trace: Trace, content: Mapping[str, Any], members: Members) -> None:
    """Fill the storages, which are laid out as `_decode` has made sure, from files of the sizes that it says."""
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


# ---- from records to JSON


def _encode(trace: Trace, places: Sequence[tuple[int, int]], sizes: Sequence[int]) -> dict[str, Any]:
    sources: dict[Source, int] = {}
    for operation in trace.operations:
        sources.setdefault(operation.source, len(sources))
    return {
        "format": FORMAT,
        "version": VERSION,
        "data": [{"file": _data_file(number), "nbytes": size} for number, size in enumerate(sizes)],
        "storages": [
            {
                "data": file,
                "offset": offset,
                "nbytes": storage.nbytes,
                "written_by": storage.written_by,
                "previous": storage.previous,
            }
            for storage, (file, offset) in zip(trace.storages, places, strict=True)
        ],
        "tensors": [
            {
                "storage": tensor.storage,
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "strides": list(tensor.strides),
                "offset": tensor.offset,
                "kind": tensor.kind,
                "name": tensor.name,
                "axes": list(tensor.axes),
                "made_by": tensor.made_by,
                "derived": tensor.derived,
            }
            for tensor in trace.tensors
        ],
        "operations": [
            {
                "number": operation.number,
                "name": operation.name,
                "arguments": {name: _encoded(value) for name, value in operation.arguments.items()},
                "outputs": list(operation.outputs),
                "module": operation.module,
                "source": sources[operation.source],
                "writes": operation.writes,
            }
            for operation in trace.operations
        ],
        "sources": [
            {
                "file": _line(shown_path(source.file)),
                "line": source.line,
                "text": _line(source.text),
                "function": _line(source.function),
            }
            for source in sources
        ],
        "modules": [{"path": module.path, "class": module.cls} for module in trace.modules],
        "names": trace.names,
    }


def _encoded(value: Any) -> Any:
    """An argument: what JSON has no word for becomes an object with one key."""
    match value:
        case Ref(tensor=tensor):
            return {"tensor": tensor}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case complex():
            return {"complex": [_encoded(value.real), _encoded(value.imag)]}
        case list():
            return [_encoded(part) for part in value]
    return value


def _line(text: str) -> str:
    """A text that can be printed anywhere: no tabs, no control characters, no end."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_TEXT])


def shown_path(file: str) -> str:
    """Where a source file is for everybody: in its package, else below somebody's home, whose name stays here."""
    path = file.replace("\\", "/")
    installed = re.fullmatch(r".*/(?:site|dist)-packages/(.+)", path)
    if installed:
        return installed[1]
    folder = Path(path).parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    if folder != Path(path).parent:
        return Path(path).relative_to(folder).as_posix()
    for home in (Path.home().as_posix(), r"(?:[A-Za-z]:)?/(?:home|Users)/[^/]+", "/root"):
        below = re.fullmatch(rf"{home}/(.+)" if "(" in home else rf"{re.escape(home)}/(.+)", path)
        if below:
            return below[1]
    return path


# ---- and back, trusting nothing


def _parse(records: bytes) -> dict[str, Any]:
    if len(records) > MAX_JSON_BYTES:
        raise CheckpointCorrupt(f"{RECORDS} would have {len(records):,} bytes; at most {MAX_JSON_BYTES:,} are read.")
    content = strict_json.parse(records, RECORDS, max_values=MAX_VALUES)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise CheckpointCorrupt(
            f"{RECORDS} is not {FORMAT} {VERSION} but {content.get('format')!r:.100} {content.get('version')!r:.20}."
        )
    return content


Check = Callable[[Any], bool]


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= SAFE


def _id(value: Any) -> bool:
    return value is None or _count(value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT and value.isprintable()


def _many(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def _one_of(words: Sequence[str]) -> Check:
    return lambda value: type(value) is str and value in words


def _object(value: Any) -> bool:
    return type(value) is dict and all(map(_text, value))


def _name_of_operation(value: Any) -> bool:
    return _text(value) and OPERATION.fullmatch(value) is not None


TABLES: dict[str, dict[str, Check]] = {
    "data": {"file": _text, "nbytes": _count},
    "storages": {"data": _count, "offset": _count, "nbytes": _count, "written_by": _id, "previous": _id},
    "tensors": {
        "storage": _count,
        "dtype": _one_of(tuple(DTYPES)),
        "shape": _many(_count),
        "strides": _many(_count),
        "offset": _count,
        "kind": _one_of(get_args(Kind)),
        "name": _text,
        "axes": _many(_text),
        "made_by": _id,
        "derived": _flag,
    },
    "operations": {
        "number": _count,
        "name": _name_of_operation,
        "arguments": _object,
        "outputs": _many(_count),
        "module": _text,
        "source": _count,
        "writes": _flag,
    },
    "sources": {"file": _text, "line": _count, "text": _text, "function": _text},
    "modules": {"path": _text, "class": _text},
}


def _decode(content: Mapping[str, Any]) -> Trace:
    """The records, with storages that are still empty. Every number that points somewhere is checked."""
    if set(content) != {"format", "version", "names", *TABLES}:
        raise CheckpointCorrupt(f"{RECORDS} has not the parts of a trace, which are {', '.join(TABLES)} and names.")
    for table, fields in TABLES.items():
        _check_fields(table, content[table], fields)
    _check_layout(content)
    sizes = {table: len(content[table]) for table in TABLES}
    for i, storage in enumerate(content["storages"]):
        _refers(f"storages[{i}].written_by", storage["written_by"], "operations", sizes)
        if storage["previous"] is not None and (storage["previous"] >= i or storage["written_by"] is None):
            raise CheckpointCorrupt(f"storages[{i}].previous is no storage before it that an operation has changed.")
    for i, tensor in enumerate(content["tensors"]):
        _refers(f"tensors[{i}].storage", tensor["storage"], "storages", sizes)
        _refers(f"tensors[{i}].made_by", tensor["made_by"], "operations", sizes)
        _check_window(f"tensors[{i}]", tensor, content["storages"][tensor["storage"]]["nbytes"])
    for i, operation in enumerate(content["operations"]):
        _refers(f"operations[{i}].source", operation["source"], "sources", sizes)
        if i and operation["number"] <= content["operations"][i - 1]["number"]:
            raise CheckpointCorrupt(f"operations[{i}].number is not above the one before it.")
    sources = [Source(**source) for source in content["sources"]]
    nothing = torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
    trace = Trace(
        storages=[
            Storage(i, nothing, storage["written_by"], storage["previous"])
            for i, storage in enumerate(content["storages"])
        ],
        tensors=[_tensor(i, tensor) for i, tensor in enumerate(content["tensors"])],
        operations=[_operation(i, operation, sources) for i, operation in enumerate(content["operations"])],
        modules=[ModuleRecord(path=module["path"], cls=module["class"]) for module in content["modules"]],
        names=_names_of(content["names"], sizes),
    )
    _check_order(trace)
    return trace


def _check_fields(table: str, records: Any, fields: Mapping[str, Check]) -> None:
    if type(records) is not list:
        raise CheckpointCorrupt(f"{table} is no list.")
    for i, record in enumerate(records):
        if type(record) is not dict or record.keys() != fields.keys():
            raise CheckpointCorrupt(f"{table}[{i}] has not the fields of such a record: {', '.join(fields)}.")
        for name, check in fields.items():
            if not check(record[name]):
                raise CheckpointCorrupt(f"{table}[{i}].{name} is {_short(record[name])}, which cannot be.")


def _short(value: Any) -> str:
    return ascii(value)[:80] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _refers(where: str, to: int | None, table: str, sizes: Mapping[str, int]) -> None:
    if to is not None and to >= sizes[table]:
        raise CheckpointCorrupt(f"{where} is {to}, but there are {sizes[table]} {table}.")


def _check_layout(content: Mapping[str, Any]) -> None:
    places, sizes = _layout([storage["nbytes"] for storage in content["storages"]])
    if [(storage["data"], storage["offset"]) for storage in content["storages"]] != places:
        raise CheckpointCorrupt("The storages do not follow each other in the data files.")
    if [(data["file"], data["nbytes"]) for data in content["data"]] != [
        (_data_file(number), size) for number, size in enumerate(sizes)
    ]:
        raise CheckpointCorrupt("The data files are not those that the storages fill.")


def _check_window(where: str, tensor: Mapping[str, Any], nbytes: int) -> None:
    """The window lies in its storage, and shows no more cells than a machine can hold."""
    shape, strides, itemsize = tensor["shape"], tensor["strides"], DTYPES[tensor["dtype"]].itemsize
    if len(shape) != len(strides) or len(shape) > MAX_AXES or len(tensor["axes"]) not in (0, len(shape)):
        raise CheckpointCorrupt(
            f"{where} has {len(shape)} axes, {len(strides)} strides, {len(tensor['axes'])} letters."
        )
    end = tensor["offset"] + (sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1) * all(shape)
    if end * itemsize > nbytes:
        raise CheckpointCorrupt(f"{where} ends at byte {end * itemsize:,} of a storage that has {nbytes:,}.")
    if math.prod(max(n, 1) for n in shape) > max(MAX_EXPANDED, nbytes // itemsize):
        raise CheckpointCorrupt(f"{where} has more cells than the storage that it repeats allows.")


def _tensor(number: int, tensor: Mapping[str, Any]) -> TensorRecord:
    return TensorRecord(
        id=number,
        storage=tensor["storage"],
        dtype=DTYPES[tensor["dtype"]],
        shape=tuple(tensor["shape"]),
        strides=tuple(tensor["strides"]),
        offset=tensor["offset"],
        kind=tensor["kind"],
        name=tensor["name"],
        axes=tuple(tensor["axes"]),
        made_by=tensor["made_by"],
        derived=tensor["derived"],
    )


def _operation(number: int, operation: Mapping[str, Any], sources: Sequence[Source]) -> Operation:
    return Operation(
        id=number,
        number=operation["number"],
        name=operation["name"],
        arguments={
            name: _decoded(value, f"operations[{number}].arguments.{name}")
            for name, value in operation["arguments"].items()
        },
        outputs=tuple(operation["outputs"]),
        module=operation["module"],
        source=sources[operation["source"]],
        writes=operation["writes"],
    )


def _decoded(value: Any, where: str, depth: int = 0) -> Any:
    """The opposite of `_encoded`."""
    match value:
        case {"tensor": tensor} if len(value) == 1 and _count(tensor):
            return Ref(tensor=tensor)
        case {"float": str(word)} if len(value) == 1 and word in NOT_FINITE:
            return NOT_FINITE[word]
        case {"complex": [real, imag]} if len(value) == 1:
            parts = [_decoded(part, where, depth) for part in (real, imag)]
            if all(isinstance(part, int | float) for part in parts):
                return complex(*parts)
        case list() if depth < MAX_DEPTH:
            return [_decoded(part, where, depth + 1) for part in value]
        case bool() | None:
            return value
        case int() if -(2**63) <= value < 2**64:
            return value
        case float() if math.isfinite(value):
            return value
        case str() if _text(value):
            return value
    raise CheckpointCorrupt(f"{where} is {_short(value)}, which is no argument.")


def _names_of(names: Any, sizes: Mapping[str, int]) -> dict[str, list[int]]:
    if not _object(names) or not all(_many(_count)(ids) and ids for ids in names.values()):
        raise CheckpointCorrupt("names is no object with a list of tensors for each name.")
    for name, ids in names.items():
        _refers(f"names.{name}", max(ids), "tensors", sizes)
    return dict(names)


def _check_order(trace: Trace) -> None:
    """An operation reads what was there before it; what it wrote, and what it is said to have made, are its results."""
    sizes = {"tensors": len(trace.tensors)}
    results = {(operation.id, output) for operation in trace.operations for output in operation.outputs}
    for operation in trace.operations:
        where = f"operations[{operation.id}]"
        for output in operation.outputs:
            _refers(f"{where}.outputs", output, "tensors", sizes)
            record = trace.tensors[output]
            written_by = trace.storages[record.storage].written_by
            if written_by is not None and written_by > operation.id:
                raise CheckpointCorrupt(f"{where} has a result that operations[{written_by}] wrote later.")
            if written_by == operation.id and record.made_by != operation.id:
                raise CheckpointCorrupt(f"{where} wrote tensors[{output}], which says that another has made it.")
        for tensor in _tensors_in(list(operation.arguments.values())):
            _refers(f"{where}.arguments", tensor, "tensors", sizes)
            written_by = trace.storages[trace.tensors[tensor].storage].written_by
            if written_by is not None and written_by >= operation.id:
                raise CheckpointCorrupt(f"{where} reads what operations[{written_by}] writes, which is not before it.")
    for record in trace.tensors:
        if record.made_by is not None and (record.made_by, record.id) not in results:
            raise CheckpointCorrupt(f"tensors[{record.id}].made_by is an operation that has another result.")


def _tensors_in(arguments: Sequence[Any]) -> Iterator[int]:
    for value in arguments:
        if isinstance(value, Ref):
            yield value.tensor
        elif isinstance(value, list):
            yield from _tensors_in(value)
