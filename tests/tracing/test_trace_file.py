"""Traces on disk: what comes back is what was saved, and what does not fit together is refused in a sentence."""

import json
import math
import random
import re
import resource
import runpy
import shutil
import struct
import zipfile
from collections.abc import Callable
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import Tensor, nn

import glassformer as gf
from glassformer.errors import TraceError
from glassformer.tracing import trace_file, trace_json, validate
from glassformer.tracing.check import check
from glassformer.tracing.explain import explain
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Operation, Ref, Trace
from glassformer.tracing.trace_file import load, save
from glassformer.tracing.trace_json import shown_path
from support.counts import count
from support.damage import damaged


class Mixed(nn.Module):
    """A little of what a trace can hold: views, operations in place, infinities, dtypes, an empty buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("nothing", torch.zeros(0, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(self.mix(x))
        masked = hidden.masked_fill(hidden < 0, -torch.inf)
        filled = torch.full((2,), torch.nan)
        changed = hidden.clone()
        changed[:, 1] = 0
        changed.clamp_(-1, math.inf)
        half = changed.to(torch.bfloat16)
        pairs = torch.view_as_real(torch.fft.rfft(x, dim=1))
        joined = torch.cat([half.float().flatten(), pairs.flatten(), filled, masked.exp().flatten()])
        return joined[None].expand(3, -1), self.nothing + 1


def mixed() -> Trace:
    return record(Mixed(), torch.randn(2, 4))


def sorter(**options: Any) -> Trace:
    return record(gf.build("nano-sort").module, torch.tensor([[0, 1, 2, 1]]), **options)


TRACES: dict[str, Callable[[], Trace]] = {
    "mixed": mixed,
    "a GPT": sorter,
    "a block of it": lambda: sorter(modules="blocks.1.*"),
    "an LSTM, taken apart": lambda: record(nn.LSTM(3, 4), torch.randn(5, 1, 3), decompose=True),
    "nothing": Trace,
}
FORMS = ["trace", "trace.gft"]


def strict(text: bytes) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    content: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return content


def without_file(operation: Operation) -> tuple[Any, ...]:
    source = operation.source
    return (
        *(operation.id, operation.number, operation.name, repr(dict(operation.arguments)), operation.outputs),
        *(operation.module, operation.writes, source.line, source.text, source.function),
    )


def content_of(trace: Trace) -> list[tuple[Any, ...]]:
    windows = [torch.empty(0, dtype=torch.uint8).set_(storage.bytes) for storage in trace.storages]
    return [
        (storage.id, window.numpy().tobytes(), storage.written_by, storage.previous)
        for storage, window in zip(trace.storages, windows, strict=True)
    ]


def same(one: Trace, other: Trace) -> bool:
    return (
        content_of(one) == content_of(other)
        and list(map(without_file, one.operations)) == list(map(without_file, other.operations))
        and (one.tensors, one.modules, one.names) == (other.tensors, other.modules, other.names)
    )


# ---- what comes back


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", TRACES.values(), ids=TRACES.keys())
def test_what_was_saved_comes_back(make: Callable[[], Trace], form: str, tmp_path: Path) -> None:
    trace = make()
    assert save(trace, tmp_path / "runs" / form) == tmp_path / "runs" / form
    loaded = load(tmp_path / "runs" / form)
    assert same(trace, loaded)
    for name in trace.names:
        assert loaded[name].record == trace[name].record
        torch.testing.assert_close(loaded[name].value, trace[name].value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [mixed, sorter])
def test_a_loaded_trace_explains_and_checks_the_same(
    make: Callable[[], Trace], form: str, tmp_path: Path, unchecked: None
) -> None:
    trace = make()
    loaded = load(save(trace, tmp_path / form))
    mine, its = check(loaded, cells=1_000), check(trace, cells=1_000)
    assert mine.passed
    assert mine == its
    for _, output in list(trace.computed())[::5]:
        cell = next(trace[trace.tensors[output].name].cells(), None)
        if cell is not None:
            again = loaded[trace.tensors[output].name][cell.index]
            assert str(explain(again, depth=2)) == str(explain(cell, depth=2))


def test_a_loaded_trace_needs_no_model_and_keeps_its_numbers(tmp_path: Path) -> None:
    module = Mixed()
    trace = record(module, torch.randn(2, 4))
    loaded = load(save(trace, tmp_path / "trace"))
    before = loaded["mix.weight"].value
    with torch.no_grad():
        module.mix.weight.zero_()
    shutil.rmtree(tmp_path / "trace")
    assert torch.equal(loaded["mix.weight"].value, before)
    assert (loaded.parameters, loaded.versions, loaded.replay, loaded.movements) == ({}, {}, None, {})


def test_weights_that_have_changed_are_not_saved(tmp_path: Path) -> None:
    module = Mixed()
    trace = record(module, torch.randn(2, 4))
    with torch.no_grad():
        module.mix.weight.zero_()
    with pytest.raises(TraceError, match=r"mix\.weight has changed since it was recorded"):
        save(trace, tmp_path / "trace")
    assert not list(tmp_path.iterdir())


def test_floats_without_a_word_in_json_come_back_as_floats(tmp_path: Path) -> None:
    trace = load(save(mixed(), tmp_path / "trace"))
    strict((tmp_path / "trace" / "trace.json").read_bytes())
    given = {repr(v) for o in trace.operations for v in o.arguments.values() if isinstance(v, float)}
    assert {"inf", "-inf", "nan"} <= given


@pytest.mark.parametrize("make", TRACES.values(), ids=TRACES.keys())
def test_trace_json_is_what_its_schema_says(make: Callable[[], Trace], tmp_path: Path) -> None:
    schema = json.loads((resources("glassformer") / "tracing" / "trace.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    content = strict((save(make(), tmp_path / "trace") / "trace.json").read_bytes())
    validator.validate(content)
    content["storages"].append({"data": 0, "offset": 1, "nbytes": 1, "written_by": None, "previous": None})
    assert not validator.is_valid(content)


def test_the_schema_and_the_loader_know_the_same_fields_and_words() -> None:
    schema = json.loads((resources("glassformer") / "tracing" / "trace.schema.json").read_text())
    for table, fields in validate.TABLES.items():
        definition = schema["$defs"][schema["properties"][table]["items"]["$ref"].rpartition("/")[2]]
        assert definition["required"] == list(definition["properties"]) == list(fields)
    tensor = schema["$defs"]["tensor"]["properties"]
    assert set(tensor["dtype"]["enum"]) == set(validate.DTYPES)
    assert schema["$defs"]["text"]["maxLength"] == validate.MAX_TEXT
    assert schema["$defs"]["count"]["maximum"] == validate.SAFE


def test_a_file_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    trace = mixed()
    assert save(trace, tmp_path / "a.gft").read_bytes() == save(trace, tmp_path / "b.gft").read_bytes()
    assert save(load(tmp_path / "a.gft"), tmp_path / "c.gft").read_bytes() == (tmp_path / "a.gft").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_large_traces_have_several_data_files(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = sorter()
    monkeypatch.setattr(trace_file, "CHUNK", 10_000)
    loaded = load(save(trace, tmp_path / form))
    assert same(trace, loaded)
    if form == "trace":
        sizes = [file.stat().st_size for file in (tmp_path / form / "data").iterdir()]
        assert len(sizes) > 10
        assert max(sizes) <= max(10_000, *(storage.nbytes for storage in trace.storages))


@pytest.mark.parametrize("form", FORMS)
def test_saving_again_replaces_the_trace(form: str, tmp_path: Path) -> None:
    save(mixed(), tmp_path / form)
    trace = sorter()
    with pytest.raises(TraceError, match="is there already"):
        save(trace, tmp_path / form)
    assert same(trace, load(save(trace, tmp_path / form, overwrite=True)))
    assert [path.name for path in tmp_path.iterdir()] == [form]


@pytest.mark.parametrize("form", FORMS)
def test_a_save_that_fails_leaves_what_was_there(form: str, tmp_path: Path) -> None:
    trace, other = mixed(), sorter()
    save(trace, tmp_path / form)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1_000, 100_000, 400_000):  # in the records, and in the data
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(TraceError, match=f"{form} cannot be written: File too large"):
                save(other, tmp_path / form, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert same(trace, load(tmp_path / form))
        assert [path.name for path in tmp_path.iterdir()] == [form]


def test_other_peoples_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TraceError, match=r"thesis\.tex"):
        save(mixed(), tmp_path, overwrite=True)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    trace = mixed()
    trace.names["\x1b[2J"] = [0]
    with pytest.raises(TraceError, match="names is no object"):
        save(trace, tmp_path / "trace")
    assert not list(tmp_path.iterdir())


def test_paths_of_sources_are_those_of_the_package_and_name_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    package = tmp_path / "work" / "models" / "tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    assert shown_path(str(package / "gpt.py")) == "models/tiny/gpt.py"
    assert shown_path(str(tmp_path / "work" / "run.py")) == "work/run.py"
    assert shown_path("/home/ada/.venv/lib/python3.12/site-packages/torch/nn/modules/linear.py") == (
        "torch/nn/modules/linear.py"
    )
    assert shown_path("/home/ada/model.py") == shown_path("/Users/ada/model.py") == "model.py"
    assert shown_path("C:\\Users\\ada\\model.py") == shown_path("/root/model.py") == "model.py"
    assert shown_path("/opt/models/model.py") == "/opt/models/model.py"
    assert shown_path("<stdin>") == "<stdin>"
    content = strict((save(sorter(), tmp_path / "trace") / "trace.json").read_bytes())
    assert {source["file"].partition("/")[0] for source in content["sources"]} == {"glassformer"}


# ---- what is refused

Spoil = Callable[[dict[str, Any]], object]


def put(*path: str | int, value: Any) -> Spoil:
    def spoil(content: dict[str, Any]) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return spoil


def argument(value: Any) -> Spoil:
    return put("operations", 0, "arguments", "self", value=value)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


BROKEN: dict[str, tuple[Spoil, str]] = {
    "another format": (put("format", value="glassformer"), "not glassformer-trace 1"),
    "another version": (put("version", value=2), "not glassformer-trace 1"),
    "a version that is true": (put("version", value=[1]), "not glassformer-trace 1"),
    "a part too many": (put("pickle", value=[]), "not the parts"),
    "a part missing": (lambda content: content.pop("names"), "not the parts"),
    "a table that is no list": (put("modules", value={}), "modules is no list"),
    "a record that is none": (put("modules", 0, value=[]), r"modules\[0\]"),
    "a field too many": (put("tensors", 0, "id", value=0), r"tensors\[0\]"),
    "a negative number": (put("tensors", 0, "offset", value=-1), "cannot be"),
    "a number that is true": (put("tensors", 0, "offset", value=True), "cannot be"),
    "a number with a point": (put("tensors", 0, "offset", value=0.0), "cannot be"),
    "a number beyond all": (put("tensors", 0, "offset", value=1 << 60), "cannot be"),
    "a window that leaves its storage": (put("tensors", 0, "offset", value=1), "ends at byte"),
    "a window that is too long": (put("tensors", 0, "shape", value=[4, 5]), "ends at byte"),
    "strides that leave the storage": (put("tensors", 0, "strides", value=[4, 99]), "ends at byte"),
    "a wider dtype": (put("tensors", 0, "dtype", value="float64"), "ends at byte"),
    "an unknown dtype": (put("tensors", 0, "dtype", value="qint8"), "cannot be"),
    "a dtype by its name in torch": (put("tensors", 0, "dtype", value="Tensor"), "cannot be"),
    "more axes than strides": (put("tensors", 0, "shape", value=[4, 4, 1]), "strides"),
    "more axes than numpy has": (
        lambda content: content["tensors"][0].update(shape=[1] * 33, strides=[0] * 33),
        "strides",
    ),
    "a mountain of repeated cells": (
        lambda content: content["tensors"][0].update(shape=[1 << 20] * 2, strides=[0, 0]),
        "more cells",
    ),
    "no cells, many times": (
        lambda content: content["tensors"][0].update(shape=[0, 1 << 50, 1 << 50], strides=[0, 0, 0]),
        "more cells",
    ),
    "letters for other axes": (put("tensors", 0, "axes", value=["B"]), "letters"),
    "an unknown kind": (put("tensors", 0, "kind", value="secret"), "cannot be"),
    "a name that clears the screen": (put("tensors", 0, "name", value="\x1b[2J"), "cannot be"),
    "half a letter": (put("tensors", 0, "name", value="\ud800"), "cannot be"),
    "an endless name": (put("tensors", 0, "name", value="x" * 5_000), "cannot be"),
    "a storage that is not there": (put("tensors", 0, "storage", value=9_999), "but there are"),
    "a maker that is not there": (put("tensors", -1, "made_by", value=9_999), "but there are"),
    "another maker": (put("tensors", 0, "made_by", value=3), "has another result"),
    "a writer that is not there": (put("storages", 0, "written_by", value=9_999), "but there are"),
    "a storage before itself": (put("storages", 5, "previous", value=5), "no storage before it"),
    "a circle of storages": (put("storages", 0, "previous", value=5), "no storage before it"),
    "a version without a writer": (put("storages", 1, "previous", value=0), "no storage before it"),
    "a storage that overlaps": (put("storages", 1, "offset", value=0), "do not follow each other"),
    "a storage of another file": (put("storages", 0, "data", value=1), "do not follow each other"),
    "a storage larger than its file": (
        lambda content: (content["storages"][-1].update(nbytes=1 << 50), content["data"][0].update(nbytes=1 << 50)),
        "do not follow each other|says|not those",
    ),
    "a file that leads out": (put("data", 0, "file", value="../../etc/passwd"), "data files are not"),
    "a file of another name": (put("data", 0, "file", value="/etc/passwd"), "data files are not"),
    "a file of another size": (put("data", 0, "nbytes", value=1), "data files are not"),
    "a file too many": (lambda content: content["data"].append(content["data"][0]), "data files are not"),
    "an output that is not there": (put("operations", 0, "outputs", value=[9_999]), "but there are"),
    "an output of a later operation": (
        lambda content: content["operations"][0]["outputs"].extend(content["operations"][-1]["outputs"]),
        "wrote later",
    ),
    "an output that it has not": (put("operations", 1, "outputs", value=[]), "has another result"),
    "an argument that is not there": (argument({"tensor": 9_999}), "but there are"),
    "an argument that is its own result": (
        lambda content: content["operations"][1]["arguments"].update(
            self={"tensor": content["operations"][1]["outputs"][0]}
        ),
        "not before it",
    ),
    "an argument with two words": (argument({"tensor": 0, "float": "inf"}), "no argument"),
    "an argument with an unknown word": (argument({"eval": "1"}), "no argument"),
    "a float by a wrong word": (argument({"float": "1.0"}), "no argument"),
    "a float too large": (argument(1 << 70), "no argument"),
    "an argument that is too deep": (argument(nested(17)), "no argument"),
    "an argument that is far too deep": (argument(nested(900)), "no argument"),
    "arguments by place": (put("operations", 0, "arguments", value=[]), "cannot be"),
    "an operation that is a path": (put("operations", 0, "name", value="../x"), "cannot be"),
    "an operation of Python's own": (put("operations", 0, "name", value="clone.__class__"), "cannot be"),
    "operations out of order": (put("operations", 1, "number", value=0), "not above"),
    "a source that is not there": (put("operations", 0, "source", value=9_999), "but there are"),
    "a name for nothing": (put("names", "x", value=[]), "names is no object"),
    "a name for what is not there": (put("names", "x", value=[9_999]), "but there are"),
    "names as a list": (put("names", value=[]), "names is no object"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved trace, as somebody has changed it by hand: without the manifest."""
    path = save(mixed(), tmp_path / "trace")
    (path / "manifest.json").unlink()
    load(path)
    return path


