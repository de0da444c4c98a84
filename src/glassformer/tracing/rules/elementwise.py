"""Entry by entry: arithmetic, activations, comparison, masks, choice."""

import math

import torch

from glassformer.tracing.formula import Formula, Number, Operand, add, call, over, times
from glassformer.tracing.rules.rule import Step, rule
from glassformer.tracing.trace import Index

UNARY = {
    **{name: name for name in ("abs", "sign", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos")},
    **{name: name for name in ("tanh", "erf", "neg", "round", "trunc")},
    "sqrt": "√",
    "sigmoid": "σ",
    "floor": "⌊⌋",
    "ceil": "⌈⌉",
    "sgn": "sign",
    "isnan": "is nan",
    "isinf": "is infinite",
    "bitwise_not": "¬",
    "_conj_physical": "conj",
}
BINARY = {
    "mul": "·",
    "maximum": "max",
    "minimum": "min",
    "atan2": "arctan2",
    "remainder": "mod",
    "fmod": "fmod",
    "eq": "=",
    "ne": "≠",
    "lt": "<",
    "le": "≤",
    "gt": ">",
    "ge": "≥",
    "bitwise_and": "∧",
    "bitwise_or": "∨",
    "bitwise_xor": "⊻",
}


COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


@rule(*UNARY)
def unary(step: Step, index: Index) -> Formula:
    """f(x)."""
    x = step.broadcast("self", index)
    name = UNARY[step.operation.base]
    if step.arguments.get("decimals"):
        raise NotImplementedError("rounding to decimals")
    return call("modulus" if name == "abs" and x.value.dtype.kind == "c" else name, x)


@rule(*BINARY)
def binary(step: Step, index: Index) -> Formula:
    """a ∘ b."""
    a, b = _two(step, index)
    if step.operation.base in COMPARISONS and isinstance(b, Number) and step.record("self").dtype.is_floating_point:
        b = Number(torch.tensor(b.number, dtype=step.record("self").dtype).item())  # which the kernel compares in
    return call(BINARY[step.operation.base], a, b)


def _two(step: Step, index: Index) -> tuple[Formula, Formula]:
    return step.broadcast("self", index), step.broadcast("other", index)


@rule("add", "sub", "rsub")
def plus_minus(step: Step, index: Index) -> Formula:
    """a ± α b."""
    a, b = _two(step, index)
    if step.arguments.get("alpha", 1) != 1:
        b = times(step["alpha"], b)
    if step.operation.base == "rsub":
        a, b = b, a
    return add(a, b) if step.operation.base == "add" else call("−", a, b)


@rule("div", "floor_divide")
def quotient(step: Step, index: Index) -> Formula:
    """a / b, rounded down or towards zero where asked."""
    mode = "floor" if step.operation.base == "floor_divide" else step.arguments.get("rounding_mode")
    exact = over(*_two(step, index))
    if mode == "floor" and exact.value.dtype.kind == "f":  # the remainder decides, since the quotient may round up
        a, b = _two(step, index)
        exact = over(call("−", a, call("mod", a, b)), b)
        return call("round", exact)
    return exact if mode is None else call("⌊⌋" if mode == "floor" else "trunc", exact)


@rule("complex")
def complex_number(step: Step, index: Index) -> Formula:
    """a + b i."""
    return call("+", step.broadcast("real", index), times(step.broadcast("imag", index), Number(1j, "i")))


@rule("reciprocal", "rsqrt")
def inverse(step: Step, index: Index) -> Formula:
    """1 / x, 1 / √x."""
    x = step.broadcast("self", index)
    return over(1, call("√", x) if step.operation.base == "rsqrt" else x)


@rule("pow")
def power(step: Step, index: Index) -> Formula:
    """a to the power of b."""
    base, exponent = step.broadcast("self", index), step.broadcast("exponent", index)
    if isinstance(exponent, Number) and exponent.number == 2:
        return times(base, base)
    if isinstance(exponent, Number) and exponent.number == 3:
        return times(times(base, base), base)
    return call("^", base, exponent)


@rule("logical_not", "logical_and", "logical_or", "logical_xor")
def logic(step: Step, index: Index) -> Formula:
    """Anything but zero counts as true."""
    truths = [call("≠", step.broadcast(name, index), 0) for name in ("self", "other") if name in step.arguments]
    sign = {"logical_not": "¬", "logical_and": "∧", "logical_or": "∨", "logical_xor": "⊻"}[step.operation.base]
    return call(sign, *truths)


@rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def clamp(step: Step, index: Index) -> Formula:
    """Not below min, not above max."""
    x = step.broadcast("self", index)
    for name, bound in {"min": "max", "max": "min", "min_val": "max", "max_val": "min"}.items():
        if step.has(name):
            x = call(bound, x, step.broadcast(name, index))
    return x


@rule("relu")
def relu(step: Step, index: Index) -> Formula:
    """max(x, 0)."""
    return call("max", step.broadcast("self", index), 0)


@rule("leaky_relu")
def leaky_relu(step: Step, index: Index) -> Formula:
    """x, or a small multiple of it below 0."""
    x = step.broadcast("self", index)
    return call("if", call(">", x, 0), x, times(step["negative_slope"], x))


@rule("elu")
def elu(step: Step, index: Index) -> Formula:
    """x, or α (exp x − 1) below 0."""
    x = step.broadcast("self", index)
    below = times(step["alpha"], call("expm1", times(step["input_scale"], x)))
    return times(step["scale"], call("if", call(">", x, 0), x, below))


@rule("silu")
def silu(step: Step, index: Index) -> Formula:
    """x · σ(x)."""
    x = step.broadcast("self", index)
    return times(x, call("σ", x))


@rule("softplus")
def softplus(step: Step, index: Index) -> Formula:
    """log(1 + exp βx) / β, and x where that is the same."""
    x = step.broadcast("self", index)
    scaled = times(step["beta"], x)
    curve = over(call("log1p", call("exp", scaled)), step["beta"])
    return call("if", call(">", scaled, step["threshold"]), x, curve)


@rule("gelu")
def gelu(step: Step, index: Index) -> Formula:
    """x Φ(x), or its tanh approximation."""
    x = step.broadcast("self", index)
    if step.arguments.get("approximate") == "tanh":
        inner = times(math.sqrt(2 / math.pi), add(x, times(0.044715, times(times(x, x), x))))
        return times(times(0.5, x), add(1, call("tanh", inner)))
    return times(x, times(0.5, add(1, call("erf", over(x, math.sqrt(2))))))


@rule("where")
def where(step: Step, index: Index) -> Formula:
    """One or the other."""
    condition = step.broadcast("condition", index)
    return call("chosen", step.broadcast("self" if condition.value else "other", index), condition)


@rule("masked_fill")
def masked_fill(step: Step, index: Index) -> Formula:
    """A value where the mask is true."""
    masked = step.broadcast("mask", index)
    return call("chosen", step.broadcast("value" if masked.value else "self", index), masked)


@rule("addcmul", "addcdiv")
def add_product(step: Step, index: Index) -> Formula:
    """x + value · a · b, x + value · a / b."""
    a, b = step.broadcast("tensor1", index), step.broadcast("tensor2", index)
    made = times(a, b) if step.operation.base == "addcmul" else over(a, b)
    return add(step.broadcast("self", index), times(step["value"], made))


@rule("lerp")
def lerp(step: Step, index: Index) -> Formula:
    """a + w (b − a)."""
    start, end, weight = (step.broadcast(name, index) for name in ("self", "end", "weight"))
    return add(start, times(weight, call("−", end, start)))


@rule("native_dropout")
def dropout(step: Step, index: Index) -> Formula:
    """x / (1 − p) where the drawn mask keeps it."""
    kept = Operand(step.trace, step.operation.outputs[1], index)
    if step.output == 1:
        return kept  # drawn by chance: what it is, it is
    return over(times(step.broadcast("input", index), kept), 1 - step["p"])


@rule("_to_copy", "copy")
def convert(step: Step, index: Index) -> Formula:
    """The same number in another type."""
    x = step.broadcast("src" if step.has("src") else "self", index)
    return rounded(x, step)


def rounded(x: Formula, step: Step) -> Formula:
    """What a number becomes in the type of the result."""
    target = step.result.dtype
    if not target.is_floating_point and not target.is_complex:
        if str(target) == "torch.bool":
            return call("≠", x, 0)
        return call("int", x)
    sources = {part.trace.tensors[part.tensor].dtype for part in x.leaves()}
    widening = all(source.itemsize <= target.itemsize and source.is_floating_point for source in sources)
    return call("copy" if widening else "float32", x)
