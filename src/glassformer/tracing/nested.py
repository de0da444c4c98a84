"""The tensors inside of what modules take and return: in lists, mappings and dataclasses, as deep as they go."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from glassformer.torch_internals import storage_key


def tensors_in(value: Any, suffix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a module takes or returns, each with where it is: ".0", ".logits"."""
    if isinstance(value, Tensor):
        yield suffix, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_in(part, f"{suffix}.{key}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from tensors_in(part, f"{suffix}.{i}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from tensors_in(getattr(value, part.name), f"{suffix}.{part.name}")


def copied(inputs: Any) -> Any:
    """A copy that shares no memory with the original; tensors of it that shared some among themselves still do."""
    storages: dict[int, Any] = {}
    memo: dict[int, Any] = {}
    for _, tensor in tensors_in(inputs):
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        if key not in storages:
            storages[key] = storage.clone()  # type: ignore[no-untyped-call]
        window = torch.empty(0, dtype=tensor.dtype)
        memo[id(tensor)] = window.set_(storages[key], tensor.storage_offset(), tensor.shape, tensor.stride())
    return copy.deepcopy(inputs, memo)
