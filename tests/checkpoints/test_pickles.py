"""Nothing that is loaded ever runs: pickles are refused, and those that are allowed give up their tensors only."""

import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from checkpoints.hostile import publish, refused
from checkpoints.test_published_files import NANO, as_nanogpt
from glassformer import checkpoints
from glassformer.checkpoints import training_state
from glassformer.checkpoints.pickles import END, LARGE, LOCATOR
from glassformer.errors import CheckpointError, GlassformerError
from glassformer.models.gpt2 import GPT2
from glassformer.tokenizers.base import Tokenizer
from support.counts import count

MARK = "executed"


class Runs:
    """Unpickling one calls `function(*arguments)`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def payloads(mark: Path) -> dict[str, object]:
    """Objects that leave a mark when they are unpickled by anything that runs code."""
    touch = f"touch '{mark}'"
    return {
        "os.system": Runs(os.system, touch),
        "subprocess": Runs(subprocess.check_call, ["touch", str(mark)]),
        "eval": Runs(eval, f"__import__('os').system({touch!r})"),
        "exec": Runs(exec, f"open({str(mark)!r}, 'w')"),
        "open": Runs(open, str(mark), "w"),
        "in the model": {"model": {"w": Runs(os.system, touch)}, "model_args": {}},
        "in the arguments": {"model": {}, "model_args": {"n_layer": Runs(os.system, touch)}},
        "in a key": {Runs(os.system, touch): 1},
    }


def raw(payload: object) -> bytes:
    return pickle.dumps(payload, protocol=2)


def torch_zip(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def torch_legacy(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


FORMS: dict[str, Callable[[object], bytes]] = {"raw": raw, "zip": torch_zip, "legacy": torch_legacy}
NAMES = ["ckpt.pt", "model.pth", "model.ckpt", "model.pkl", "model.bin", "model.json", "model.safetensors", "model"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("kind", payloads(Path()).keys())
@pytest.mark.parametrize("allowed", [False, True])
def test_no_payload_runs_from_a_file_of_any_name(
    kind: str, form: Callable[[object], bytes], allowed: bool, tmp_path: Path
) -> None:
    mark = tmp_path / MARK
    content = form(payloads(mark)[kind])
    for name in NAMES:
        path = tmp_path / name
        path.write_bytes(content)
        with refused(path):
            checkpoints.load(path, from_pickle=allowed)
    assert not mark.exists()


PLACES = ["model.safetensors", "config.json", "glassformer.json", "manifest.json", "model.safetensors.index.json"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("place", PLACES)
def test_no_payload_runs_from_a_file_of_a_folder(place: str, form: Callable[[object], bytes], tmp_path: Path) -> None:
    mark = tmp_path / MARK
    folder = publish(tmp_path / "folder")
    if place == "model.safetensors.index.json":
        (folder / "model.safetensors").unlink()
    (folder / place).write_bytes(form(payloads(mark)["os.system"]))
    with refused(folder):
        checkpoints.load(folder, from_pickle=True)
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_no_payload_runs_from_a_tokenizer_beside_the_weights(form: Callable[[object], bytes], tmp_path: Path) -> None:
    mark = tmp_path / MARK
    folder = publish(tmp_path / "folder")
    for name in ("tokenizer.json", "tokenizer.model", "gpt2.tiktoken"):
        (folder / name).write_bytes(form(payloads(mark)["os.system"]))
        found = checkpoints.load(folder, from_pickle=True)
        assert found.tokenizer is None
        assert name in found.no_tokenizer
        (folder / name).unlink()
    assert not mark.exists()


BESIDE = ["pytorch_model.bin", "optimizer.pt", "rng_state.pth", ".metadata", "meta.pkl", "training_args.bin"]


@pytest.mark.parametrize("name", BESIDE)
def test_pickles_beside_the_weights_are_never_opened(name: str, tmp_path: Path) -> None:
    mark = tmp_path / MARK
    folder = publish(tmp_path / "folder")
    (folder / name).write_bytes(raw(payloads(mark)["os.system"]))
    checkpoints.load(folder)
    (folder / "training").mkdir()
    for place in ("state.safetensors", "state.json", name):
        (folder / "training" / place).write_bytes(torch_zip(payloads(mark)["os.system"]))
    with refused(folder):
        training_state.read_state(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["tok512.bin", "tokenizer.bin", "tokenizer.model", "vocab.tiktoken"])
def test_no_payload_runs_from_a_tokenizers_file(name: str, tmp_path: Path) -> None:
    mark = tmp_path / MARK
    for form in FORMS.values():
        (tmp_path / name).write_bytes(form(payloads(mark)["os.system"]))
        with refused(tmp_path / name):
            Tokenizer.load(tmp_path / name)
    assert not mark.exists()


def test_a_pickle_is_refused_with_the_flag_that_allows_it(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(torch_zip({}))
    with pytest.raises(CheckpointError, match="from_pickle=True"):
        checkpoints.load(tmp_path / "ckpt.pt")


# ---- bombs

ARGS = {"n_layer": 1, "n_head": 2, "n_embd": 4, "block_size": 8, "vocab_size": 5, "bias": True, "dropout": 0.0}


def deflated(content: bytes) -> bytes:
    """The same archive with its members compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return buffer.getvalue()


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def overlapping() -> bytes:
    """An archive whose directory lists the same bytes a thousand times."""
    content = archive(("a/data/0", bytes(100_000)))
    start = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    entry = content[start:end]
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1000, 1000, 1000 * len(entry), start, 0)
    return content[:start] + entry * 1000 + tail