@pytest.mark.parametrize(("spoil", "match"), BROKEN.values(), ids=BROKEN.keys())
def test_records_that_do_not_fit_together_are_refused(spoil: Spoil, match: str, folder: Path) -> None:
    path = folder / "trace.json"
    content = strict(path.read_bytes())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(TraceError, match=match) as refused:
        load(folder)
    assert str(refused.value).startswith(str(folder))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < len(str(folder)) + 400


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must hold a JSON object"),
        (b'{"format":NaN}', "not a number of JSON"),
        (b'{"format":1,"format":1}', "comes twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format":"' + b"," * (1 << 22), "holds more than"),
        (b"\x80\x04\x95\x0f.", "not valid JSON"),  # a pickle
    ],
)
def test_what_is_not_strict_json_is_refused(text: bytes, match: str, folder: Path) -> None:
    (folder / "trace.json").write_bytes(text)
    with pytest.raises(TraceError, match=match):
        load(folder)


def test_records_that_are_too_large_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_json, "MAX_JSON_BYTES", 1_000)
    with pytest.raises(TraceError, match="at most 1,000 are read"):
        load(folder)


def data_file(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "data" / "000.bin"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def linked_out(folder: Path) -> None:
    (folder / "data" / "000.bin").rename(folder.parent / "elsewhere.bin")
    (folder / "data" / "000.bin").symlink_to(folder.parent / "elsewhere.bin")


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no records": (lambda folder: (folder / "trace.json").unlink(), "is missing"),
    "no data": (lambda folder: shutil.rmtree(folder / "data"), "has no bytes"),
    "data cut off": (data_file(lambda data: data[:-1]), r"000\.bin has"),
    "data too long": (data_file(lambda data: data + b"\0"), r"000\.bin has"),
    "numbers between the storages": (data_file(lambda data: data.replace(bytes(40), b"\1" * 40, 1)), "no storage is"),
    "a file too many": (lambda folder: (folder / "data" / "001.bin").touch(), "no part of the trace"),
    "data elsewhere": (linked_out, "leads out of the folder"),
    "a folder for a file": (lambda folder: (folder / "data" / "001.bin").mkdir(), "is no file"),
}


