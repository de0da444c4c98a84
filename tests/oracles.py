"""The same mathematics written a second time, in numpy float64, for the tests to hold the package against."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]


def array(tensor: Tensor) -> Array:
    """The tensor's numbers, in float64."""
    return np.asarray(tensor.detach().double().numpy())


def softmax(x: Array, axis: int = -1) -> Array:
    shifted = np.exp(x - x.max(axis, keepdims=True))
    return shifted / shifted.sum(axis, keepdims=True)


def attention(q: Array, k: Array, v: Array, allowed: npt.NDArray[np.bool_]) -> Array:
    """One query at a time, over the keys that it may see and no others; a query with none gets zeros."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    group = q.shape[-3] // k.shape[-3]
    allowed = np.broadcast_to(allowed, (*q.shape[:-1], k.shape[-2]))
    for *batch, head, t in np.ndindex(*q.shape[:-1]):
        lead = (*batch, head // group)
        seen = np.flatnonzero(allowed[(*batch, head, t)])
        if len(seen):
            scores = k[lead][seen] @ q[(*batch, head, t)] / math.sqrt(q.shape[-1])
            out[(*batch, head, t)] = softmax(scores) @ v[lead][seen]
    return out


def rope_frequencies(d_head: int, theta: float) -> Array:
    return np.array([theta ** (-2 * i / d_head) for i in range(d_head // 2)])


def rope(x: Array, positions: object, frequencies: Array, style: str) -> Array:
    """Each pair of features as one complex number, times exp(i · position · frequency)."""
    half = x.shape[-1] // 2
    first, second = (x[..., :half], x[..., half:]) if style == "half" else (x[..., ::2], x[..., 1::2])
    turned = (first + 1j * second) * np.exp(1j * np.asarray(positions)[..., None] * frequencies)
    out = np.empty_like(x)
    if style == "half":
        out[..., :half], out[..., half:] = turned.real, turned.imag
    else:
        out[..., ::2], out[..., 1::2] = turned.real, turned.imag
    return out


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def kept(policy: Sequence[object], t: int) -> list[int]:
    """Which tokens a cache still holds when token t looks: ("full",), ("window", n) or ("sinks", first, recent)."""
    match policy:
        case ("full",):
            return list(range(t + 1))
        case ("window", int(n)):
            return list(range(max(0, t - n + 1), t + 1))
        case ("sinks", int(first), int(recent)):
            return sorted({*range(min(first, t + 1)), *range(max(0, t - recent + 1), t + 1)})
    raise AssertionError(policy)
