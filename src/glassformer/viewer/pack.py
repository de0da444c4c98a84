"""A recorded pass as the page takes it: a scene, the records of its trace, and the bytes of its storages.

`record` runs a model to the probabilities of what it predicts, `pack_scene` and `pack_trace` make of the trace
what the page reads; `session.py` keeps it and `export.py` writes it down.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from glassformer import twins
from glassformer.checkpoints.about import About
from glassformer.config import to_mapping
from glassformer.inference.recorded_call import ModelCall
from glassformer.models import spec_of
from glassformer.nn import functional as F
from glassformer.tracing import trace_json
from glassformer.tracing.recorder import record as record_module
from glassformer.tracing.storage_table import GIB
from glassformer.tracing.trace import Trace
from glassformer.viewer import tiles
from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item, items
from glassformer.viewer.layout import lay_out
from glassformer.viewer.responses import source_with_context
from glassformer.viewer.scene import Arrow, Block, Scene, Token


def record(
    module: nn.Module,
    *inputs: Tensor,
    call: ModelCall = nn.Module.__call__,
    predicts: bool = True,
    max_bytes: int = 4 * GIB,
) -> Trace:
    """The readable equations of a model, to the probabilities, named as if it had computed them."""
    with twins.use("readable", attention="naive"):
        named = with_probabilities if excludes(getattr(module, "config", None)) else with_logits
        whole = named(call) if predicts else call
        return record_module(module, *inputs, call=whole, max_bytes=max_bytes)


def with_probabilities(call: ModelCall) -> ModelCall:
    """What predicts tokens or classes, and then the softmax that is applied to its logits."""

    @functools.wraps(call)
    def probabilities(module: nn.Module, *inputs: Tensor) -> Tensor:
        logits = call(module, *inputs)
        probs = F.softmax(logits)
        return probs

    return probabilities


def with_logits(call: ModelCall) -> ModelCall:
    """What puts out logits of which no softmax is taken."""

    @functools.wraps(call)
    def named(module: nn.Module, *inputs: Tensor) -> Tensor:
        logits = call(module, *inputs)
        return logits

    return named


def excludes(config: Any) -> bool:
    """Whether one answer excludes the others: not those of several labels, amounts, or one class by itself."""
    if not hasattr(config, "n_classes") or getattr(config, "head", "") == "masked-token":
        return True
    return bool(config.n_classes > 1 and getattr(config, "problem_type", "single-label") == "single-label")


def predicts(config: Any) -> bool:
    """Whether a model of this configuration puts out logits: word vectors and what has no head do not."""
    return spec_of(config).kind != "word-vectors" and getattr(config, "head", "") != "none"


def share_equal(trace: Trace, earlier: Trace) -> None:
    """Keep once what both computed, as the encoder does in each step of a run: two gigabytes in the least Whisper."""
    for now, before in zip(trace.storages, earlier.storages, strict=False):
        computed = now.written_by is not None and now.nbytes == before.nbytes
        if computed and torch.equal(_as_bytes(now.bytes), _as_bytes(before.bytes)):
            now.bytes = before.bytes


# ---- the scene


def pack_scene(
    trace: Trace,
    *,
    module: nn.Module | None,
    config: Any,
    name: str,
    tokens: list[Token],
    source: Sequence[Token] = (),
    about: About | None = None,
    random: bool = False,
    lazy: bool = False,
) -> Scene:
    """All that a trace has, placed in space."""
    scene_items = items(trace)
    canvas = Canvas()
    canvas.scale = _scales(trace)
    sizes = lay_out(scene_items, canvas)
    scene = Scene(
        model={
            "name": name,
            "class": trace.modules[0].cls if trace.modules else "",
            "n_parameters": _n_parameters(trace, module),
            "config": _settings(config),
            "about": None if about is None else to_mapping(about),
            "random": random,
            "shapes_only": False,
        },
        lazy=lazy,
        tokens=tokens or canvas.tokens,
        source=list(source),
        sizes=sizes,
    )
    scene.groups, scene.blocks = canvas.groups, canvas.blocks
    scene.arrows = _arrows(scene_items, canvas)
    scene.stream = canvas.stream(scene_items)
    chosen_from = {"logits"} | ({"class_logits"} if hasattr(config, "n_classes") else set())
    if not excludes(config):
        chosen_from = set()
    scene.logits = next((block.id for block in scene.blocks if block.role in chosen_from), None)
    return scene


def _n_parameters(trace: Trace, module: nn.Module | None) -> int:
    """Of the module, or where a file has none, of the weights that were recorded, each storage once."""
    if module is not None:
        return sum(parameter.numel() for parameter in module.parameters())
    weights = {record.storage: record for record in trace.tensors if record.kind == "weight"}
    return sum(trace.storages[storage].nbytes // record.dtype.itemsize for storage, record in weights.items())


def _scales(trace: Trace) -> Any:
    scales: dict[int, float] = {}

    def scale(item: Item) -> float:
        if item.storage not in scales:
            scales[item.storage] = tiles.scale(trace.array(item.tensor.id))
        return scales[item.storage]

    return scale


def _settings(config: Any) -> dict[str, Any]:
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return dict(config) if isinstance(config, Mapping) else {}


def _arrows(scene_items: Sequence[Item], canvas: Canvas) -> list[Arrow]:
    """From every block to those that are computed from it: the same head's, the same slice's, else the first one's."""
    arrows = []
    for item in scene_items:
        for source in item.sources:
            kind = "weight" if source.kind == "weight" else "data"
            if source.role in ("x", "source") and item.role in ("x", "source", "memory"):
                kind = "residual"
            arrows += [Arrow(a.id, b.id, kind) for a, b in _pairs(canvas.of[source], canvas.of[item])]
    return arrows