def declared(size: int) -> bytes:
    """An archive whose only member is declared to have this size."""
    content = archive(("a/data.pkl", b"x"))
    place = content.index(b"PK\1\2")
    return content[: place + 20] + struct.pack("<II", size, size) + content[place + 28 :]


def state_with(tensor: torch.Tensor) -> bytes:
    return torch_zip({"model": {"transformer.wte.weight": tensor}, "model_args": ARGS})


def huge_view() -> bytes:
    """A whole model whose embedding is one number, seen twenty million times eight."""
    content = as_nanogpt(GPT2(replace(NANO, tied_head=True)), prefix="")
    view = torch.zeros(1, 1).expand(20_000_000, 8)
    content["model"] |= {"transformer.wte.weight": view, "lm_head.weight": view}
    content["model_args"]["vocab_size"] = 20_000_000
    return torch_zip(content)


def two_directories(comment: bool) -> bytes:
    """An archive in which readers that trust the end of the file find one directory, and others find another."""
    bomb = deflated(state_with(torch.zeros(1_000)))
    start = struct.unpack("<I", bomb[-6:-2])[0]
    prefix, n_listed = bomb[:-22], struct.unpack("<H", bomb[-12:-10])[0]
    shown = archive(("a/data.pkl", b"x"), ("a/version", b"3"))
    begin, length = len(prefix) + LARGE.size, struct.unpack("<I", shown[-10:-6])[0]
    at = begin + len(shown) - 22 - length
    if comment:  # the first end record counts the second as its comment
        first = END.pack(b"PK\5\6", 0, 0, 2, 2, length, at - LARGE.size, END.size)
        return (
            prefix + shown[:-22] + first + END.pack(b"PK\5\6", 0, 0, n_listed, n_listed, len(prefix) - start, start, 0)
        )
    hidden = LARGE.pack(b"PK\6\6", 44, 45, 45, 0, 0, n_listed, n_listed, len(prefix) - start, start)
    record = LARGE.pack(b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, length, at)
    locator = LOCATOR.pack(b"PK\6\7", 0, len(prefix), 1)
    end = END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return prefix + hidden + shown[:-22] + record + locator + end


def claims_more(n: int) -> bytes:
    """A tensor that says that its storage has n numbers, where the file has four."""
    content = torch_zip({"model": {"transformer.wte.weight": torch.zeros(4)}, "model_args": ARGS})
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    four, more = b"K\x04", b"J" + struct.pack("<i", n)  # BININT1 and BININT
    return archive(*((name, data.replace(four, more)) for name, data in members))


def before_zips(old: bytes = b"", new: bytes = b"", end: int | None = None) -> bytes:
    """A state of the older form with some bytes changed, or cut short."""
    content = torch_legacy({"model": {"transformer.wte.weight": torch.zeros(300, 4)}, "model_args": ARGS})
    assert old in content
    return content.replace(old, new)[:end]


