"""Formulas over recorded cells: they compute themselves in float64, know how far rounding may take a kernel from that,
and print as text, LaTeX or MathML.

A formula's value is a number, or an array where it stands for one entry of a sum (`over` it, a letter i, runs). Its
`spread` is S in the bound |computed − recorded| ≤ u · (16 + 4 √n) · S: what the roundings of all steps add up to, in
units of u, to the first order. Recorded cells are exact, so copying has a spread of 0.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glassformer.tracing.trace import Cell, Trace

Array = np.ndarray


class Formula:
    """A node of the tree. `label` is a letter that stands for it where it is used in a larger formula."""

    label: str = ""
    parts: "tuple[Formula, ...]" = ()

    @cached_property
    def value(self) -> Array:
        """In float64, or complex128."""
        raise NotImplementedError

    @cached_property
    def spread(self) -> Array:
        """S, of the shape of the value."""
        raise NotImplementedError

    def computed(self) -> "Formula":
        """The same, once its value and its spread are known to exist: what is wrong with its operands shows here."""
        self.value, self.spread  # noqa: B018
        return self

    @property
    def longest(self) -> int:
        """n: the terms of the longest sum in it."""
        return max((part.longest for part in self.parts), default=1)

    @property
    def entries(self) -> int:
        """Recorded cells that it takes, however often each."""
        return sum(leaf.value.size for leaf in self.leaves())

    def leaves(self) -> "Iterator[Operand]":
        """The recorded cells that it is made of, each once."""
        seen: set[int] = set()
        waiting: list[Formula] = [self]
        while waiting:
            node = waiting.pop(0)
            if id(node) not in seen:
                seen.add(id(node))
                if isinstance(node, Operand):
                    yield node
                waiting += node.parts


@dataclass(eq=False)
class Number(Formula):
    """A constant of the source, or an array of them, such as the roots of unity in a Fourier transform."""

    number: Any
    label: str = ""

    @cached_property
    def value(self) -> Array:
        """The constant itself."""
        return np.asarray(self.number)

    @cached_property
    def spread(self) -> Array:
        """Its size, where single precision does not hold it exactly; else 0."""
        if self.value.dtype.kind != "f":
            return np.zeros(self.value.shape)
        with np.errstate(all="ignore"):  # a kernel may know it in single precision only
            return np.where(self.value.astype(np.float32) == self.value, 0.0, np.abs(self.value))


@dataclass(eq=False)
class Operand(Formula):
    """Recorded cells: one, or as many as the arrays in the index pick."""

    trace: Trace
    tensor: int
    index: tuple[Any, ...]
    label: str = ""

    @cached_property
    def value(self) -> Array:
        """The recorded numbers: floats in float64, whole numbers in int64."""
        array = np.asarray(self.trace.array(self.tensor)[self.index])
        wide = {"c": np.complex128, "f": np.float64, "i": np.int64, "u": np.int64}.get(array.dtype.kind)
        return array if wide is None else array.astype(wide)

    @cached_property
    def spread(self) -> Array:
        """0: what was recorded is exact."""
        return np.zeros(self.value.shape)

    def cells(self) -> list[Cell]:
        """The cells, in the order of the value, under the names that people know them by."""
        tensor, index = self.trace.home(self.tensor, self.index)
        places = np.broadcast_arrays(*map(np.asarray, index)) if index else []
        if not places:
            return [Cell(self.trace, tensor, ())]
        return [
            Cell(self.trace, tensor, tuple(int(i) for i in place))
            for place in zip(*(axis.ravel() for axis in places), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Function:
    """What a name computes, and what it makes of the spreads of its arguments."""

    compute: Callable[..., Array]
    slopes: Callable[..., Sequence[Any]]  # |∂f/∂argument| at the arguments
    exact: bool = False  # no rounding of its own


@dataclass(eq=False)
class Apply(Formula):
    """A function of one or several formulas, entry by entry."""

    name: str
    parts: tuple[Formula, ...]
    label: str = ""

    @cached_property
    def value(self) -> Array:
        """The function of the parts' values."""
        with np.errstate(all="ignore"):
            return np.asarray(FUNCTIONS[self.name].compute(*(part.value for part in self.parts)))

    @cached_property
    def spread(self) -> Array:
        """The parts' spreads by the slopes of the function, and the rounding of its own result."""
        function = FUNCTIONS[self.name]
        with np.errstate(all="ignore"):
            own = np.zeros(self.value.shape) if function.exact else np.abs(self.value)
            slopes = function.slopes(*(part.value for part in self.parts))
            for slope, part in zip(slopes, self.parts, strict=True):
                if np.any(part.spread):
                    own = own + np.nan_to_num(np.abs(slope) * part.spread, nan=0.0, posinf=0.0)
        return np.asarray(own)


