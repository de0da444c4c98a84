"""Recordings as a stranger would write them, to cost much for little: few bytes, with windows and arguments that
promise far more. Each is a file made by hand, of attacks by kind and size, or of an honest one with values changed."""

import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glassformer.tracing.trace_file import _layout
from glassformer.tracing.validate import DTYPES

SIZES = [2**n for n in (10, 13, 16, 20, 24, 27, 40)]


class Forged:
    """Records and bytes that are put together by hand, and written without asking whether they fit together."""

    def __init__(self) -> None:
        self.storages: list[dict[str, Any]] = []
        self.bytes: list[bytes] = []
        self.tensors: list[dict[str, Any]] = []
        self.operations: list[dict[str, Any]] = []
        self.modules: list[dict[str, Any]] = [{"path": "", "class": "Forged"}]
        self.names: dict[str, list[int]] = {}

    def tensor(
        self,
        shape: Sequence[int],
        strides: Sequence[int] | None = None,
        *,
        dtype: str = "float32",
        n: int = 16,
        kind: str = "input",
        name: str = "",
        storage: int | None = None,
        written_by: int | None = None,
    ) -> dict[str, int]:
        """A window into a new storage of n elements, or into one that is there; without strides it repeats one cell."""
        if storage is None:
            storage = len(self.storages)
            self.storages.append({"written_by": written_by, "previous": None})
            self.bytes.append(bytes(n * DTYPES[dtype].itemsize))
        id = len(self.tensors)
        self.tensors.append(
            {
                "storage": storage,
                "dtype": dtype,
                "shape": list(shape),
                "strides": [0] * len(shape) if strides is None else list(strides),
                "offset": 0,
                "kind": kind,
                "name": name or f"t{id}",
                "axes": [],
                "made_by": written_by,
                "derived": False,
            }
        )
        self.names.setdefault(name or f"t{id}", []).append(id)
        return {"tensor": id}

    def operation(
        self,
        base: str,
        arguments: dict[str, Any],
        shape: Sequence[int] = (),
        strides: Sequence[int] | None = None,
        **result: Any,
    ) -> dict[str, int]:
        """An operation with one result, which is computed."""
        number = len(self.operations)
        output = self.tensor(shape, strides, kind="computed", written_by=number, **result)
        self.operations.append(
            {
                "number": number,
                "name": base,
                "arguments": arguments,
                "outputs": [output["tensor"]],
                "module": "",
                "source": 0,
                "writes": True,
            }
        )
        return output

    def content(self) -> dict[str, Any]:
        sizes = [len(data) for data in self.bytes]
        places, data = _layout(sizes)
        return {
            "format": "glassformer-trace",
            "version": 1,
            "data": [{"file": file, "nbytes": size} for file, size in data.items()],
            "storages": [
                {"data": file, "offset": offset, "nbytes": size, **storage}
                for (file, offset), size, storage in zip(places, sizes, self.storages, strict=True)
            ],
            "tensors": self.tensors,
            "operations": self.operations,
            "sources": [{"file": "forged.py", "line": 1, "text": "x = y", "function": "forward"}],
            "modules": self.modules,
            "names": self.names,
        }

    def write(self, path: Path) -> Path:
        content = self.content()
        files = {entry["file"]: bytearray(entry["nbytes"]) for entry in content["data"]}
        for storage, data in zip(content["storages"], self.bytes, strict=True):
            file = files[content["data"][storage["data"]]["file"]]
            file[storage["offset"] : storage["offset"] + len(data)] = data
        return write(path, content, {name: bytes(data) for name, data in files.items()})


