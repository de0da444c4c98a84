"""From a running frame to the words in the source: which line computes, and which variable its result goes into.

CPython knows for every instruction the stretch of source that it belongs to. Where that stretch is all of the right
side of an assignment, the result has the variable's name; where it is all of what a function returns, the caller's
expression has it; inside a larger expression it gets a derived name. Frames of torch's own machinery are passed over,
except the layers of `torch.nn`, which are somebody's model too.
"""

import ast
import functools
import linecache
import re
import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Literal

import torch

from glassformer.tracing.trace import Source

TORCH = torch.__path__[0].replace("\\", "/") + "/"
LAYERS = re.compile(r"nn/modules/(?!module\.py)")
WRITTEN_OUT = re.compile(r"multi_head_attention_forward|_in_projection")  # of nn.functional, those that are models
PASSED_OVER = re.compile(r"/(glassformer/(twins|tracing/\w+)|contextlib|functools)\.py$|^<|/(jaxtyping|beartype)/")
Span = tuple[int | None, int | None, int | None, int | None]
Role = Literal["assigned", "returned", "inner", "inside a return"]


@dataclass(frozen=True, slots=True)
class Place:
    """What an expression is in its statement, and the names that the statement assigns (None where it has none)."""

    role: Role
    names: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """Where an operation stands, and what its results are called; `inner` names what is a part of a larger one."""

    source: Source
    names: tuple[str | None, ...]
    inner: bool
    key: tuple[int, int]  # of the expression: equal for what one expression does


def locate(frame: FrameType | None = None) -> Located:
    """The line that the caller of the recorder runs, and the names of what comes out of it."""
    frame = _visible(frame or sys._getframe(1))
    if frame is None:
        return Located(Source(), (), False, (0, 0))
    code, at = frame.f_code, frame.f_lasti
    names, inner = _names(frame)
    return Located(_source(code, at), names, inner, (id(frame), at))


def _names(start: FrameType) -> tuple[tuple[str | None, ...], bool]:
    """Follow returned values outwards, up to the border of the module's call."""
    frame: FrameType | None = start
    inner = False
    while frame is not None:
        place = _place(frame.f_code, frame.f_lasti)
        inner = inner or place.role in ("inner", "inside a return")
        if place.role in ("assigned", "inner"):
            return place.names, inner
        if frame.f_code.co_name == "forward":
            return (), False  # the name is the caller's to give, when the module has returned
        frame = _visible(frame.f_back)
    return (), False


def _visible(frame: FrameType | None) -> FrameType | None:
    while frame is not None and not _is_shown(frame.f_code):
        frame = frame.f_back
    return frame


@functools.lru_cache(None)
def _is_shown(code: CodeType) -> bool:
    file = code.co_filename.replace("\\", "/")
    if file.startswith(TORCH):
        inside = file.removeprefix(TORCH)
        return bool(LAYERS.match(inside)) or (inside == "nn/functional.py" and bool(WRITTEN_OUT.match(code.co_name)))
    return not PASSED_OVER.search(file)


@functools.lru_cache(None)
def _source(code: CodeType, at: int) -> Source:
    line = _span(code, at)[0] or code.co_firstlineno
    return Source(
        file=code.co_filename,
        line=line,
        text=linecache.getline(code.co_filename, line).strip(),
        function=code.co_qualname,
    )


@functools.lru_cache(None)
def _spans(code: CodeType) -> list[Span]:
    return list(code.co_positions())


def _span(code: CodeType, at: int) -> Span:
    spans = _spans(code)
    return spans[at // 2] if 0 <= at // 2 < len(spans) else (None, None, None, None)


@functools.lru_cache(None)
def _place(code: CodeType, at: int) -> Place:
    return _places(code.co_filename).get(_span(code, at), Place("inner"))


@functools.lru_cache(None)
def _places(file: str) -> dict[Span, Place]:
    """Every expression of a file by the stretch that it covers."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[Span, Place] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[*_, target], value=value):
                _assign(target, value, found)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(target, value, found)
            case ast.NamedExpr(target=target, value=value):
                _assign(target, value, found)
            case ast.AugAssign(target=target):
                found[_of(node)] = Place("assigned", (_name(target),))
                _inside(node.value, (_name(target),), found)
            case ast.Return(value=ast.expr() as value):
                _whole(value, Place("returned"), found)
            case ast.Lambda(body=value):
                _whole(value, Place("returned"), found)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner)) as value):  # x.masked_fill_(…)
                found.setdefault(_of(value), Place("assigned", (_name(owner),)))
    return found


def _assign(target: ast.expr, value: ast.expr, found: dict[Span, Place]) -> None:
    if isinstance(target, ast.Tuple | ast.List):
        if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                _assign(one, its_value, found)
            return
        names = tuple(_name(one) for one in target.elts)
    else:
        names = (_name(target),)
    _whole(value, Place("assigned", names), found)


def _whole(value: ast.expr, place: Place, found: dict[Span, Place]) -> None:
    """The expression has the place's role; what is inside of it is inner."""
    if isinstance(value, ast.IfExp):
        _whole(value.body, place, found)
        _whole(value.orelse, place, found)
        return
    found[_of(value)] = place
    _inside(value, place.names, found, "inside a return" if place.role == "returned" else "inner")


def _inside(value: ast.expr, names: tuple[str | None, ...], found: dict[Span, Place], role: Role = "inner") -> None:
    for node in ast.walk(value):
        if isinstance(node, ast.expr) and node is not value:
            found.setdefault(_of(node), Place(role, names))


def _of(node: ast.expr | ast.stmt) -> Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _name(target: ast.expr) -> str | None:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _name(value)
    return None


# ---- words for the tensors of our models

AXES: dict[str, str] = {
    **dict.fromkeys(["tokens", "targets"], "BT"),
    **dict.fromkeys(["x", "y", "centred", "normalised"], "BTC"),
    **dict.fromkeys(["hidden", "gate", "up", "activated", "gated"], "BTF"),
    "q": "BHTD",
    **dict.fromkeys(["k", "v"], "BGSD"),
    **dict.fromkeys(["scores", "weights"], "BHTS"),
    "out": "BHTD",
    "logits": "BTV",
}


def axes(name: str, n_axes: int) -> tuple[str, ...]:
    """The letters of docs/notation.md for the axes of a tensor that has a known name, else none."""
    letters = AXES.get(name.rpartition(".")[2].partition("#")[0], "")
    return tuple(letters) if len(letters) == n_axes else ()
