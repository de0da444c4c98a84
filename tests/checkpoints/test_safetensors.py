"""The format of the weights: the same as the reference implementation's, and no lie in a header is believed."""

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints.hostile import publish, put_together, refused, set_config, take_apart
from glassformer.checkpoints import load
from glassformer.checkpoints import safetensors as ours
from glassformer.errors import GlassformerError
from support.counts import count
from support.damage import damaged

SHAPES = st.lists(st.integers(0, 4), max_size=4)
DTYPES = st.sampled_from(list(ours.DTYPES.values()))


@given(contents=st.dictionaries(st.text(max_size=8), st.tuples(DTYPES, SHAPES), max_size=6))
def test_what_we_write_the_reference_reads_and_the_other_way_round(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    contents.pop("__metadata__", None)
    tensors = {name: (torch.randn(shape) * 9).to(dtype) for name, (dtype, shape) in contents.items()}
    folder = tmp_path_factory.mktemp("tensors")
    ours.write(folder / "ours", tensors)
    safetensors.torch.save_file(tensors, folder / "theirs")
    for found in (safetensors.torch.load_file(folder / "ours"), ours.read(folder / "theirs")):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_a_pointer_of_git_lfs_is_called_so(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(GlassformerError, match=r"model\.safetensors is a pointer of Git LFS, .* git lfs pull"):
        load(folder)


def test_tensors_that_are_not_contiguous_are_written_in_row_major_order(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).view(2, 3).T
    ours.write(tmp_path / "file", {"a": matrix})
    assert torch.equal(ours.read(tmp_path / "file")["a"], matrix)


def test_changing_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    ours.write(tmp_path / "file", {"a": torch.zeros(3)})
    ours.read(tmp_path / "file")["a"].fill_(1)
    assert ours.read(tmp_path / "file")["a"].sum() == 0


# ---- F1: files that lie


def header_of(folder: Path, change: Callable[[dict], object]) -> None:
    header, data = take_apart(folder)
    changed = change(header)
    put_together(folder, header if changed is None else changed, data)


def field(name: str, value: object) -> Callable[[Path], None]:
    """Set one field of one tensor."""
    return lambda folder: header_of(folder, lambda h: h["transformer.wpe.weight"].update({name: value}))


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        header_of(folder, lambda h: {new if name == old else name: entry for name, entry in h.items()})

    return spoil


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content) and None


def with_header(text: bytes) -> Callable[[Path], None]:
    return lambda folder: put_together(folder, text, take_apart(folder)[1])


def declared_length(length: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        header, data = take_apart(folder)
        put_together(folder, header, data, length)

    return spoil


def moved(by: int, *, gap: bytes = b"") -> Callable[[Path], None]:
    """Move the offsets of the last tensor, with or without data for the gap."""

    def spoil(folder: Path) -> None:
        header, data = take_apart(folder)
        last = max((e for n, e in header.items() if n != "__metadata__"), key=lambda entry: entry["data_offsets"][1])
        start, end = last["data_offsets"]
        last["data_offsets"] = [start + by, end + by]
        put_together(folder, header, data[:start] + gap + data[start:])

    return spoil


def values(number: float, name: str = "transformer.h.1.mlp.c_fc.bias", index: int = 3) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        tensors[name][index] = number
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return spoil


def tensors_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return spoil


def index(shards: object, *, keep: str = "shard.safetensors", top: object = None) -> Callable[[Path], None]:
    """Move the weights to a shard and write an index that says where each tensor is."""

    def spoil(folder: Path) -> None:
        header, _ = take_apart(folder)
        (folder / "model.safetensors").rename(folder / keep)
        names = [name for name in header if name != "__metadata__"]
        places = shards(names) if callable(shards) else dict.fromkeys(names, shards)
        content = {"weight_map": places} if top is None else top
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return spoil


def linked_out(folder: Path) -> None:
    outside = folder.parent / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


def linked_shard(folder: Path) -> None:
    index("shard.safetensors", keep="moved.safetensors")(folder)
    (folder / "moved.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "shard.safetensors").symlink_to(folder.parent / "outside.safetensors")


def endless_link(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    set_config(folder)


def fifo(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def polyglot(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.safetensors", "a") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'touch hacked'\ntR.")


def index_naming_a_folder(folder: Path) -> None:
    index("sub.safetensors")(folder)
    (folder / "sub.safetensors").mkdir()


def many_tensors(n: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        one = {"dtype": "F32", "shape": [1]}
        header = {f"tensor.{i}": {**one, "data_offsets": [4 * i, 4 * i + 4]} for i in range(n)}
        put_together(folder, header, bytes(4 * n))

    return spoil


def doubled(folder: Path) -> None:
    header, data = take_apart(folder)
    text = json.dumps(header)
    again = json.dumps("transformer.wpe.weight") + ": " + json.dumps(header["transformer.wpe.weight"])
    put_together(folder, (text[:-1] + ", " + again + "}").encode(), data)


WPE = "transformer.wpe.weight"
SPOILED: dict[str, Callable[[Path], None]] = {
    "empty": raw(b""),
    "seven bytes": raw(b"\0" * 7),
    "header length 0": raw(b"\0" * 8),
    "header length 0 with data": declared_length(0),
    "header length 1": declared_length(1),
    "header length 2^63": declared_length(2**63),
    "header length 2^64 - 1": declared_length(2**64 - 1),
    "header length 101 MB": declared_length(101_000_000),
    "header one byte longer": lambda f: declared_length(len(raw_header(f)) + 1)(f),
    "header one byte shorter": lambda f: declared_length(len(raw_header(f)) - 1)(f),
    "header beyond the file": lambda f: declared_length((f / "model.safetensors").stat().st_size)(f),
    "header is no JSON": with_header(b"not json at all"),
    "header is not UTF-8": with_header(b'{"\xff\xfe": 1}'),
    "header is a list": with_header(b"[]"),
    "header is a number": with_header(b"7"),
    "header is null": with_header(b"null"),
    "header is deep": with_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "header has NaN": with_header(b'{"a": NaN}'),
    "header has a number of a million digits": with_header(b'{"a": ' + b"9" * 1_000_000 + b"}"),
    "header with a million empty lists": with_header(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"),
    "header has text after it": with_header(b"{} {}"),
    "header with 10^5 tensors": many_tensors(100_000),
    "10^4 tensors": many_tensors(10_000),
    "no tensors": raw((2).to_bytes(8, "little") + b"{}"),
    "duplicate key": doubled,
    "metadata is a list": lambda f: header_of(f, lambda h: h.update(__metadata__=[])),
    "metadata holds numbers": lambda f: header_of(f, lambda h: h.update(__metadata__={"a": 1})),
    "entry is a list": lambda f: header_of(f, lambda h: h.update({WPE: []})),
    "entry is empty": lambda f: header_of(f, lambda h: h.update({WPE: {}})),
    "entry with an unknown field": field("strides", [1]),
    "dtype unknown": field("dtype", "F33"),
    "dtype is a number": field("dtype", 32),
    "dtype is a list": field("dtype", ["F32"]),
    "dtype of quantized weights": tensors_with(lambda t: t.update({WPE: torch.zeros(8, 4, dtype=torch.int8)})),
    "dtype of another size": field("dtype", "F64"),
    "shape negative": field("shape", [-8, -4]),
    "shape is a float": field("shape", [8.0, 4]),
    "shape is true": field("shape", [True, 32]),
    "shape is a text": field("shape", "8,4"),
    "shape overflows to the right size": field("shape", [2**62, 2**62]),
    "shape overflows 64 bits": field("shape", [2**32, 2**32, 4]),
    "shape has 10^5 axes": field("shape", [1] * 100_000),
    "shape zero with a huge axis": field("shape", [0, 2**62, 2**62]),
    "shape of more elements": field("shape", [9, 4]),
    "shape of fewer elements": field("shape", [7, 4]),
    "shape of a scalar": field("shape", []),
    "shape transposed": field("shape", [4, 8]),
    "shape flattened": field("shape", [32]),
    "offsets reversed": field("data_offsets", [128, 0]),
    "offsets negative": field("data_offsets", [-128, 0]),
    "offsets of three": field("data_offsets", [0, 64, 128]),
    "offsets of floats": field("data_offsets", [0.0, 128.0]),
    "offsets beyond 2^63": field("data_offsets", [2**64, 2**64 + 128]),
    "offsets overlap": moved(-4),
    "offsets leave a hole": moved(4, gap=b"\0" * 4),
    "offsets beyond the file": moved(4),
    "all tensors in the same place": lambda f: header_of(
        f,
        lambda h: (
            [e.update(data_offsets=[0, e["data_offsets"][1]]) for n, e in h.items() if n != "__metadata__"] and None
        ),
    ),
    "trailing bytes": lambda f: put_together(f, *[*take_apart(f)[:1], take_apart(f)[1] + b"\0"]),
    "trailing zip": polyglot,
    "truncated by a byte": lambda f: put_together(f, take_apart(f)[0], take_apart(f)[1][:-1]),
    "tensor missing": tensors_with(lambda t: t.pop(WPE)),
    "layer missing": tensors_with(lambda t: [t.pop(n) for n in list(t) if ".h.1." in n]),
    "tensor too many": tensors_with(lambda t: t.update({"transformer.extra": torch.zeros(1)})),
    "layer too many": tensors_with(lambda t: t.update({n.replace(".h.1.", ".h.2."): x.clone() for n, x in t.items()})),
    "tensor renamed": renamed(WPE, "transformer.wpe.wieght"),
    "name of 100 kB": renamed(WPE, "w" * 100_000),
    "name with a newline": renamed(WPE, "transformer.wpe\n.weight"),
    "prefix of another model": tensors_with(
        lambda t: [t.update({n.replace("transformer.", "model."): t.pop(n)}) for n in list(t)]
    ),
    "wrong shape": tensors_with(lambda t: t.update({WPE: torch.zeros(8, 5)})),
    "square of the wrong orientation": tensors_with(
        lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": torch.zeros(6, 4)})
    ),
    "NaN": values(float("nan")),
    "infinity": values(float("inf")),
    "infinite in float32": tensors_with(lambda t: t.update({WPE: torch.full((8, 4), 1e300, dtype=torch.float64)})),
    "index with ..": index("../x/shard.safetensors"),
    "index with an absolute path": index("/etc/hostname.safetensors"),
    "index with a backslash": index("..\\shard.safetensors"),
    "index with NUL": index("a\0.safetensors"),
    "index naming a pickle": index("pytorch_model.bin"),
    "index naming itself": index("model.safetensors.index.json"),
    "index naming a folder": index_naming_a_folder,
    "index naming a missing shard": index("other.safetensors"),
    "index naming an empty name": index(".safetensors"),
    "index of numbers": index(lambda names: dict.fromkeys(names, 1)),
    "index is a list": index(lambda names: names),
    "index without a map": index("", top={"metadata": {}}),
    "index with a tensor too many": index(lambda names: dict.fromkeys([*names, "more"], "shard.safetensors")),
    "index with a tensor too few": index(lambda names: dict.fromkeys(names[1:], "shard.safetensors")),
    "link out of the folder": linked_out,
    "link of a shard out of the folder": linked_shard,
    "link to itself": endless_link,
    "no file but a pipe": fifo,
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "only a pickle": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin") and None,
}


def raw_header(folder: Path) -> bytes:
    content = (folder / "model.safetensors").read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def test_there_are_at_least_sixty_spoiled_folders() -> None:
    assert len(SPOILED) >= 60


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_folder_is_refused_with_one_sentence(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    folder = publish(tmp_path / "folder")
    load(folder)
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    with refused(folder):
        load(folder)
    assert sorted(tmp_path.rglob("*")) == before


def agrees_with_reference(folder: Path) -> bool:
    """Whether the folder loads; if it does, the weights must be those that the reference implementation reads."""
    try:
        load(folder)
    except GlassformerError:
        return False
    reference = safetensors.torch.load_file(folder / "model.safetensors")
    found = ours.read(folder / "model.safetensors")
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[name], reference[name]) for name in found)
    return True


def test_random_mutations_are_refused_or_read_as_the_reference_reads_them(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    path = folder / "model.safetensors"
    good, choose = path.read_bytes(), random.Random(0)
    header_end = 8 + int.from_bytes(good[:8], "little")
    loaded = 0
    for _ in range(count("safetensors mutations")):
        path.write_bytes(damaged(good, choose, header_end))
        loaded += agrees_with_reference(folder)
    assert loaded < count("safetensors mutations") / 2  # else the mutations were too tame


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    path = folder / "model.safetensors"
    good, choose = path.read_bytes(), random.Random(0)
    for length in choose.sample(range(len(good)), min(count("safetensors truncations"), len(good))):
        path.write_bytes(good[:length])
        with pytest.raises(GlassformerError):
            load(folder)


def test_data_that_is_not_aligned_is_read_all_the_same(tmp_path: Path) -> None:
    folder = publish(tmp_path / "folder")
    before = {name: tensor.clone() for name, tensor in ours.read(folder / "model.safetensors").items()}
    header, data = take_apart(folder)
    text = json.dumps(header).encode()
    put_together(folder, text + b" " * (3 - len(text) % 2), data)
    after = ours.read(folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    load(folder)


def test_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    folder = publish(tmp_path / "models--x" / "snapshots" / "abc")
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    (folder / "model.safetensors").rename(blobs / "123")
    (folder / "model.safetensors").symlink_to("../../blobs/123")
    load(folder)