def write(path: Path, content: Any, data: dict[str, bytes]) -> Path:
    """A .gft of these records and data files, whatever they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        text = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
        archive.writestr("trace.json", text, zipfile.ZIP_DEFLATED)
        for name, stored in data.items():
            archive.writestr(name, stored)
    path.write_bytes(buffer.getvalue())
    return path


# ---- attacks: each with a size, and some bytes that say which of its forms it is


Attack = Callable[[Forged, int, random.Random], object]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


def split(n: int, choose: random.Random) -> list[int]:
    """A shape of about n cells, of one axis or of several."""
    axes = choose.choice([1, 2, 3, 4])
    return [max(1, round(n ** (1 / axes)))] * axes


def window(forged: Forged, n: int, choose: random.Random, **options: Any) -> dict[str, int]:
    """An operand of n cells that a few bytes show: by strides of 0, or by rows that overlap."""
    shape = split(n, choose)
    dtype = options.pop("dtype", choose.choice(["float32", "bfloat16", "bool", "float64", "complex64", "int64"]))
    if choose.random() < 0.3 and len(shape) > 1:
        stored = min(sum(shape), 1 << 14)
        shape = [min(side, stored // len(shape)) for side in shape]
        return forged.tensor(shape, [1] * len(shape), dtype=dtype, n=sum(shape), **options)
    return forged.tensor(shape, dtype=dtype, **options)


@attack
def results_without_numbers(forged: Forged, n: int, choose: random.Random) -> None:
    name = choose.choice(["zeros", "ones", "full", "arange", "eye", "unknown", "relu"])
    forged.operation(name, {"self": window(forged, n, choose), "fill_value": 1, "size": [n]}, split(n, choose))


@attack
def reductions(forged: Forged, n: int, choose: random.Random) -> None:
    for name in choose.sample(
        ["sum", "mean", "var", "amax", "argmax", "any", "prod", "logsumexp", "linalg_vector_norm"], 3
    ):
        forged.operation(name, {"self": window(forged, n, choose), "dim": None, "ord": 2, "keepdim": False})


@attack
def orders(forged: Forged, n: int, choose: random.Random) -> None:
    for name in ("sort", "topk", "cumsum", "max"):
        forged.operation(name, {"self": forged.tensor([n]), "dim": 0, "k": n, "sorted": False}, [n])
        forged.operations[-1]["outputs"].append(forged.operations[-1]["outputs"][0])


@attack
def norms(forged: Forged, n: int, choose: random.Random) -> None:
    x, weight = forged.tensor([1, 1, n]), forged.tensor([n])
    given = {"input": x, "self": x, "weight": weight, "bias": weight, "eps": 1e-5, "dim": 2, "half_to_float": False}
    forged.operation("_softmax", given, [1, 1, n])
    forged.operation("native_layer_norm", {**given, "normalized_shape": [n]}, [1, 1, n])
    forged.operation("native_group_norm", {**given, "N": 1, "C": n, "HxW": n, "group": 1}, [1, 1, n])
    forged.operation("native_batch_norm", {**given, "training": True, "momentum": 0.1}, [1, 1, n])
    target = forged.tensor([n], dtype="int64")
    loss = {"self": forged.tensor([n, 4]), "target": target, "weight": None, "reduction": 1, "ignore_index": -100}
    forged.operation("nll_loss_forward", loss)


@attack
def products(forged: Forged, n: int, choose: random.Random) -> None:
    forged.operation("mm", {"self": forged.tensor([1, n]), "mat2": forged.tensor([n, 1])}, [1, 1])
    forged.operation("bmm", {"self": forged.tensor([n, 2, 2]), "mat2": forged.tensor([n, 2, 2])}, [n, 2, 2])
    side = round(n**0.5)
    q, k = forged.tensor([1, 1, 2, side]), forged.tensor([1, 1, side, side])
    attended = {"query": q, "key": k, "value": k, "is_causal": False, "scale": None, "attn_mask": None}
    forged.operation("_scaled_dot_product_flash_attention_for_cpu", attended, [1, 1, 2, side])
    image, kernel = forged.tensor([1, 1, 2 * side, 2 * side]), forged.tensor([1, 1, side, side])
    settings = {"stride": [1], "padding": [0], "dilation": [1], "groups": 1, "transposed": False, "bias": None}
    forged.operation("convolution", {"input": image, "weight": kernel, **settings}, [1, 1, 1, 1])


@attack
def windows_of_pools_and_transforms(forged: Forged, n: int, choose: random.Random) -> None:
    image = forged.tensor([1, 1, round(n**0.5), round(n**0.5)])
    for name in ("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"):
        forged.operation(name, {"self": image, "kernel_size": [n, n], "padding": [n]}, [1, 1, 1, 1])
    wave = forged.tensor([n], dtype="complex64")
    given = {"self": wave, "dim": [0], "normalization": 0, "forward": True, "last_dim_size": n}
    forged.operation("_fft_c2c", given, [n], dtype="complex64")
    forged.operation("_fft_c2r", {**given, "dim": [0] * choose.choice([1, 8])}, [n])


@attack
def replays(forged: Forged, n: int, choose: random.Random) -> None:
    x = forged.tensor([4, 4], [4, 1])
    wide = window(forged, n, choose, dtype="float32")
    places = forged.tensor([n], dtype="int64")
    column, row = forged.tensor([n, 1], dtype="int64"), forged.tensor([1, n], dtype="int64")
    forms: list[tuple[str, dict[str, Any]]] = [
        ("repeat", {"self": x, "repeats": [n, 1]}),
        ("repeat", {"self": x, "repeats": [round(n**0.5)] * 2}),
        ("constant_pad_nd", {"self": x, "pad": [n, n, 0, 0], "value": 0}),
        ("reflection_pad1d", {"self": forged.tensor([1, n]), "padding": [n - 1, n - 1]}),
        ("replication_pad1d", {"self": x, "padding": [n, n]}),
        ("diag_embed", {"self": x, "offset": n, "dim1": 0, "dim2": 1}),
        ("im2col", {"self": x, "kernel_size": [2, 2], "dilation": [1, 1], "padding": [n, n], "stride": [1, 1]}),
        ("cat", {"tensors": [wide] * 1000, "dim": 0}),
        ("stack", {"tensors": [wide] * 100, "dim": 0}),
        ("clone", {"self": wide}),
        ("roll", {"self": wide, "shifts": [1], "dims": []}),
        ("tril", {"self": wide, "diagonal": n}),
        ("index_select", {"self": x, "dim": 0, "index": places}),
        ("gather", {"self": x, "dim": 0, "index": column}),
        ("embedding", {"weight": x, "indices": places}),
        ("take", {"self": x, "index": places}),
        ("index", {"self": x, "indices": [column, row]}),
        ("index", {"self": forged.tensor([n]), "indices": [forged.tensor([n], dtype="bool")]}),
        ("masked_select", {"self": forged.tensor([1, n]), "mask": forged.tensor([n, 1], dtype="bool")}),
        ("scatter", {"self": wide, "dim": 0, "index": column, "src": wide}),
        ("index_put", {"self": wide, "indices": [places], "values": wide, "accumulate": False}),
    ]
    for name, arguments in choose.sample(forms, 4):
        forged.operation(name, arguments, [4])


@attack
def pictures(forged: Forged, n: int, choose: random.Random) -> None:
    """What is only drawn: slices without end, and names that have a place of their own in the page."""
    for _ in range(choose.choice([1, 10, 100])):
        name = choose.choice(["logits", "tokens", "x", "", "blocks.0.attn.q", "blocks.0.attn.allowed", "probs"])
        shape = [*split(n, choose), *choose.choice([[], [1], [1, 1], [2, 2], [16]])]
        strides = [choose.choice([0, 0, 1, 2]) for _ in shape] if choose.random() < 0.5 else None
        kind = choose.choice(["input", "weight", "computed"])
        forged.tensor(shape, strides, name=name, n=4096, kind=kind, dtype=choose.choice(["float32", "int64"]))


@attack
def tokens(forged: Forged, n: int, choose: random.Random) -> None:
    forged.tensor([1, n], dtype="int64", name="tokens")
    forged.operation("embedding", {"weight": forged.tensor([4, n]), "indices": {"tensor": 0}}, [1, n, 4])


@attack
def many_records(forged: Forged, n: int, choose: random.Random) -> None:
    """Many small ones: a chain of steps, versions of one name, windows into one storage."""
    n = min(n, 1500)
    x = forged.tensor([2, 8], [8, 1], name="x")
    form = choose.choice(["chain", "fan", "windows"])
    for i in range(n):
        if form == "windows":
            forged.tensor([2, 4], [8, 1 + i % 2], storage=0, name="x", n=16)
        else:
            name = choose.choice(["", "", "x", "logits", f"blocks.{i}.attn.scores"])
            last = forged.operation("neg", {"self": x}, [2, 8], [8, 1], name=name)
            forged.tensors[-1]["derived"] = choose.random() < 0.5
            x = last if form == "chain" else x


@attack
def nesting(forged: Forged, n: int, choose: random.Random) -> None:
    path = ".".join(["a"] * min(n, choose.choice([50, 99, 1900])))
    forged.modules.append({"path": path, "class": "A"})
    forged.operation("zeros", {"size": [2]}, [2], [1], name=f"{path}.x"[:3999])
    forged.operations[-1]["module"] = path


@attack
def text_without_end(forged: Forged, n: int, choose: random.Random) -> None:
    forged.modules += [{"path": f"m{i}", "class": "A" * 3999} for i in range(min(n >> 4, 2000))]


# ---- an honest recording with values changed

BIG = [0, 1, 2, 7, 4096, 2**20, 2**27, 2**31, 2**53]


def mutated(content: Any, choose: random.Random) -> None:
    """Make a few numbers of shapes, strides and arguments others, larger ones above all."""
    for _ in range(choose.choice([1, 2, 4, 16])):
        match choose.randrange(4):
            case 0 | 1:
                tensor = choose.choice(content["tensors"])
                for axis in range(len(tensor["shape"])):
                    if choose.random() < 0.6:
                        tensor["shape"][axis] = choose.choice([1, 2, 64, 4096, 1 << 14, 1 << 20])
                        tensor["strides"][axis] = 0
            case 2:
                operation = choose.choice(content["operations"])
                for name, value in operation["arguments"].items():
                    if choose.random() < 0.5:
                        other = choose.choice(BIG) if choose.random() < 0.5 else {"tensor": choose.randrange(9)}
                        operation["arguments"][name] = (
                            [other] * choose.choice([1, 2, 4]) if type(value) is list else other
                        )
            case 3:
                one, other = choose.choices(content["operations"], k=2)
                one["name"] = other["name"]
