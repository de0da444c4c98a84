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

from glassformer.tracing.trace import SourceLine

TORCH = torch.__path__[0].replace("\\", "/") + "/"
LAYERS = re.compile(r"nn/modules/(?!module\.py)")
WRITTEN_OUT = re.compile(r"multi_head_attention_forward|_in_projection")  # of nn.functional, those that are models
BORDER = re.compile(r"/glassformer/tracing/recorder\.py$")  # what calls `Recorder.run` is no part of the model
PASSED_OVER = re.compile(r"/(glassformer/(twins|tracing/\w+)|contextlib|functools)\.py$|^<|/(jaxtyping|beartype)/")
Span = tuple[int | None, int | None, int | None, int | None]
ExpressionRole = Literal["assigned", "returned", "inner", "inside a return"]


@dataclass(frozen=True, slots=True)
class Place:
    """What an expression is in its statement, and the names that the statement assigns (None where it has none)."""

    role: ExpressionRole
    names: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """Where an operation stands, and what its results are called; `inner` names what is a part of a larger one."""

    source: SourceLine
    names: tuple[str | None, ...]
    inner: bool
    key: tuple[int, int]  # of the expression: equal for what one expression does


class Code:
    """What is known of a function's code, by the place of an instruction in it."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.shown = _is_shown(code)
        self.is_forward = code.co_name == "forward"
        self.is_border = code.co_name == "run" and bool(BORDER.search(code.co_filename.replace("\\", "/")))
        self._spans: list[Span] = list(code.co_positions())
        self._found: dict[int, tuple[Place, SourceLine]] = {}

    def at(self, instruction: int) -> tuple[Place, SourceLine]:
        """The expression that an instruction belongs to, and its line."""
        place_and_line = self._found.get(instruction)
        if place_and_line is None:
            number = instruction // 2
            span = self._spans[number] if 0 <= number < len(self._spans) else (None,) * 4
            file, line = self.code.co_filename, span[0] or self.code.co_firstlineno
            text = linecache.getline(file, line).strip()
            source = SourceLine(file=file, line=line, text=text, function=self.code.co_qualname)
            place_and_line = self._found[instruction] = _places(file).get(span, Place("inner")), source
        return place_and_line


_codes: dict[int, Code] = {}  # by address, since a code's hash is that of all its instructions; `Code` keeps it alive


def _code(code: CodeType) -> Code:
    cached = _codes.get(id(code))
    if cached is None:
        cached = _codes[id(code)] = Code(code)
    return cached


def locate() -> Located:
    """The line that the caller of the recorder runs, and the names of what comes out of it."""
    frame, code = _visible(sys._getframe(1))
    if frame is None or code is None:
        return Located(SourceLine(), (), False, (0, 0))
    place, source = code.at(frame.f_lasti)
    key = id(frame), frame.f_lasti
    inner = False
    while True:  # follow returned values outwards, up to the border of the module's call
        inner = inner or place.role in ("inner", "inside a return")
        if place.role in ("assigned", "inner"):
            return Located(source, place.names, inner, key)
        if code.is_forward:
            return Located(source, (), False, key)  # the name is the caller's to give, when the module has returned
        frame, code = _visible(frame.f_back)
        if frame is None or code is None:
            return Located(source, (), False, key)
        place, _ = code.at(frame.f_lasti)


def _visible(frame: FrameType | None) -> tuple[FrameType | None, Code | None]:
    """The innermost frame that is not passed over, up to where the recording began."""
    while frame is not None:
        code = _code(frame.f_code)
        if code.shown:
            return frame, code
        if code.is_border:
            break
        frame = frame.f_back
    return None, None


def _is_shown(code: CodeType) -> bool:
    file = code.co_filename.replace("\\", "/")
    if file.startswith(TORCH):
        inside = file.removeprefix(TORCH)
        return bool(LAYERS.match(inside)) or (inside == "nn/functional.py" and bool(WRITTEN_OUT.match(code.co_name)))
    return not PASSED_OVER.search(file)


@functools.lru_cache(None)
def _places(file: str) -> dict[Span, Place]:
    """Every expression of a file by the stretch that it covers."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    places: dict[Span, Place] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[*_, target], value=value):
                _assign(target, value, places)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(target, value, places)
            case ast.NamedExpr(target=target, value=value):
                _assign(target, value, places)
            case ast.AugAssign(target=target):
                places[_of(node)] = Place("assigned", (_name(target),))
                _inside(node.value, (_name(target),), places)
            case ast.Return(value=ast.expr() as value):
                _whole(value, Place("returned"), places)
            case ast.Lambda(body=value):
                _whole(value, Place("returned"), places)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner)) as value):  # x.masked_fill_(…)
                places.setdefault(_of(value), Place("assigned", (_name(owner),)))
    return places


def _assign(target: ast.expr, value: ast.expr, places: dict[Span, Place]) -> None:
    if isinstance(target, ast.Tuple | ast.List):
        if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                _assign(one, its_value, places)
            return
        names = tuple(_name(one) for one in target.elts)
    else:
        names = (_name(target),)
    _whole(value, Place("assigned", names), places)


def _whole(value: ast.expr, place: Place, places: dict[Span, Place]) -> None:
    """The expression has the place's role; what is inside of it is inner."""
    if isinstance(value, ast.IfExp):
        _whole(value.body, place, places)
        _whole(value.orelse, place, places)
        return
    places[_of(value)] = place
    _inside(value, place.names, places, "inside a return" if place.role == "returned" else "inner")


def _inside(
    value: ast.expr, names: tuple[str | None, ...], places: dict[Span, Place], role: ExpressionRole = "inner"
) -> None:
    for node in ast.walk(value):
        if isinstance(node, ast.expr) and node is not value:
            places.setdefault(_of(node), Place(role, names))


def _of(node: ast.expr | ast.stmt) -> Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _name(target: ast.expr) -> str | None:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _name(value)
    return None
