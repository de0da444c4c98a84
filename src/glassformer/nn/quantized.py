"""Layers whose weights are whole numbers with scales: y = x Wᵀ + b, with W = scale · level (+ offset).

They stand where a `Linear` or an `Embedding` stood, whose weights `inference/quantize.py` rounds. The fast twin rounds
x, too: to 8 bits, each 32 neighbours by a scale of their own, so that whole numbers are multiplied (Dettmers et al.
2022, §3.1, arXiv:2208.07339, with a scale for each row).
"""

import math
from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.nn.embedding import Embedding
from glassformer.nn.linear import Linear, ScaledLinear
from glassformer.nn.quantized_matrix import QuantizedMatrix
from glassformer.twins import twin

FAST = "glassformer.nn.quantized_fast"
TOKENS, ROUTER = ("token_embedding", "source_embedding"), "router"  # by the last part of a layer's name


@twin(FAST)
def linear(
    x: Float[Tensor, "*B d_in"], matrix: QuantizedMatrix, bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*B d_out"]:
    """y = x Wᵀ + b, W being what the matrix stands for."""
    weight = matrix.dequantized(x.dtype)
    y = x @ weight.mT
    if bias is not None:
        y = y + bias
    return y


class QuantizedLinear(nn.Module):
    """A linear layer with a quantized W; a head whose logits are divided by a constant has a `divisor`."""

    def __init__(self, weight: QuantizedMatrix, bias: nn.Parameter | None = None, divisor: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.divisor = divisor

    def forward(self, x: Float[Tensor, "*B d_in"]) -> Float[Tensor, "*B d_out"]:
        """y for each x."""
        y = linear(x, self.weight, self.bias)
        return y if self.divisor == 1.0 else y / self.divisor


class QuantizedEmbedding(nn.Module):
    """Row `id` of a quantized matrix."""

    def __init__(self, weight: QuantizedMatrix) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        """The row of each token."""
        return self.weight.of_tokens(tokens)


# ---- in the place of others


def replaceable(module: nn.Module) -> Iterator[tuple[str, Linear | Embedding]]:
    """The layers that a quantized model has in another form, by their names."""
    for name, layer in module.named_modules(remove_duplicate=False):  # a layer may stand in several places
        last = name.rpartition(".")[2]
        is_linear = type(layer) in (Linear, ScaledLinear) and last != ROUTER
        if is_linear or (type(layer) is Embedding and last in TOKENS):
            yield name, layer


def replace_layer(module: nn.Module, name: str, matrix: QuantizedMatrix) -> None:
    """Let the layer of this name have a quantized matrix for its weight."""
    layer = module.get_submodule(name)
    quantized: nn.Module
    if isinstance(layer, Linear):
        divisor = layer.scaling if isinstance(layer, ScaledLinear) else 1.0
        quantized = QuantizedLinear(matrix, layer.bias, divisor)
    else:
        quantized = QuantizedEmbedding(matrix)
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, quantized.train(layer.training))


def is_quantized(module: nn.Module) -> bool:
    """Whether some of its layers are."""
    return any(isinstance(part, QuantizedMatrix) for part in module.modules())


def n_parameters(module: nn.Module) -> int:
    """How many numbers a model has learned, quantized or not."""
    matrices = [part for part in module.modules() if isinstance(part, QuantizedMatrix)]
    return sum(each.numel() for each in module.parameters()) + sum(math.prod(each.shape) for each in matrices)
