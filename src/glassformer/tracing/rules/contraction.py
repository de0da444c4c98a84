"""Sums of products: matrix products of all kinds, convolution, and attention in one piece."""

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Reduce, add, call, over, times, total
from glassformer.tracing.rules.reduction import log_sum_exp
from glassformer.tracing.rules.rule import BoundOperation, broadcast, rule
from glassformer.tracing.trace import Index


def dot(op: BoundOperation, a: str, b: str, row: Index, column: Index) -> Formula:
    """∑ᵢ a[row, i] · b[column…, i, column]."""
    (i,) = op.grid(op.shape(a)[-1:])
    left = op.at(a, (*broadcast(row, op.shape(a)[:-1]), i))
    if len(op.shape(b)) == 1:
        return total(times(left, op.at(b, (i,))))
    *leading, last = column
    return total(times(left, op.at(b, (*broadcast(leading, op.shape(b)[:-2]), i, last))))


@rule("mm", "bmm", "mv", "dot")
def product(op: BoundOperation, index: Index) -> Formula:
    """A matrix product."""
    b = "vec" if op.has("vec") else "mat2" if op.has("mat2") else "tensor" if op.has("tensor") else "other"
    if len(op.shape(b)) == 1:
        return dot(op, "self", b, index, ())
    if len(op.shape("self")) == 1:
        return dot(op, "self", b, (), index)
    return dot(op, "self", b, index[:-1], (*index[:-2], index[-1]))


@rule("addmm", "baddbmm", "addmv")
def product_plus(op: BoundOperation, index: Index) -> Formula:
    """β · c + α · a b."""
    if op.has("vec"):
        product = dot(op, "mat", "vec", index, ())
    else:
        a, b = ("mat1", "mat2") if op.has("mat1") else ("batch1", "batch2")
        product = dot(op, a, b, index[:-1], (*index[:-2], index[-1]))
    if op.arguments.get("alpha", 1) != 1:
        product = times(op["alpha"], product)
    beta = op.arguments.get("beta", 1)
    if beta == 0:
        return product
    plus = op.broadcast("self", index)
    return add(product, plus if beta == 1 else times(beta, plus))


@rule("convolution")
def convolution(op: BoundOperation, index: Index) -> Formula:
    """∑ over the channels of a group and the places of the kernel; what lies in the padding counts nothing."""
    if op.arguments.get("transposed"):
        raise NotImplementedError("transposed convolution")
    batch, channel, *place = index
    channels, *kernel = op.shape("weight")[1:]
    group = channel // (op.shape("weight")[0] // op["groups"])
    c, *offsets = op.grid((channels, *kernel))
    settings = [value * len(kernel) if len(value) == 1 else value for value in map(op.__getitem__, _WINDOW)]
    places = [
        p * stride - padding + offset * dilation
        for p, offset, stride, padding, dilation in zip(place, offsets, *settings, strict=True)
    ]
    sizes = op.shape("input")[2:]
    inside = np.all([(at >= 0) & (at < n) for at, n in zip(places, sizes, strict=True)], axis=0)
    values = op.at("input", (batch, group * channels + c[inside], *(at[inside] for at in places)))
    weights = op.at("weight", (channel, c[inside], *(offset[inside] for offset in offsets)))
    product = total(times(values, weights))
    return add(product, op.at("bias", (channel,))) if op.has("bias") else product


_WINDOW = ("stride", "padding", "dilation")


@rule("_scaled_dot_product_flash_attention_for_cpu")
def attention(op: BoundOperation, index: Index) -> Formula:
    """∑ₛ softmax(q kᵀ · scale + mask)ₛ vₛ, computed in one piece; its second result is log ∑ exp of the scores."""
    *leading, query = index[:3]
    scale = op["scale"] if op.has("scale") else op.shape("query")[-1] ** -0.5
    (d,) = op.grid(op.shape("query")[-1:])
    (s,) = op.grid(op.shape("key")[-2:-1])
    costs.afford(op.trace, len(s) * len(d))
    if op.arguments.get("is_causal"):
        s = s[: query + 1]
    q = op.at("query", (*leading, query, d[None, :]))
    shared = (*leading[:-1], leading[-1] * op.shape("key")[1] // op.shape("query")[1])  # grouped heads
    k = op.at("key", (*shared, s[:, None], d[None, :]))
    scores = times(total(times(q, k)), scale, label="scores")
    if op.has("attn_mask"):
        scores = add(scores, op.at("attn_mask", broadcast((*leading, query, s), op.shape("attn_mask"))))
    highest = Reduce("max", (scores,), "m")
    if op.output == 1:
        return log_sum_exp(scores, highest)
    if highest.value == -np.inf:
        return call("chosen", 0.0, highest)  # nothing to look at
    exponentials = call("exp", call("−", scores, highest))
    values = op.at("value", (*shared, s, index[3]))
    return over(total(times(exponentials, values)), total(exponentials))
