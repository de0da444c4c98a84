"""Gradients beside their weights: more storages of a trace, and blocks that take the places of the weights' blocks."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from glassformer.tracing.trace import Storage, TensorRecord, Trace
from glassformer.viewer import tiles
from glassformer.viewer.scene import Scene, Text


def add_gradients(trace: Trace, scene: Scene, gradients: Mapping[str, Tensor]) -> None:
    """Add the gradient of each weight that is named, which has the weight's shape, to a trace and its scene."""
    by_storage = {}
    for record in list(trace.tensors):
        gradient = gradients.get(record.name)
        if record.kind == "weight" and not record.derived and gradient is not None:
            by_storage[record.storage] = _add(trace, record, gradient.reshape(record.shape).contiguous())
    for block in list(scene.blocks):
        added = by_storage.get(block.storage)
        if added is not None:
            scene.blocks.append(
                replace(
                    block,
                    id=len(scene.blocks),
                    name=block.name.replace(trace.tensors[block.tensor].name, added.name),
                    role=f"{block.role}_gradient",
                    kind="gradient",
                    label=Text(f"Gradient: {block.label.en}", f"梯度：{block.label.zh}"),
                    tensor=added.id,
                    storage=added.storage,
                    scale=tiles.scale(trace.array(added.id).reshape(1, -1)),
                    gradient_of=block.id,
                )
            )


def _add(trace: Trace, weight: TensorRecord, gradient: Tensor) -> TensorRecord:
    storage = Storage(len(trace.storages), gradient.untyped_storage())
    trace.storages.append(storage)
    added = TensorRecord(
        id=len(trace.tensors),
        storage=storage.id,
        dtype=gradient.dtype,
        shape=weight.shape,
        strides=tuple(gradient.stride()),
        offset=0,
        kind="gradient",
        name=f"{weight.name}.grad",
        axes=weight.axes,
    )
    trace.tensors.append(added)
    trace.names[added.name] = [added.id]
    return added
