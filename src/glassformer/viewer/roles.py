"""Roles: the stable words by which chapters and layouts know tensors and groups. `roles.toml` is the table."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glassformer.viewer.scene import Text

TABLE = Path(__file__).with_name("roles.toml")
LAYER = re.compile(r"(?:(?:(?:encoder|decoder)\.)?blocks|(?:recurrent|encoder|decoder)\.layers)\.(\d+)\.")
HALF = r"(?:encoder|decoder)\."
BLOCK = rf"(?:{HALF})?blocks\.\d+\."
RECURRENT = r"(?:recurrent|encoder|decoder)\.layers\.\d+\.(?:(?:for|back)wards\.)?"
OF_EACH_MODULE = ("weight", "bias", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A row of the table, whose head says what the columns mean."""

    paths: tuple[re.Pattern[str], ...] = ()
    label: Text | None = None
    axes: tuple[str, str] = ("", "")
    heads: Literal["", "query", "key"] = ""
    turned: bool = False
    strip: bool = False


UNKNOWN = Role()


@cache
def roles() -> dict[str, Role]:
    """The table, in the order of trial."""
    return {name: _role(**row) for name, row in _table()["roles"].items()}


@cache
def groups() -> dict[str, Text]:
    """What groups are called, with {} for their number."""
    return {name: Text(**row) for name, row in _table()["groups"].items()}


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text("utf-8"))


def _role(*, paths: Sequence[str] = (), en: str = "", zh: str = "", x: str = "", y: str = "", **fields: Any) -> Role:
    label = Text(en, zh) if en or zh else None
    return Role(paths=tuple(map(_pattern, paths)), label=label, axes=(x, y), **fields)


def _pattern(path: str) -> re.Pattern[str]:
    words = {"{layer}": BLOCK, "{recurrent}": RECURRENT, "{half}": HALF}
    return re.compile(re.sub(r"\{\w+\}", lambda word: words[word[0]], path))


def role_of(name: str) -> Role:
    """The row of a role; that of a foreign variable, which is its own role, says nothing."""
    return roles().get(name, UNKNOWN)


# ---- from a path to its roles


class Reading(NamedTuple):
    """What a path may stand for, and which of the table's patterns says so; 0 is before the first."""

    rank: int
    role: str
    given: bool  # to a layer by the one before it, where it is a first version


@lru_cache(maxsize=1 << 14)
def readings_of(path: str) -> tuple[Reading, ...]:
    """All patterns that fit, in the order of trial; remembered, since every step of a run has the same paths."""
    readings = []
    in_layer = re.fullmatch(rf"{BLOCK}x", path) is not None
    if in_layer or path == "x":  # the stream, above all where the model or a layer computes it itself
        readings.append(Reading(0, "x", False))
    patterns = ((name, pattern) for name, role in roles().items() for pattern in role.paths)
    for rank, (name, pattern) in enumerate(patterns, 1):
        if pattern.fullmatch(path):
            readings.append(Reading(rank, name, in_layer))
    return tuple(readings)


# ---- in words


@lru_cache(4096)
def label(role: str, name: str, is_step: bool) -> Text:
    """A block's: its role's words, or for a step and for what has no known role its own name."""
    words = None if is_step else role_of(role).label
    own = _own_name(name)
    return words or Text(own, own)


def _own_name(name: str) -> str:
    """The last part of a name, behind the module's where each module has such a part: `c_attn.weight`, `fc.output`."""
    parts = name.partition("#")[0].split(".")
    first = len(parts) - 1
    while first > 0 and (parts[first] in OF_EACH_MODULE or parts[first].isdecimal()):
        first -= 1
    return ".".join(parts[first:])


def group_label(role: str, index: int | None, path: str) -> Text:
    """A group's: its role's words, with its number counted from 0, or the last part of its module's path."""
    words = groups().get(role)
    own = path.rpartition(".")[2]
    return Text(words.en.format(index), words.zh.format(index)) if words else Text(own, own)