@dataclass(eq=False)
class Reduce(Formula):
    """A sum, a largest or a smallest entry, over the last axis of a formula."""

    name: str
    parts: tuple[Formula]
    label: str = ""

    @cached_property
    def value(self) -> Array:
        """The reduction over the last axis."""
        with np.errstate(all="ignore"):
            return np.asarray(REDUCTIONS[self.name](self.parts[0].value, axis=-1))

    @cached_property
    def spread(self) -> Array:
        """Of a sum, the sizes of its terms added up; of a largest or smallest entry, the largest spread."""
        (part,) = self.parts
        with np.errstate(all="ignore"):
            if self.name == "∑":
                return np.asarray(np.maximum(part.spread, np.abs(part.value)).sum(-1))
            if self.name == "∏":
                return np.asarray(np.abs(self.value) * (1 + np.nan_to_num(part.spread / np.abs(part.value)).sum(-1)))
            return np.asarray(part.spread.max(-1)) if part.spread.size else np.zeros(self.value.shape)

    @property
    def longest(self) -> int:
        """The length of this reduction, or of a longer one inside of it."""
        value = self.parts[0].value
        return max(value.shape[-1] if value.ndim else 1, self.parts[0].longest)


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "∑": np.sum,
    "∏": np.prod,
    "max": np.max,
    "min": np.min,
    "any": np.any,
    "all": np.all,
    "argmax": np.argmax,
    "argmin": np.argmin,
}


def _erf(x: Any) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: Any) -> Array:
    small = np.exp(-np.abs(x))  # which cannot overflow
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _flat(*arguments: Array) -> Sequence[int]:
    return (0,) * len(arguments)


def _one(*arguments: Array) -> Sequence[int]:
    return (1,) * len(arguments)


def _exact(compute: Callable[..., Any], slopes: Callable[..., Sequence[Any]] = _flat) -> Function:
    return Function(compute, slopes, exact=True)


FUNCTIONS: dict[str, Function] = {
    "+": Function(np.add, _one),
    "−": Function(np.subtract, _one),
    "·": Function(np.multiply, lambda a, b: (b, a)),
    "/": Function(np.divide, lambda a, b: (1 / b, a / b**2)),
    "^": Function(np.power, lambda a, b: (b * np.power(a, b - 1), np.power(a, b) * np.log(np.abs(a)))),
    "neg": _exact(np.negative, _one),
    "abs": _exact(np.abs, _one),
    "modulus": Function(np.abs, _one),
    "sign": _exact(np.sign),
    "exp": Function(np.exp, lambda a: (np.exp(a),)),
    "exp2": Function(np.exp2, lambda a: (np.exp2(a),)),
    "expm1": Function(np.expm1, lambda a: (np.exp(a),)),
    "log": Function(np.log, lambda a: (1 / a,)),
    "log2": Function(np.log2, lambda a: (1.45 / a,)),
    "log10": Function(np.log10, lambda a: (0.44 / a,)),
    "log1p": Function(np.log1p, lambda a: (1 / (1 + a),)),
    "√": Function(np.sqrt, lambda a: (0.5 / np.sqrt(a),)),
    "sin": Function(np.sin, lambda a: (np.cos(a),)),
    "cos": Function(np.cos, lambda a: (np.sin(a),)),
    "tanh": Function(np.tanh, lambda a: (1 - np.tanh(a) ** 2,)),
    "σ": Function(_sigmoid, lambda a: (_sigmoid(a) * _sigmoid(-a),)),
    "erf": Function(_erf, lambda a: (1.13 * np.exp(-(a**2)),)),
    "arctan2": Function(np.arctan2, lambda a, b: (b / (a**2 + b**2), a / (a**2 + b**2))),
    "max": _exact(np.maximum, _one),
    "min": _exact(np.minimum, _one),
    "⌊⌋": _exact(np.floor),
    "⌈⌉": _exact(np.ceil),
    "round": _exact(np.round),
    "trunc": _exact(np.trunc),
    "int": _exact(lambda a: a.astype(np.int64)),
    "mod": _exact(np.mod, lambda a, b: (1, np.floor(a / b))),
    "fmod": _exact(np.fmod, lambda a, b: (1, np.trunc(a / b))),
    "=": _exact(np.equal),
    "≠": _exact(np.not_equal),
    "<": _exact(np.less),
    "≤": _exact(np.less_equal),
    ">": _exact(np.greater),
    "≥": _exact(np.greater_equal),
    "∧": _exact(lambda a, b: a & b),
    "∨": _exact(lambda a, b: a | b),
    "⊻": _exact(lambda a, b: a ^ b),
    "¬": _exact(lambda a: ~a),
    "is nan": _exact(np.isnan),
    "is infinite": _exact(np.isinf),
    "conj": _exact(np.conj, _one),
    "Re": _exact(np.real, _one),
    "Im": _exact(np.imag, _one),
    "float32": Function(lambda a: a, _one),  # a rounding to it, or to half precision
    "copy": _exact(lambda a: a, _one),
    "chosen": _exact(lambda chosen, *by: chosen, lambda chosen, *by: (1, *(0 for _ in by))),
    "if": _exact(np.where, lambda condition, a, b: (0, condition, ~np.asarray(condition, dtype=bool))),
}


# ---- short ways to write them


def lift(value: Any) -> Formula:
    """A formula as it is; anything else as a constant."""
    return value if isinstance(value, Formula) else Number(value)


def call(name: str, *parts: Any, label: str = "") -> Formula:
    """The function of this name of formulas and numbers."""
    return Apply(name, tuple(map(lift, parts)), label)


def add(*parts: Any, label: str = "") -> Formula:
    """A sum written out."""
    total = lift(parts[0])
    for part in parts[1:]:
        total = Apply("+", (total, lift(part)))
    total.label = label or total.label
    return total


def times(a: Any, b: Any, label: str = "") -> Formula:
    """A product."""
    return call("·", a, b, label=label)


def over(a: Any, b: Any, label: str = "") -> Formula:
    """A quotient."""
    return call("/", a, b, label=label)


def total(part: Formula, label: str = "") -> Formula:
    """∑ over the last axis."""
    return Reduce("∑", (part,), label)
