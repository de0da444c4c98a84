"""Formulas as people read them: plain text, LaTeX, MathML; and as NumPy computes them.

`web/src/rules/text.ts` and `numpy.ts` write the same, letter for letter.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from glassformer.tracing.formula import Apply, Formula, Number, Operand, Reduce
from glassformer.tracing.trace import Cell

Dialect = Literal["text", "latex", "mathml"]
SUM, PRODUCT, ATOM = 1, 2, 3  # how tightly an expression holds together


@dataclass(frozen=True, slots=True)
class Notation:
    """How a function is written: with {0}, {1} for its arguments, which need `inside` at least; `holds` is its own."""

    text: str
    latex: str
    mathml: str
    holds: int = ATOM
    inside: tuple[int, int] = (0, 0)


def _infix(text: str, latex: str, holds: int, right: int) -> Notation:
    return Notation(
        f"{{0}} {text} {{1}}", f"{{0}} {latex} {{1}}", f"{{0}}<mo>{html.escape(text)}</mo>{{1}}", holds, (holds, right)
    )


def _named(text: str, latex: str = "") -> Notation:
    words = latex or rf"\mathrm{{{text}}}"
    return Notation(
        f"{text}({{0}})",
        f"{words.replace('{', '{{').replace('}', '}}')}({{0}})",
        f"<mi>{text}</mi><mo>(</mo>{{0}}<mo>)</mo>",
    )


NOTATIONS: dict[str, Notation] = {
    "+": _infix("+", "+", SUM, SUM),
    "−": _infix("−", "-", SUM, PRODUCT),
    "·": _infix("·", r"\cdot", PRODUCT, PRODUCT),
    "/": Notation(
        "{0} / {1}", r"\frac{{{0}}}{{{1}}}", "<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>", PRODUCT, (PRODUCT, ATOM)
    ),
    "^": Notation("{0}^{1}", "{{{0}}}^{{{1}}}", "<msup><mrow>{0}</mrow><mrow>{1}</mrow></msup>", ATOM, (ATOM, ATOM)),
    "√": Notation("√({0})", r"\sqrt{{{0}}}", "<msqrt>{0}</msqrt>"),
    "neg": Notation("−{0}", "-{0}", "<mo>−</mo>{0}", PRODUCT, (ATOM, 0)),
    "abs": Notation("|{0}|", "|{0}|", "<mo>|</mo>{0}<mo>|</mo>"),
    "⌊⌋": Notation("⌊{0}⌋", r"\lfloor {0} \rfloor", "<mo>⌊</mo>{0}<mo>⌋</mo>"),
    "⌈⌉": Notation("⌈{0}⌉", r"\lceil {0} \rceil", "<mo>⌈</mo>{0}<mo>⌉</mo>"),
    "copy": Notation("{0}", "{0}", "{0}", SUM),
    "float32": Notation("{0}", "{0}", "{0}", SUM),
    "¬": Notation("¬{0}", r"\lnot {0}", "<mo>¬</mo>{0}", PRODUCT, (ATOM, 0)),
    "σ": _named("σ", r"\sigma"),
    "if": Notation(
        "({1} if {0} else {2})",
        r"({1}\ \mathrm{{if}}\ {0}\ \mathrm{{else}}\ {2})",
        "<mo>(</mo>{1}<mtext> if </mtext>{0}<mtext> else </mtext>{2}<mo>)</mo>",
    ),
    **{
        sign: _infix(sign, latex, 0, SUM)
        for sign, latex in {"=": "=", "≠": r"\ne", "<": "<", "≤": r"\le", ">": ">", "≥": r"\ge"}.items()
    },
    **{sign: _infix(sign, latex, 0, SUM) for sign, latex in {"∧": r"\land", "∨": r"\lor", "⊻": r"\oplus"}.items()},
    **{name: _named(name, rf"\{name}") for name in ("exp", "log", "sin", "cos", "tanh", "max", "min")},
}
TWO = ("max", "min", "arctan2", "mod", "fmod")


def render(formula: Formula, dialect: Dialect = "text", *, numbers: bool = False, of: Cell | None = None) -> str:
    """The formula, and what its letters stand for; `numbers` puts the recorded values in the place of single cells.

    With `of`, it is an equation that has this cell on the left side.
    """
    writer = _Writer(dialect, numbers)
    equals = "<mo>=</mo>" if dialect == "mathml" else " = "
    left = "" if of is None else writer.operand(Operand(of.trace, of.tensor, of.index)) + equals
    lines = [left + writer.write(formula, 0, top=True)]
    while writer.waiting:
        part = writer.waiting.pop(0)
        lines.append(writer.letter(part.label) + equals + writer.write(part, 0, top=True))
    if dialect == "mathml":
        rows = "".join(f"<mtr><mtd>{line}</mtd></mtr>" for line in lines)
        return f'<math xmlns="http://www.w3.org/1998/Math/MathML"><mtable columnalign="left">{rows}</mtable></math>'
    return (", where " if dialect == "text" else r",\quad ").join(
        [lines[0], ", ".join(lines[1:])][: min(len(lines), 2)]
    )


class _Writer:
    """Writes one formula; collects the labelled parts, which are written once, at the end."""

    def __init__(self, dialect: Dialect, numbers: bool) -> None:
        self.dialect, self.numbers = dialect, numbers
        self.waiting: list[Formula] = []
        self._met: set[int] = set()

    def write(self, formula: Formula, needed: int, *, top: bool = False) -> str:
        if formula.label and not top and not isinstance(formula, Number):
            if id(formula) not in self._met:
                self._met.add(id(formula))
                self.waiting.append(formula)
            return self.letter(formula.label)
        match formula:
            case Number():
                return self.letter(formula.label) if formula.label else self.constant(formula.number)
            case Operand():
                single = formula.value.ndim == 0
                return self.number(shorten(formula.value.item())) if self.numbers and single else self.operand(formula)
            case Reduce(name=name, parts=(part,)):
                return self._reduced(name, self.write(part, PRODUCT if name in "∑∏" else 0), needed)
            case Apply(name="chosen", parts=(chosen, *_)):
                return self.write(chosen, needed)
            case Apply(name=name, parts=parts):
                return self._applied(name, parts, needed)
        raise AssertionError(formula)

    def _applied(self, name: str, parts: Sequence[Formula], needed: int) -> str:
        notation = NOTATIONS.get(name) or _named(name.replace(" ", "\\ ") if self.dialect == "latex" else name)
        if name in TWO:
            inside = (", " if self.dialect != "mathml" else "<mo>,</mo>").join(self.write(part, 0) for part in parts)
            written = getattr(_named(name), self.dialect).format(inside)
        else:
            arguments = [self.write(p, notation.inside[min(k, 1)]) for k, p in enumerate(parts)]
            if self.dialect != "text" and name == "/":
                arguments = [self.write(p, 0) for p in parts]
            written = getattr(notation, self.dialect).format(*arguments)
        return self._bracketed(written) if notation.holds < needed else written

    def _reduced(self, name: str, inside: str, needed: int) -> str:
        if self.dialect == "latex":
            sign = {"∑": r"\sum_i", "∏": r"\prod_i"}.get(name, rf"\mathrm{{{name}}}_i")
        elif self.dialect == "mathml":
            tag = "mo" if name in "∑∏" else "mi"
            sign = f"<munder><{tag}>{name}</{tag}><mi>i</mi></munder>"
        else:
            sign = f"{name}ᵢ"
        written = f"{sign} {inside}" if self.dialect != "mathml" else f"<mrow>{sign}{inside}</mrow>"
        return self._bracketed(written) if needed > SUM or (needed == SUM and name in "∑∏") else written

    def _bracketed(self, written: str) -> str:
        return f"<mo>(</mo>{written}<mo>)</mo>" if self.dialect == "mathml" else f"({written})"

    def letter(self, label: str) -> str:
        return f"<mi>{html.escape(label)}</mi>" if self.dialect == "mathml" else label

    def constant(self, value: Any) -> str:
        """A whole one in six digits: nobody remembers whether 2 was written as 2.0."""
        return self.number(f"{value:g}".replace("-", "−") if _is_whole(value) else shorten(value))

    def number(self, written: str) -> str:
        if self.dialect == "mathml":
            return f"<mn>{html.escape(written)}</mn>"
        if self.dialect == "latex":
            return written.replace("−", "-")
        return f"({written})" if written.startswith("−") else written

    def operand(self, operand: Operand) -> str:
        tensor, index = operand.trace.home(operand.tensor, operand.index)
        name = operand.trace.tensors[tensor].name
        places = ",".join(_axis(entry) for entry in index)
        if self.dialect == "latex":
            escaped = re.sub("([_#])", r"\\\1", name)
            return rf"\mathrm{{{escaped}}}_{{{places}}}"
        if self.dialect == "mathml":
            return f"<msub><mtext>{html.escape(name)}</mtext><mrow><mtext>{places}</mtext></mrow></msub>"
        return f"{name}[{places}]"


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool | complex) and value is not None and float(value).is_integer()


def _axis(entry: Any) -> str:
    """An index as it is written: a number, i where the sum runs over it (j over the outer one of two), or a range."""
    places = np.asarray(entry)
    if places.ndim == 0 or (places.size and (places == places.flat[0]).all()):
        return str(int(places.flat[0]))
    if places.size == 0:
        return "–"
    if places.ndim == 1 and (np.diff(places) == 1).all():
        return "i" if places[0] == 0 else f"{places[0]}+i"
    if places.ndim == 2 and min(places.shape) == 1 and (places.ravel() == np.arange(places.size)).all():
        return "i" if places.shape[0] == 1 else "j"
    return f"{places.min()}…{places.max()}"


def shorten(value: Any) -> str:
    """A number in four digits, with a real minus sign."""
    if isinstance(value, complex):
        return f"{shorten(value.real)} + {shorten(value.imag)}i"
    if isinstance(value, bool | str) or value is None:
        return str(value).lower()
    return (str(value) if isinstance(value, int) else f"{value:.4g}").replace("-", "−")


# ---- for NumPy

INFIX = {"+": ("+", SUM), "−": ("-", SUM), "·": ("*", PRODUCT), "/": ("/", PRODUCT)}
CALLS = {
    "=": "equal", "≠": "not_equal", "<": "less", "≤": "less_equal", ">": "greater", "≥": "greater_equal",
    "∧": "bitwise_and", "∨": "bitwise_or", "⊻": "bitwise_xor", "¬": "invert", "is nan": "isnan", "is infinite": "isinf",
    "^": "float_power", "√": "sqrt", "⌊⌋": "floor", "⌈⌉": "ceil", "max": "maximum", "min": "minimum",
    "modulus": "abs", "neg": "negative", "int": "trunc", "if": "where", "Re": "real", "Im": "imag",
}  # fmt: skip
REDUCTIONS = {"∑": "sum", "∏": "prod"}
TRANSPARENT = ("copy", "float32", "chosen")


def numpy_of(formula: Formula, dtype: str) -> str:
    """An expression that gives the number when pasted into Python after `import numpy as np`.

    All operands are written out exactly and computed with in double precision; the result has the number's own type.
    """
    written = _NumpyWriter(formula).write(formula, 0)
    if dtype == "bfloat16":  # which NumPy lacks
        return written
    if dtype == "bool":
        return f"np.bool_({written})"
    wraps = "int" in dtype and not dtype.endswith("64")
    return f"np.int64({written}).astype(np.{dtype})" if wraps else f"np.{dtype}({written})"


class _NumpyWriter:
    """Writes one formula; a part that is used twice gets a name where it is first met."""

    def __init__(self, formula: Formula) -> None:
        self.uses = Counter(map(id, _uses(formula, set())))
        self.names: dict[int, str] = {}

    def write(self, formula: Formula, needed: int) -> str:
        plain = isinstance(formula, Number | Operand) and formula.value.ndim == 0
        if plain or self.uses[id(formula)] == 1:
            return self._body(formula, needed)
        if id(formula) in self.names:
            return self.names[id(formula)]
        fits = re.fullmatch("[A-Za-z]+", formula.label) and formula.label not in self.names.values()
        name = self.names[id(formula)] = formula.label if fits else f"x{len(self.names) + 1}"
        return f"({name} := {self._body(formula, 0)})"

    def _body(self, formula: Formula, needed: int) -> str:
        match formula:
            case Apply(name=name, parts=parts):
                return self._applied(name, parts, needed)
            case Reduce(name=name, parts=(part,)):
                return self._reduced(name, part)
        value = formula.value
        if isinstance(formula, Number) and value.dtype.kind == "f":
            whole = (value == np.floor(value)) & (np.abs(value) < 2.0**53)
            value = value.astype(np.int64) if whole.all() else value
        return f"np.array({_literal(value)})" if value.ndim else _literal(value)

    def _applied(self, name: str, parts: Sequence[Formula], needed: int) -> str:
        if name in TRANSPARENT:
            return self.write(parts[0], needed)
        if name in INFIX and not (name == "/" and (parts[1].value == 0).any()):
            sign, holds = INFIX[name]
            written = f"{self.write(parts[0], holds)} {sign} {self.write(parts[1], holds + 1)}"
            return f"({written})" if holds < needed else written
        inside = ", ".join(self.write(part, 0) for part in parts)
        if name == "σ":
            written = f"1 / (1 + np.exp(-({inside})))"
            return f"({written})" if needed > PRODUCT else written
        if name == "erf":  # which NumPy lacks
            return f'__import__("math").erf({inside})'
        return f"np.{'divide' if name == '/' else CALLS.get(name, name)}({inside})"

    def _reduced(self, name: str, part: Formula) -> str:
        match part:
            case Apply(name="·", parts=(a, b)) if name == "∑" and self.uses[id(part)] == 1:
                if a.value.shape == b.value.shape == (part.value.size,):
                    return f"np.dot({self._listed(a)}, {self._listed(b)})"
        axis = ", -1" if part.value.ndim > 1 else ""
        return f"np.{REDUCTIONS.get(name, name)}({self._listed(part)}{axis})"

    def _listed(self, formula: Formula) -> str:
        """Functions of arrays take lists as well, which are shorter."""
        return re.sub(r"^np\.array\((\[[^()]*\])\)$", r"\1", self.write(formula, 0))


def _uses(formula: Formula, met: set[int]) -> Iterator[Formula]:
    """Each part as often as it is used; what has been chosen, without what chose it."""
    yield formula
    if id(formula) not in met:
        met.add(id(formula))
        chosen = isinstance(formula, Apply) and formula.name == "chosen"
        for part in formula.parts[:1] if chosen else formula.parts:
            yield from _uses(part, met)


def _literal(value: np.ndarray | np.generic) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"[{', '.join(map(_literal, value))}]"
    number = value.item()
    if isinstance(number, complex):
        return f"complex({_float(number.real)}, {_float(number.imag)})"
    return _float(number) if isinstance(number, float) else str(number)


def _float(number: float) -> str:
    return re.sub("(inf|nan)", r"np.\1", repr(number))