@pytest.mark.parametrize(("spoil", "match"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_folder_of_other_files_is_refused(spoil: Callable[[Path], object], match: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises(TraceError, match=match):
        load(folder)


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="There is no trace at"):
        load(tmp_path / "trace.gft")
    with pytest.raises(TraceError, match=r"trace\.json is missing"):
        load(tmp_path)


def rezipped(change: Callable[[dict[str, bytes]], object], **options: Any) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        with zipfile.ZipFile(path, "w", **options) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return spoil


def patched(mark: bytes, at: int, value: bytes) -> Callable[[Path], None]:
    """Overwrite what stands so far behind the last place of a signature in the zip."""

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = data.rindex(mark) + at
        data[place : place + len(value)] = value
        path.write_bytes(data)

    return spoil


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"
ZIPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no zip": (lambda path: path.write_bytes(b"\x80\x04\x95" + bytes(500)), "no zip file"),
    "nothing": (lambda path: path.write_bytes(b""), "no zip file"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "no zip file"),
    "an empty zip": (rezipped(dict.clear), r"no trace\.json"),
    "a name that leads out": (rezipped(lambda m: m.update({"../../x": b"1"})), "no part of the trace"),
    "an absolute name": (rezipped(lambda m: m.update({"/etc/x": b"1"})), "no part of the trace"),
    "a member too many": (rezipped(lambda m: m.update({"x.pkl": b"1"})), "no part of the trace"),
    "a member missing": (rezipped(lambda m: m.pop("data/000.bin")), "has no bytes"),
    "data cut off": (rezipped(lambda m: m.update({"data/000.bin": m["data/000.bin"][:-1]})), "bytes; trace.json says"),
    "compressed data": (rezipped(lambda m: None, compression=zipfile.ZIP_DEFLATED), "is compressed or encrypted"),
    "another compression": (rezipped(lambda m: None, compression=zipfile.ZIP_BZIP2), "is compressed or encrypted"),
    "an encrypted member": (patched(CENTRAL, 8, b"\1"), "is compressed or encrypted"),
    "a member larger than it says": (patched(CENTRAL, 24, struct.pack("<L", 10)), "is compressed or encrypted"),
    "a member larger than the file": (patched(CENTRAL, 20, struct.pack("<LL", 1 << 30, 1 << 30)), "overlap"),
    "a member elsewhere": (patched(CENTRAL, 42, struct.pack("<L", 7)), "no zip file"),
    "another local name": (patched(LOCAL, 30, b"atad"), "no zip file"),
    "numbers that have changed": (patched(LOCAL, 60, b"\xff\xfe"), "no zip file"),
    "a bomb": (
        rezipped(lambda m: m.update({"trace.json": bytes(300 << 20)}), compression=zipfile.ZIP_DEFLATED),
        "would inflate to",
    ),
}


@pytest.mark.parametrize(("spoil", "match"), ZIPS.values(), ids=ZIPS.keys())
def test_a_file_that_is_no_trace_is_refused(spoil: Callable[[Path], object], match: str, tmp_path: Path) -> None:
    path = save(mixed(), tmp_path / "trace.gft")
    spoil(path)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(TraceError, match=match):
        load(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = save(mixed(), tmp_path / "trace.gft")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("data/000.bin", b"")
    with pytest.raises(TraceError, match="comes twice"):
        load(path)


@pytest.mark.parametrize("name", ["os.system", "system", "clone.op", "clone.overloads", "cat.x", "_clone_", "eval"])
def test_a_hostile_name_of_an_operation_runs_nothing(name: str, folder: Path) -> None:
    content = strict((folder / "trace.json").read_bytes())
    for operation in content["operations"]:
        operation["name"] = name
    (folder / "trace.json").write_text(json.dumps(content))
    before = sorted(folder.rglob("*"))
    report = check(load(folder))
    assert not report.passed
    assert all(tally.failures for tally in report.by_operation.values())
    assert sorted(folder.rglob("*")) == before


# ---- by chance

VALUES = (
    *(None, True, -1, 0, 1, 2, 7, 1 << 31, 1 << 53, 1 << 63, 1e30, 1.5, "", "x", "out", "add_", "cat.out", "roll"),
    *("\x1b[2J", "../x", [], [0], {}, {"tensor": 0}, {"tensor": 999}, {"float": "inf"}, [[[[1]]]], "torch.bool"),
)


def change(content: Any, choose: random.Random) -> None:
    """Change one value somewhere, remove it, or have it twice."""
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = choose.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or choose.random() < 0.1:
            break
        place = place[key]
    match choose.randrange(6):
        case 0:
            del place[key]
        case 1 if isinstance(place, list):
            place.insert(key, place[key])
        case 2 | 3 if type(place[key]) is int:
            place[key] += choose.choice([-1, 1, 5])
        case _:
            place[key] = choose.choice(VALUES)


def test_random_mutations_of_records_are_refused_or_harmless(folder: Path) -> None:
    path, choose = folder / "trace.json", random.Random(0)
    good = path.read_bytes()
    loaded = 0
    for seed in range(count("trace mutations")):
        content = strict(good)
        for _ in range(choose.choice([1, 1, 2])):
            change(content, choose)
        path.write_text(json.dumps(content))
        try:
            trace = load(folder)
        except TraceError:
            continue
        loaded += 1
        check(trace, cells=50, seed=seed)
    assert 0 < loaded < count("trace mutations") / 2


@pytest.mark.parametrize("form", FORMS)
def test_random_mutations_of_bytes_are_refused_or_harmless(form: str, tmp_path: Path) -> None:
    path, choose = save(mixed(), tmp_path / form), random.Random(0)
    if form == "trace":
        (path / "manifest.json").unlink()
        path = path / "trace.json"
    good = path.read_bytes()
    loaded, messages = 0, []
    for _ in range(count("trace mutations")):
        path.write_bytes(damaged(good, choose))
        try:
            load(tmp_path / form)
            loaded += 1
        except TraceError as error:
            messages.append(str(error))
    assert all(message.startswith(str(tmp_path)) for message in messages)
    assert loaded < count("trace mutations") / 2


def flipped(path: Path, choose: random.Random) -> bytes:
    """Flip one bit of a file; returns what it was."""
    good = path.read_bytes()
    spoiled = bytearray(good)
    spoiled[choose.randrange(len(good))] ^= 1 << choose.randrange(8)
    path.write_bytes(spoiled)
    return good


def test_every_flipped_bit_of_a_folder_is_noticed(tmp_path: Path) -> None:
    folder, choose = save(mixed(), tmp_path / "trace"), random.Random(0)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(paths) == 3
    for i in range(count("trace bit flips")):
        path = paths[i % 3]
        good = flipped(path, choose)
        with pytest.raises(TraceError):
            load(folder)
        path.write_bytes(good)
    load(folder)


def test_a_flipped_bit_of_a_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    trace = mixed()
    path, choose = save(trace, tmp_path / "trace.gft"), random.Random(0)
    noticed = 0
    for _ in range(count("trace bit flips")):
        good = flipped(path, choose)
        try:
            assert same(load(path), trace)
        except TraceError:
            noticed += 1
        path.write_bytes(good)
    assert noticed > count("trace bit flips") / 2


def test_references_among_arguments_come_back(folder: Path) -> None:
    joined = next(o for o in load(folder).operations if o.base == "cat")
    assert all(isinstance(part, Ref) for part in joined.arguments["tensors"])


def test_the_example_of_the_documentation_is_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "trace-format.md").read_text()
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (expected,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "example.py").write_text(python)
    runpy.run_path(str(tmp_path / "example.py"))
    assert strict((tmp_path / "trace" / "trace.json").read_bytes()) == strict(expected.encode())
    numbers = struct.unpack("<2f56x2f56x2f", (tmp_path / "trace" / "data" / "000.bin").read_bytes())
    assert numbers == (2.0, 3.0, 1.0, 4.0, 2.0, 12.0)
