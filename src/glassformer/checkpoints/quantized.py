"""Quantized models on disk: the parts of each matrix beside the other tensors, under our own names.

    blocks.0.attn.q_proj.weight.levels    int8, or uint8 with two numbers a byte
    blocks.0.attn.q_proj.weight.scale     float16, one for each 32 weights; and .offset where there is one

glassformer.json names the kinds of blocks (`quantization`), and config.json a model type of ours, so that other
programs refuse the folder. A GGUF file whose blocks are of such a kind is read into the same (`formats/gguf.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.checkpoints.build import check_finite
from glassformer.errors import CheckpointCorrupt, CheckpointMismatch
from glassformer.models import spec_of
from glassformer.models.spec import set_parameters
from glassformer.nn.quantized import replace_layer, replaceable
from glassformer.nn.quantized_matrix import QuantizedMatrix, QuantizedRows

Weights = Mapping[str, Tensor | QuantizedRows]  # by our names

MARK = "quantization"  # in glassformer.json
PARTS = ("levels", "scale", "offset")


def kinds_of(module: nn.Module) -> list[str]:
    """The kinds of a module's quantized matrices; none where it has no such."""
    return sorted({part.kind for part in module.modules() if isinstance(part, QuantizedMatrix)})


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All that is written: parameters, then the parts of each quantized matrix under the first name that it has."""
    tensors = {name: weight.detach() for name, weight in module.named_parameters()}
    for name, matrix in module.named_modules():
        if isinstance(matrix, QuantizedMatrix):
            rows = matrix.rows()
            parts = {part: getattr(rows, part) for part in PARTS}
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items() if tensor is not None}
    return tensors


class FolderWeights(Mapping[str, Tensor | QuantizedRows]):
    """The weights of a folder, each read when it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], config: Any) -> None:
        self._tensors = tensors
        self._shapes = {name: tuple(each.shape) for name, each in spec_of(config).outline(config).named_parameters()}
        self._names = {_matrix_of(name): name for name in tensors}
        for name in self._names:
            if name not in self._shapes:
                raise CheckpointMismatch(f"The tensor {name[:200]!r} has no place in a model of this configuration.")
        if missing := [name for name in self._shapes if name not in self._names]:
            raise CheckpointMismatch(f"The tensor {missing[0]} is missing.")

    def __getitem__(self, name: str) -> Tensor | QuantizedRows:
        """The weight of that name."""
        if name in self._tensors:
            return self._tensors[name]
        levels, scale, offset = (self._tensors.get(f"{name}.{part}") for part in PARTS)
        shape = self._shapes[name]
        if levels is None or scale is None or len(shape) != 2:
            raise CheckpointCorrupt(f"{name} is no matrix with levels and scales.")
        return QuantizedRows(levels=levels, scale=scale, offset=offset, shape=(shape[0], shape[1]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _matrix_of(name: str) -> str:
    """The weight that a tensor is a part of, or that it is."""
    matrix, _, part = name.rpartition(".")
    return matrix if part in PARTS else name


def build(config: Any, weights: Weights) -> nn.Module:
    """The model in eval mode, its matrices as they are quantized in these weights, all else in float32."""
    module = spec_of(config).outline(config)
    shapes = {name: weight.shape for name, weight in module.named_parameters()}
    names = {id(weight): name for name, weight in module.named_parameters()}
    layers: dict[str, list[str]] = {}  # by their weight's name, which several may share
    for name, layer in replaceable(module):
        layers.setdefault(names[id(layer.weight)], []).append(name)
    others: dict[str, Tensor] = {}
    for name in weights:
        weight = weights[name]
        if tuple(weight.shape) != tuple(shapes.get(name, ())):
            raise CheckpointMismatch(f"{name[:200]} is {tuple(weight.shape)}, and no such weight of this model.")
        if isinstance(weight, Tensor):
            if not weight.is_floating_point():
                raise CheckpointMismatch(f"{name} holds {weight.dtype}; such weights must be floating point numbers.")
            others[name] = weight.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            check_finite(name, others[name])
            continue
        if fault := weight.fault():
            raise CheckpointCorrupt(f"{name} is broken: {fault}.")
        if name not in layers:
            raise CheckpointMismatch(f"{name} is quantized, and its layer does not run so.")
        matrix = QuantizedMatrix(weight)
        for layer_name in layers[name]:
            replace_layer(module, layer_name, matrix)
    if missing := [name for name, _ in module.named_parameters() if name not in others]:
        raise CheckpointMismatch(f"The tensor {missing[0]} is missing, or cannot be shared in quantized form.")
    set_parameters(module, others)
    return module.eval()
