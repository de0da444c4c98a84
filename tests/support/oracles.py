"""The same mathematics written a second time, in numpy float64, for the tests to hold the package against."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]


def array(tensor: Tensor) -> Array:
    """The tensor's numbers, in float64."""
    return np.asarray(tensor.detach().double().numpy())


def softmax(x: Array, axis: int = -1) -> Array:
    exponentials: Array = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis, keepdims=True))


def attention(
    q: Array,
    k: Array,
    v: Array,
    allowed: npt.NDArray[np.bool_],
    scale: float | None = None,
    softcap: float = math.inf,
    bias: Array | float = 0.0,
) -> Array:
    """One query at a time, over the keys that it may see and no others; a query with none gets zeros."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    bias = np.broadcast_to(bias, (*q.shape[:-1], k.shape[-2]))
    for query, lead, seen in _seen(q, k, allowed):
        scores, _ = _scores(q[query], k[lead][seen], scale, softcap, bias[query][seen])
        out[query] = softmax(scores) @ v[lead][seen]
    return out


def attention_gradients(
    q: Array,
    k: Array,
    v: Array,
    allowed: npt.NDArray[np.bool_],
    upstream: Array,
    scale: float | None = None,
    softcap: float = math.inf,
    bias: Array | float = 0.0,
) -> tuple[Array, Array, Array, Array]:
    """The gradients of sum(upstream · attention) by q, k, v and a whole bias, one query at a time."""
    d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    d_bias = np.zeros((*q.shape[:-1], k.shape[-2]))
    bias = np.broadcast_to(bias, d_bias.shape)
    for query, lead, seen in _seen(q, k, allowed):
        scores, slopes = _scores(q[query], k[lead][seen], scale, softcap, bias[query][seen])
        weights, d_weights = softmax(scores), v[lead][seen] @ upstream[query]
        d_scores = weights * (d_weights - weights @ d_weights) * slopes
        d_bias[query][seen] = d_scores
        d_products = d_scores * _factor(q[query], scale)
        d_q[query] = d_products @ k[lead][seen]
        d_k[lead][seen] += np.outer(d_products, q[query])
        d_v[lead][seen] += np.outer(weights, upstream[query])
    return d_q, d_k, d_v, d_bias


Cells = tuple[int, ...]


def _seen(q: Array, k: Array, allowed: npt.NDArray[np.bool_]) -> Iterator[tuple[Cells, Cells, npt.NDArray[np.int_]]]:
    """Each query that sees a key: its place, the row and the head of its keys, and which of these it sees."""
    group = q.shape[-3] // k.shape[-3]
    allowed = np.broadcast_to(allowed, (*q.shape[:-1], k.shape[-2]))
    for *batch, head, t in np.ndindex(*q.shape[:-1]):
        seen = np.flatnonzero(allowed[(*batch, head, t)])
        if len(seen):
            yield (*batch, head, t), (*batch, head // group), seen


def _factor(query: Array, scale: float | None) -> float:
    return 1 / math.sqrt(len(query)) if scale is None else scale


def _scores(query: Array, keys: Array, scale: float | None, softcap: float, bias: Array) -> tuple[Array, Array]:
    """The scores of a query, and their derivatives by what the cap is laid on."""
    sums = keys @ query * _factor(query, scale) + bias
    if softcap == math.inf:
        return sums, np.ones_like(sums)
    bent = np.tanh(sums / softcap)
    return softcap * bent, 1 - bent**2


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
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    normalized = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return np.asarray(normalized * weight + bias)


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


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
