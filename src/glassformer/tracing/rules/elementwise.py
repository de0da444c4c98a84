"""Entry by entry: arithmetic, activations, comparison, masks, choice."""

import math

import torch

from glassformer.tracing.formula import Formula, Number, Operand, add, call, over, times
from glassformer.tracing.rules.rule import BoundOperation, rule
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
def unary(op: BoundOperation, index: Index) -> Formula:
    """f(x)."""
    x = op.broadcast("self", index)
    name = UNARY[op.operation.base]
    if op.arguments.get("decimals"):
        raise NotImplementedError("rounding to decimals")
    return call("modulus" if name == "abs" and x.value.dtype.kind == "c" else name, x)


@rule(*BINARY)
def binary(op: BoundOperation, index: Index) -> Formula:
    """a ∘ b."""
    a, b = _two(op, index)
    if op.operation.base in COMPARISONS and isinstance(b, Number) and op.record("self").dtype.is_floating_point:
        b = Number(torch.tensor(b.number, dtype=op.record("self").dtype).item())  # which the kernel compares in
    return call(BINARY[op.operation.base], a, b)


def _two(op: BoundOperation, index: Index) -> tuple[Formula, Formula]:
    return op.broadcast("self", index), op.broadcast("other", index)


@rule("add", "sub", "rsub")
def plus_minus(op: BoundOperation, index: Index) -> Formula:
    """a ± α b."""
    a, b = _two(op, index)
    if op.arguments.get("alpha", 1) != 1:
        b = times(op["alpha"], b)
    if op.operation.base == "rsub":
        a, b = b, a
    return add(a, b) if op.operation.base == "add" else call("−", a, b)


@rule("div", "floor_divide")
def quotient(op: BoundOperation, index: Index) -> Formula:
    """a / b, rounded down or towards zero where asked."""
    mode = "floor" if op.operation.base == "floor_divide" else op.arguments.get("rounding_mode")
    exact = over(*_two(op, index))
    if mode == "floor" and exact.value.dtype.kind == "f":  # the remainder decides, since the quotient may round up
        a, b = _two(op, index)
        exact = over(call("−", a, call("mod", a, b)), b)
        return call("round", exact)
    return exact if mode is None else call("⌊⌋" if mode == "floor" else "trunc", exact)


@rule("complex")
def complex_number(op: BoundOperation, index: Index) -> Formula:
    """a + b i."""
    return call("+", op.broadcast("real", index), times(op.broadcast("imag", index), Number(1j, "i")))


@rule("reciprocal", "rsqrt")
def inverse(op: BoundOperation, index: Index) -> Formula:
    """1 / x, 1 / √x."""
    x = op.broadcast("self", index)
    return over(1, call("√", x) if op.operation.base == "rsqrt" else x)


@rule("pow")
def power(op: BoundOperation, index: Index) -> Formula:
    """a to the power of b."""
    base, exponent = op.broadcast("self", index), op.broadcast("exponent", index)
    if isinstance(exponent, Number) and exponent.number == 2:
        return times(base, base)
    if isinstance(exponent, Number) and exponent.number == 3:
        return times(times(base, base), base)
    return call("^", base, exponent)


@rule("logical_not", "logical_and", "logical_or", "logical_xor")
def logic(op: BoundOperation, index: Index) -> Formula:
    """Anything but zero counts as true."""
    truths = [call("≠", op.broadcast(name, index), 0) for name in ("self", "other") if name in op.arguments]
    sign = {"logical_not": "¬", "logical_and": "∧", "logical_or": "∨", "logical_xor": "⊻"}[op.operation.base]
    return call(sign, *truths)


@rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def clamp(op: BoundOperation, index: Index) -> Formula:
    """Not below min, not above max."""
    x = op.broadcast("self", index)
    for name, bound in {"min": "max", "max": "min", "min_val": "max", "max_val": "min"}.items():
        if op.has(name):
            x = call(bound, x, op.broadcast(name, index))
    return x


