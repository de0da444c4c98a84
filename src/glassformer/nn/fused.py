"""Fast twins of the equations in `functional.py` and `convolution.py`: torch's fused operators under their names.

What each one gains is measured by `benchmarks/twins.py`.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glassformer.torch_internals import onednn_linear, takes_onednn

MANY = 32  # vectors from which a GEMM is more than reading its matrix


def linear(
    x: Float[Tensor, "*B d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*B d_out"]:
    """Twin of `functional.linear`: one GEMM with the bias added in place, by whom it is fastest."""
    if x.dim() > 1 and x.shape[-2] >= MANY and takes_onednn(x, weight):
        return onednn_linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def conv1d(
    x: Float[Tensor, "B T d_in"],
    weight: Float[Tensor, "d_out d_in K"],
    bias: Float[Tensor, " d_out"] | None = None,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "B U d_out"]:
    """Twin of `convolution.conv1d`: one GEMM over windows whose features stand as they do in x.

    Faster than torch's own conv1d, which wants features before positions, and leaves what follows with that layout.
    """
    windows = functional.pad(x, (0, 0, padding, padding)).unfold(1, weight.shape[-1], stride)
    return linear(windows.mT.flatten(2), weight.mT.flatten(1), bias)


def embedding(tokens: Int[Tensor, "*B"], weight: Float[Tensor, "V C"]) -> Float[Tensor, "*B C"]:
    """Twin of `functional.embedding`: its backward adds rows without building an index list."""
    return functional.embedding(tokens, weight)


def softmax(x: Float[Tensor, "*B N"], dim: int = -1) -> Float[Tensor, "*B N"]:
    """Twin of `functional.softmax`: one pass, and a backward that keeps the result alone."""
    return functional.softmax(x, dim)


def log_softmax(x: Float[Tensor, "*B N"], dim: int = -1) -> Float[Tensor, "*B N"]:
    """Twin of `functional.log_softmax`; half precision goes through float32, as there."""
    wide = x if x.dtype == torch.float64 else x.float()
    return functional.log_softmax(wide, dim).to(x.dtype)


def layer_norm(
    x: Float[Tensor, "*B C"], weight: Float[Tensor, " C"], bias: Float[Tensor, " C"], eps: float = 1e-5
) -> Float[Tensor, "*B C"]:
    """Twin of `functional.layer_norm`: Welford's mean and variance in one pass."""
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(x: Float[Tensor, "*B C"], weight: Float[Tensor, " C"], eps: float = 1e-5) -> Float[Tensor, "*B C"]:
    """Twin of `functional.rms_norm`; half precision goes through float32, as there."""
    wide = x if x.dtype == torch.float64 else x.float()
    normalised = functional.rms_norm(wide, weight.shape, None, eps).to(x.dtype)
    return (normalised * weight).to(x.dtype)


def relu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Twin of `functional.relu`."""
    return functional.relu(x)


def gelu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Twin of `functional.gelu`."""
    return functional.gelu(x)


def gelu_tanh(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Twin of `functional.gelu_tanh`. On a CPU torch's own kernel spends its time in tanh, twice; see `_GeluTanh`.

    Half precision goes there all the same: the kernel computes in float32, and x³ overflows float16 from 41 on.
    """
    if x.device.type != "cpu" or x.dtype in (torch.float16, torch.bfloat16):
        return functional.gelu(x, approximate="tanh")
    out: Tensor = _GeluTanh.apply(x)  # type: ignore[no-untyped-call]
    return out


class _GeluTanh(torch.autograd.Function):
    """x · σ(z) with z = x (a + b x²), since ½ (1 + tanh u) = σ(2u); the backward pass reuses σ(z)."""

    A = 2 * math.sqrt(2 / math.pi)
    B = A * 0.044715

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate = (x * x).mul_(_GeluTanh.B).add_(_GeluTanh.A).mul_(x).sigmoid_()
        if not ctx.needs_input_grad[0]:
            return gate.mul_(x)
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """d/dx = σ (1 + x z' (1 − σ)) with z' = a + 3b x²."""
        (d_out,) = gradients
        x, gate = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody goes on to the second derivative, for which `gate` is no constant
            d_x: Tensor = torch.ops.aten.gelu_backward(d_out, x, approximate="tanh")
            return d_x
        slope = (x * x).mul_(3 * _GeluTanh.B).add_(_GeluTanh.A).mul_(x)
        d_x = slope.mul_(1 - gate).add_(1).mul_(gate).mul_(d_out)
        return d_x


def silu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Twin of `functional.silu`."""
    return functional.silu(x)


def cross_entropy(
    logits: Float[Tensor, "*B V"],
    targets: Int[Tensor, "*B"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Twin of `functional.cross_entropy`; half precision goes through float32, as there."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    loss = functional.cross_entropy(
        wide.reshape(-1, logits.shape[-1]),
        targets.flatten().long(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    return loss.to(logits.dtype)
