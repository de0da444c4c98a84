"""Quantization: the matrices of a model become whole numbers of 8 or 4 bits with scales, from outside of it.

    quantize(module, "int8")    a scale for each 32 weights, 8.5 bits a weight (ggml's Q8_0)
    quantize(module, "int4")    a scale and an offset for each 32, 5 bits (Q4_1); the embedding and the head are int8

Every linear layer but the routers of experts is replaced, and the table of tokens; what is small stays as it is: norms,
biases, learned positions, convolutions. Next to read: `nn/quantized.py`, which is what runs then.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn.quantized import TOKENS, is_quantized, replace_layer, replaceable
from glassformer.nn.quantized_matrix import GROUP, QuantizedMatrix, QuantizedRows, divisor, filled, shape_of, to_int8

Quantization = Literal["int8", "int4"]
QUANTIZATIONS = ("int8", "int4")

HEAD = "lm_head"
SHRUNK = (1.0, 0.9, 0.8)  # of the way between the least and the greatest of a group, for int4
REFINED = 3  # times that scale and offset are fitted to the levels, and levels to them
ROWS_AT_ONCE = 1 << 12


@torch.no_grad()
def quantize(module: nn.Module, quantization: Quantization) -> nn.Module:
    """The module itself, its layers replaced, and all else in float32; matrices that were shared are shared still."""
    if quantization not in QUANTIZATIONS:
        raise ConfigError(f"is {quantization!r}, and weights become {' or '.join(QUANTIZATIONS)}.", setting="quantize")
    layers = dict(replaceable(module))
    if is_quantized(module):
        raise ConfigError("is for models in floating point, and this one is quantized already.", setting="quantize")
    if module.training:
        raise ConfigError(
            "is for models that run, and this one is being trained: eval() comes first.", setting="quantize"
        )
    if not layers:
        raise ConfigError("is for models with linear layers, and this one has none.", setting="quantize")
    matrices: dict[int, QuantizedMatrix] = {}  # by the weight that they take the place of
    in_8_bits = {id(layer.weight) for name, layer in layers.items() if name.rpartition(".")[2] in (*TOKENS, HEAD)}
    for name, layer in layers.items():
        if id(layer.weight) not in matrices:
            in_bytes = quantization == "int8" or id(layer.weight) in in_8_bits
            rows = (to_int8 if in_bytes else to_int4)(layer.weight.detach())
            if fault := rows.fault():
                raise ConfigError(f"is not for this model: of {name} {fault}.", setting="quantize")
            matrices[id(layer.weight)] = QuantizedMatrix(rows)
        replace_layer(module, name, matrices[id(layer.weight)])
    return module.float()


def to_int4(weight: Float[Tensor, "d_out d_in"]) -> QuantizedRows:
    """Each 32 weights by a scale and an offset, those with the least squares of errors that are tried."""
    parts = [_to_int4(rows) for rows in torch.split(weight.float(), ROWS_AT_ONCE)]
    levels, scale, offset = (torch.cat(part) for part in zip(*parts, strict=True))
    return QuantizedRows(levels=levels, scale=scale, offset=offset, shape=shape_of(weight))


def _to_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    groups = filled(weight).view(len(weight), -1, GROUP)
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    best: list[Tensor] = []
    for share in SHRUNK:
        scale, offset = (high - low) * share / 15, low + (high - low) * (1 - share) / 2
        for _ in range(REFINED):
            scale, offset = scale.half().float(), offset.half().float()
            levels = ((groups - offset) / divisor(scale)).round().clamp(0, 15)
            error = (levels * scale + offset - groups).square().sum(2, keepdim=True)
            candidate = [levels, scale, offset, error]
            better = error < best[3] if best else torch.ones_like(error, dtype=torch.bool)
            best = [new.where(better, old) for new, old in zip(candidate, best or candidate, strict=True)]
            scale, offset = _fitted(groups, levels)
    levels, scale, offset, _ = best
    low_half, high_half = levels.to(torch.uint8).chunk(2, dim=2)
    return (low_half | high_half << 4).flatten(1), scale[..., 0].half(), offset[..., 0].half()


def _fitted(groups: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the offset of least squares for these levels."""
    centred = levels - levels.mean(2, keepdim=True)
    spread = centred.square().sum(2, keepdim=True)
    scale = (centred * groups).sum(2, keepdim=True) / divisor(spread)
    return scale, groups.mean(2, keepdim=True) - scale * levels.mean(2, keepdim=True)