@rule("relu")
def relu(op: BoundOperation, index: Index) -> Formula:
    """max(x, 0)."""
    return call("max", op.broadcast("self", index), 0)


@rule("leaky_relu")
def leaky_relu(op: BoundOperation, index: Index) -> Formula:
    """x, or a small multiple of it below 0."""
    x = op.broadcast("self", index)
    return call("if", call(">", x, 0), x, times(op["negative_slope"], x))


@rule("elu")
def elu(op: BoundOperation, index: Index) -> Formula:
    """x, or α (exp x − 1) below 0."""
    x = op.broadcast("self", index)
    below = times(op["alpha"], call("expm1", times(op["input_scale"], x)))
    return times(op["scale"], call("if", call(">", x, 0), x, below))


@rule("silu")
def silu(op: BoundOperation, index: Index) -> Formula:
    """x · σ(x)."""
    x = op.broadcast("self", index)
    return times(x, call("σ", x))


@rule("softplus")
def softplus(op: BoundOperation, index: Index) -> Formula:
    """log(1 + exp βx) / β, and x where that is the same."""
    x = op.broadcast("self", index)
    scaled = times(op["beta"], x)
    curve = over(call("log1p", call("exp", scaled)), op["beta"])
    return call("if", call(">", scaled, op["threshold"]), x, curve)


@rule("gelu")
def gelu(op: BoundOperation, index: Index) -> Formula:
    """x Φ(x), or its tanh approximation."""
    x = op.broadcast("self", index)
    if op.arguments.get("approximate") == "tanh":
        inner = times(math.sqrt(2 / math.pi), add(x, times(0.044715, times(times(x, x), x))))
        return times(times(0.5, x), add(1, call("tanh", inner)))
    return times(x, times(0.5, add(1, call("erf", over(x, math.sqrt(2))))))


@rule("where")
def where(op: BoundOperation, index: Index) -> Formula:
    """One or the other."""
    condition = op.broadcast("condition", index)
    return call("chosen", op.broadcast("self" if condition.value else "other", index), condition)


@rule("masked_fill")
def masked_fill(op: BoundOperation, index: Index) -> Formula:
    """A value where the mask is true."""
    masked = op.broadcast("mask", index)
    return call("chosen", op.broadcast("value" if masked.value else "self", index), masked)


@rule("addcmul", "addcdiv")
def add_product(op: BoundOperation, index: Index) -> Formula:
    """x + value · a · b, x + value · a / b."""
    a, b = op.broadcast("tensor1", index), op.broadcast("tensor2", index)
    term = times(a, b) if op.operation.base == "addcmul" else over(a, b)
    return add(op.broadcast("self", index), times(op["value"], term))


@rule("lerp")
def lerp(op: BoundOperation, index: Index) -> Formula:
    """a + w (b − a)."""
    start, end, weight = (op.broadcast(name, index) for name in ("self", "end", "weight"))
    return add(start, times(weight, call("−", end, start)))


@rule("native_dropout")
def dropout(op: BoundOperation, index: Index) -> Formula:
    """x / (1 − p) where the drawn mask keeps it."""
    kept = Operand(op.trace, op.operation.outputs[1], index)
    if op.output == 1:
        return kept  # drawn by chance: what it is, it is
    return over(times(op.broadcast("input", index), kept), 1 - op["p"])


@rule("_to_copy", "copy")
def convert(op: BoundOperation, index: Index) -> Formula:
    """The same number in another type."""
    x = op.broadcast("src" if op.has("src") else "self", index)
    return rounded(x, op)


def rounded(x: Formula, op: BoundOperation) -> Formula:
    """What a number becomes in the type of the result."""
    target = op.result.dtype
    if not target.is_floating_point and not target.is_complex:
        if str(target) == "torch.bool":
            return call("≠", x, 0)
        return call("int", x)
    sources = {part.trace.tensors[part.tensor].dtype for part in x.leaves()}
    widening = all(source.itemsize <= target.itemsize and source.is_floating_point for source in sources)
    return call("copy" if widening else "float32", x)
