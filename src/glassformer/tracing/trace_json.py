"""The records of a trace as JSON, and back: what stands in `trace.json`.

Writing, a name is shown as everybody may see it; reading, nothing is believed before `validate.py` has looked at it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glassformer import strict_json
from glassformer.errors import CheckpointCorrupt
from glassformer.tracing import validate
from glassformer.tracing.trace import ModuleRecord, Operation, Ref, SourceLine, Storage, TensorRecord, Trace
from glassformer.tracing.validate import DTYPES, MAX_TEXT, RECORDS

FORMAT, VERSION = "glassformer-trace", 1
MAX_JSON_BYTES = 256 << 20
MAX_VALUES = 1 << 22
MAX_DEPTH = 16  # of lists among arguments
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def encode(trace: Trace, places: Sequence[tuple[int, int]], data: Mapping[str, int]) -> dict[str, Any]:
    """All of a trace but the bytes of its storages, which are at these places in data files of these sizes."""
    sources: dict[SourceLine, int] = {}
    for operation in trace.operations:
        sources.setdefault(operation.source, len(sources))
    return {
        "format": FORMAT,
        "version": VERSION,
        "data": [{"file": file, "nbytes": size} for file, size in data.items()],
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
        "sources": [source_record(source) for source in sources],
        "modules": [{"path": module.path, "class": module.cls} for module in trace.modules],
        "names": trace.names,
    }


def source_record(source: SourceLine) -> dict[str, Any]:
    """A line of source as everybody may see it."""
    return {
        "file": _line(shown_path(source.file)),
        "line": source.line,
        "text": _line(source.text),
        "function": _line(source.function),
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


def parse(records: bytes) -> dict[str, Any]:
    """The JSON of a trace, if that is what it is."""
    if len(records) > MAX_JSON_BYTES:
        raise CheckpointCorrupt(f"{RECORDS} would have {len(records):,} bytes; at most {MAX_JSON_BYTES:,} are read.")
    content = strict_json.parse(records, RECORDS, max_values=MAX_VALUES)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise CheckpointCorrupt(
            f"{RECORDS} is not {FORMAT} {VERSION} but {content.get('format')!r:.100} {content.get('version')!r:.20}."
        )
    return content


def decode(content: Mapping[str, Any]) -> Trace:
    """The records, with storages that are still empty. Every number that points somewhere is checked."""
    validate.check(content)
    sources = [SourceLine(**source) for source in content["sources"]]
    nothing = torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
    trace = Trace(
        storages=[
            Storage(i, nothing, storage["written_by"], storage["previous"])
            for i, storage in enumerate(content["storages"])
        ],
        tensors=[_tensor(i, tensor) for i, tensor in enumerate(content["tensors"])],
        operations=[_operation(i, operation, sources) for i, operation in enumerate(content["operations"])],
        modules=[ModuleRecord(path=module["path"], cls=module["class"]) for module in content["modules"]],
        names=dict(content["names"]),
        from_file=True,
    )
    validate.check_order(trace)
    return trace


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


def _operation(number: int, operation: Mapping[str, Any], sources: Sequence[SourceLine]) -> Operation:
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
        case {"tensor": tensor} if len(value) == 1 and validate.count(tensor):
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
        case str() if validate.text(value):
            return value
    raise CheckpointCorrupt(f"{where} is {validate.short(value)}, which is no argument.")