def _pairs(sources: Sequence[Block], targets: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    if len(sources) == len(targets):
        yield from zip(sources, targets, strict=True)
    elif sources[0].head is not None and targets[0].head is not None:  # shared by several heads
        for b in targets:
            yield max((a for a in sources if (a.head or 0) <= (b.head or 0)), key=lambda a: a.head or 0), b
    elif sources[0].head is not None or targets[0].head is not None:
        yield from product(sources, targets)
    else:
        yield sources[0], targets[0]


# ---- the trace


Names = dict[tuple[int, int], str]  # of weights, by where they lie in memory and their version


def pack_trace(trace: Trace, names: Names | None = None) -> tuple[dict[str, Any], dict[str, torch.UntypedStorage]]:
    """The records as `types.ts` has them, and the bytes by name; equal bytes have one name.

    `names` keeps those of weights from one trace to the next, as long as the weights live: gigabytes take their time.
    """
    encoded = trace_json.encode(trace, [(0, 0)] * len(trace.storages), {})
    blobs: dict[str, torch.UntypedStorage] = {}
    names = {} if names is None else names
    weights = {trace.tensors[tensor].storage: version for tensor, version in trace.versions.items()}
    for entry, storage in zip(encoded["storages"], trace.storages, strict=True):
        key = (storage.bytes.data_ptr(), weights.get(storage.id, -1))
        entry["blob"] = names.get(key) or blob_name(storage.bytes)
        if storage.id in weights:
            names[key] = entry["blob"]
        blobs.setdefault(entry["blob"], storage.bytes)
        del entry["data"], entry["offset"]
    seen = list(dict.fromkeys(operation.source for operation in trace.operations))
    for entry, source in zip(encoded["sources"], seen, strict=True):
        entry.update(source_with_context(trace, source))
    return {part: encoded[part] for part in PARTS}, blobs


PARTS = ("storages", "tensors", "operations", "sources", "modules", "names")


def blob_name(storage: torch.UntypedStorage) -> str:
    """By content, so that weights are there once for all steps of all runs."""
    return hashlib.blake2b(blob_bytes(storage), digest_size=12).hexdigest()


def blob_bytes(storage: torch.UntypedStorage) -> memoryview:
    """The bytes of a storage, not copied."""
    return memoryview(_as_bytes(storage).numpy())  # type: ignore[arg-type]


def _as_bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)
