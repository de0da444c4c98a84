"""Sums of products: matrix products of all kinds, convolution, and attention in one piece."""

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Reduce, add, call, over, times, total
from glassformer.tracing.rules.reduction import log_sum_exp
from glassformer.tracing.rules.rule import Step, broadcast, rule
from glassformer.tracing.trace import Index


def dot(step: Step, a: str, b: str, row: Index, column: Index) -> Formula:
    """∑ᵢ a[row, i] · b[column…, i, column]."""
    (i,) = step.grid(step.shape(a)[-1:])
    left = step.at(a, (*broadcast(row, step.shape(a)[:-1]), i))
    if len(step.shape(b)) == 1:
        return total(times(left, step.at(b, (i,))))
    *leading, last = column
    return total(times(left, step.at(b, (*broadcast(leading, step.shape(b)[:-2]), i, last))))


@rule("mm", "bmm", "mv", "dot")
def product(step: Step, index: Index) -> Formula:
    """A matrix product."""
    b = "vec" if step.has("vec") else "mat2" if step.has("mat2") else "tensor" if step.has("tensor") else "other"
    if len(step.shape(b)) == 1:
        return dot(step, "self", b, index, ())
    if len(step.shape("self")) == 1:
        return dot(step, "self", b, (), index)
    return dot(step, "self", b, index[:-1], (*index[:-2], index[-1]))


@rule("addmm", "baddbmm", "addmv")
def product_plus(step: Step, index: Index) -> Formula:
    """β · c + α · a b."""
    if step.has("vec"):
        made = dot(step, "mat", "vec", index, ())
    else:
        a, b = ("mat1", "mat2") if step.has("mat1") else ("batch1", "batch2")
        made = dot(step, a, b, index[:-1], (*index[:-2], index[-1]))
    if step.arguments.get("alpha", 1) != 1:
        made = times(step["alpha"], made)
    beta = step.arguments.get("beta", 1)
    if beta == 0:
        return made
    plus = step.broadcast("self", index)
    return add(made, plus if beta == 1 else times(beta, plus))


@rule("convolution")
def convolution(step: Step, index: Index) -> Formula:
    """∑ over the channels of a group and the places of the kernel; what lies in the padding counts nothing."""
    if step.arguments.get("transposed"):
        raise NotImplementedError("transposed convolution")
    batch, channel, *place = index
    channels, *kernel = step.shape("weight")[1:]
    group = channel // (step.shape("weight")[0] // step["groups"])
    c, *offsets = step.grid((channels, *kernel))
    settings = [value * len(kernel) if len(value) == 1 else value for value in map(step.__getitem__, _WINDOW)]
    places = [
        p * stride - padding + offset * dilation
        for p, offset, stride, padding, dilation in zip(place, offsets, *settings, strict=True)
    ]
    sizes = step.shape("input")[2:]
    inside = np.all([(at >= 0) & (at < n) for at, n in zip(places, sizes, strict=True)], axis=0)
    values = step.at("input", (batch, group * channels + c[inside], *(at[inside] for at in places)))
    weights = step.at("weight", (channel, c[inside], *(offset[inside] for offset in offsets)))
    made = total(times(values, weights))
    return add(made, step.at("bias", (channel,))) if step.has("bias") else made


_WINDOW = ("stride", "padding", "dilation")


@rule("_scaled_dot_product_flash_attention_for_cpu")
def attention(step: Step, index: Index) -> Formula:
    """∑ₛ softmax(q kᵀ · scale + mask)ₛ vₛ, computed in one piece; its second result is log ∑ exp of the scores."""
    *leading, query = index[:3]
    scale = step["scale"] if step.has("scale") else step.shape("query")[-1] ** -0.5
    (d,) = step.grid(step.shape("query")[-1:])
    (s,) = step.grid(step.shape("key")[-2:-1])
    costs.afford(step.trace, len(s) * len(d))
    if step.arguments.get("is_causal"):
        s = s[: query + 1]
    q = step.at("query", (*leading, query, d[None, :]))
    shared = (*leading[:-1], leading[-1] * step.shape("key")[1] // step.shape("query")[1])  # grouped heads
    k = step.at("key", (*shared, s[:, None], d[None, :]))
    scores = times(total(times(q, k)), scale, label="scores")
    if step.has("attn_mask"):
        scores = add(scores, step.at("attn_mask", broadcast((*leading, query, s), step.shape("attn_mask"))))
    highest = Reduce("max", (scores,), "m")
    if step.output == 1:
        return log_sum_exp(scores, highest)
    if highest.value == -np.inf:
        return call("chosen", 0.0, highest)  # nothing to look at
    exponentials = call("exp", call("−", scores, highest))
    values = step.at("value", (*shared, s, index[3]))
    return over(total(times(exponentials, values)), total(exponentials))
