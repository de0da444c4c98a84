"""Selectors name cells of a scene by what they are, never by where: `@layer[L].head[h].q{t=last,d=0..3}`.

All words but the last name groups by their role; groups in between may be left out. The last names blocks by their
role, or else a group, which stands for all its blocks but steps; a word that is the role of both means the group where
it has an index. An index is a number, `first`, `mid`, `last`, `*` (as if there were none) or a variable of the chapter.
Braces cut along axes, by the letters of docs/notation.md in lower case; `last` is the last of the text, the vocabulary,
…, also in a table that is longer, and `id` is the id of the token at the variable t. `!` in front means all other
blocks. Where heads share keys and values, a head without its own has those of the nearest head before it.

`web/src/chapters/selectors.ts` is the same in the page; both pass `tests/viewer/selectors.json`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glassformer.errors import GlassformerError
from glassformer.viewer.scene import Block, Group, Scene

Vars = Mapping[str, int | str]
SELECTOR = re.compile(r"(!?)@([a-z_]+(?:\[[^\]]+\])?(?:\.[a-z_]+(?:\[[^\]]+\])?)*)(?:\{([^{}]+)\})?")


class SelectorError(GlassformerError):
    """A selector that is none, or that uses a variable which its chapter lacks."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a block from (x0, y0) up to, not including, (x1, y1)."""

    block: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class SelectorSegment:
    """One segment: a role, and which of them."""

    role: str
    index: str | int


def select(scene: Scene, selector: str, variables: Vars | None = None) -> list[Cells]:
    """Whole blocks, or cells in them, in the order of the scene."""
    match = SELECTOR.fullmatch(selector.strip())
    if match is None:
        raise SelectorError(f"{selector} is not a selector such as @layer[0].q{{t=last}}.")
    negated, path, braces = match.groups()
    words = [_word(word) for word in path.split(".")]
    ranges = [part.split("=") for part in (braces or "").split(",") if part]
    if any(len(part) != 2 for part in ranges):
        raise SelectorError(f"{selector}: a range is an axis, = and an index, or two with .. between them.")
    names = {**(variables or {})}
    names["id"] = _id_at(scene, names)
    blocks = _blocks(scene, words, names)
    cells = [cut for block in blocks if (cut := _cut(scene, block, ranges, names)) is not None]
    if not negated:
        return cells
    excluded = {cut.block for cut in cells}
    return [Cells(block.id, 0, 0, *block.size) for block in scene.blocks if block.id not in excluded]


def resolve(index: str | int, count: int, variables: Vars) -> int | None:
    """What an index stands for among `count` things; None for all of them."""
    match index:
        case int():
            return index
        case "*":
            return None
        case "first":
            return 0
        case "mid":
            return count // 2
        case "last":
            return count - 1
    if index.isdecimal():
        return int(index)
    value = variables.get(index)
    if value is None or value == index:
        raise SelectorError(f"{index} is not a variable of this chapter.")
    return resolve(value, count, variables)


def _id_at(scene: Scene, variables: Vars) -> int:
    position = resolve(variables.get("t", "last"), len(scene.tokens), variables) or 0
    return scene.tokens[position].id if -1 < position < len(scene.tokens) else 0


def _word(text: str) -> SelectorSegment:
    role, _, index = text.rstrip("]").partition("[")
    return SelectorSegment(role, index or "*")


def _blocks(scene: Scene, words: Sequence[SelectorSegment], variables: Vars) -> list[Block]:
    last, groups = words[-1], words[:-1]
    of_role = [block for block in scene.blocks if block.role == last.role]
    if any(group.role == last.role for group in scene.groups) and (last.index != "*" or not of_role):
        within = _within(scene, words, variables)
        return [block for block in scene.blocks if block.step_of is None and block.group in within]
    before: list[SelectorSegment] | None = list(groups)
    while before is not None:
        within = _within(scene, before, variables)
        named = [block for block in of_role if block.group in within]
        if named:
            return named if last.index == "*" else _nth(named, last.index, variables)
        before = _head_before(scene, before, variables) if of_role else None
    return []


def _head_before(scene: Scene, words: Sequence[SelectorSegment], variables: Vars) -> list[SelectorSegment] | None:
    """The same words with the head before the one that they name."""
    count = scene.sizes.get("H", 0)
    for place, word in enumerate(words):
        head = resolve(word.index, count, variables) if word.role == "head" else None
        if head and head < count:
            return [*words[:place], SelectorSegment("head", head - 1), *words[place + 1 :]]
    return None


def _within(scene: Scene, words: Sequence[SelectorSegment], variables: Vars) -> set[int]:
    """The groups that lie in groups of all these words, the last word the innermost, or are such groups."""
    left: list[int] = []  # how many words are still to be found above each group
    siblings: dict[tuple[int | None, str], list[int]] = {}
    for group in scene.groups:
        siblings.setdefault((group.parent, group.role), []).append(group.id)
    for group in scene.groups:  # parents come before their children
        met = 0 if group.parent is None else left[group.parent]
        if met < len(words) and _matches(group, words[met], siblings, variables):
            met += 1
        left.append(met)
    return {group.id for group in scene.groups if left[group.id] == len(words)}


def _matches(
    group: Group, word: SelectorSegment, siblings: Mapping[tuple[int | None, str], list[int]], variables: Vars
) -> bool:
    if group.role != word.role:
        return False
    same = siblings[group.parent, group.role]
    index = resolve(word.index, len(same), variables)
    return index is None or index == (same.index(group.id) if group.index is None else group.index)


def _nth(blocks: Sequence[Block], index: str | int, variables: Vars) -> list[Block]:
    """Of blocks of one role, those that are the index-th in their group."""
    by_group: dict[int, list[Block]] = {}
    for block in blocks:
        by_group.setdefault(block.group, []).append(block)
    matches = []
    for block in blocks:
        siblings = by_group[block.group]
        if siblings.index(block) == resolve(index, len(siblings), variables):
            matches.append(block)
    return matches


def _cut(scene: Scene, block: Block, ranges: Sequence[Sequence[str]], variables: Vars) -> Cells | None:
    """The cells of a block within ranges; None where it lacks an axis or has no such cells."""
    low, high = [0, 0], list(block.size)
    for axis, between in ranges:
        letter = axis.strip().upper()
        if letter not in block.axes:
            return None
        side = block.axes.index(letter)
        size, start = block.size[side], block.start[side]
        length = scene.sizes.get(letter, size)
        begin, _, end = (part.strip() for part in between.partition(".."))
        first = resolve(begin, length, variables)
        last = resolve(end or begin, length, variables)
        low[side] = max((0 if first is None else first) - start, 0)
        high[side] = min((start + size - 1 if last is None else last) - start + 1, size)
        if low[side] >= high[side]:
            return None
    return Cells(block.id, low[0], low[1], high[0], high[1])