def as_a_tar() -> bytes:
    """The older form, whose first 512 bytes are also the header of a tar."""
    header = bytearray(before_zips()[:512].ljust(512, b"\0"))
    header[124:136], header[257:263] = b"00000000000\0", b"ustar\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + bytes(2048)


BOMBS: dict[str, Callable[[], bytes]] = {
    "before zips: cut in its numbers": lambda: before_zips(end=-7),
    "before zips: cut in its pickles": lambda: before_zips(end=200),
    "before zips: the magic number alone": lambda: before_zips(end=15),
    "before zips: more numbers than there are": lambda: before_zips(b"M\xb0\x04", b"J\xb0\x04\x00\x70"),
    "before zips: 2⁶² numbers": lambda: before_zips(b"M\xb0\x04", b"\x8a\x08" + bytes(7) + b"\x40"),
    "before zips: 3 MB of lists": lambda: before_zips(b"}q\x00(", b"]" * 3_000_000 + b"}q\x00("),
    "before zips: a tar": as_a_tar,
    "100 MB of zeros": lambda: deflated(state_with(torch.zeros(25_000_000))),
    "deflated": lambda: deflated(torch_zip({"model": {}, "model_args": ARGS})),
    "two directories, one found by its locator": lambda: two_directories(comment=False),
    "two directories, one in a comment": lambda: two_directories(comment=True),
    "a tensor that claims bytes beyond its member": lambda: claims_more(10_000_000),
    "a pickle of nothing but lists": lambda: archive(("a/data.pkl", b"\x80\x02" + b"]" * 6_000_000 + b".")),
    "zip in a zip": lambda: archive(("x.zip", archive(("y", bytes(10**7)), compression=zipfile.ZIP_DEFLATED))),
    "bzip2": lambda: archive(("a/data.pkl", bytes(10**7)), compression=zipfile.ZIP_BZIP2),
    "lzma": lambda: archive(("a/data.pkl", bytes(10**7)), compression=zipfile.ZIP_LZMA),
    "overlapping members": overlapping,
    "4 GB declared": lambda: declared(0xFFFFFFFE),
    "20,000 members": lambda: archive(*((f"a/data/{i}", b"") for i in range(20_000))),
    "no members": archive,
    "a huge view of one number": huge_view,
    "a sparse tensor": lambda: state_with(torch.sparse_coo_tensor([[0]], [1.0], (2**40,), check_invariants=True)),
    "not a state": lambda: torch_zip([1, 2, 3]),
    "no tensors": lambda: torch_zip({"model": {"transformer.wte.weight": 1}, "model_args": ARGS}),
    "tensors of integers": lambda: state_with(torch.zeros(5, 4, dtype=torch.int64)),
    "arguments of the wrong type": lambda: torch_zip({"model": {}, "model_args": {**ARGS, "n_layer": "1"}}),
    "arguments beyond all memory": lambda: torch_zip({"model": {}, "model_args": {**ARGS, "n_layer": 10**9}}),
    "truncated": lambda: state_with(torch.zeros(5, 4))[:-30],
    "half": lambda: state_with(torch.zeros(5, 4))[:400],
    "only the magic": lambda: b"PK\3\4",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_takes_memory(bomb: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(bomb())
    with refused(path):
        checkpoints.load(path, from_pickle=True)


@pytest.mark.parametrize("comment", [False, True])
def test_a_zip_in_which_readers_disagree_about_the_directory_is_not_opened(
    comment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(two_directories(comment))
    assert torch.load(path)["model"]["transformer.wte.weight"].shape == (1_000,)  # what was not listed to Python
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(CheckpointError, match=r"directory"):
        checkpoints.load(path, from_pickle=True)


@torch.no_grad()
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    content = as_nanogpt(GPT2(NANO), prefix="")
    whole = torch_zip(content)
    path = tmp_path / "ckpt.pt"
    path.write_bytes(whole)
    expected = dict(checkpoints.load(path, from_pickle=True).module.named_parameters())
    choose = Random(0)
    for _ in range(count("bit flips")):
        spoilt = bytearray(whole)
        spoilt[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
        path.write_bytes(spoilt)
        with suppress(GlassformerError):
            found = dict(checkpoints.load(path, from_pickle=True).module.named_parameters())
            assert all(torch.equal(found[name], parameter) for name, parameter in expected.items())
