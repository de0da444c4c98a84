"""Where blocks stand when nothing is known of a model: boxes in boxes, read like a text.

A module is a box. In it come its tensors and its inner modules in the order of the computation, from left to right and
then in the next row, weights before the first number that needs them. Slices of a tensor stand behind each other, each
with its steps at its back, so that nothing overlaps whatever was recorded.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.scene import Group
from glassformer.viewer.windows import CellWindow

WIDE = 1.2  # how much wider than high a box is to be
STRIPS = 8  # a strip beside its tensor counts as at least so wide when rows are filled


@dataclass(frozen=True, slots=True)
class Box:
    """Something with a size that can be put with its corner at (x, y)."""

    width: int
    height: int
    put: Callable[[int, int], None]


class Flow:
    """Items, with the steps behind each, on a canvas."""

    def __init__(self, items: Sequence[Item], canvas: Canvas) -> None:
        self.canvas = canvas
        self.steps: dict[Item, list[Item]] = {}
        self.first_use: dict[Item, int] = {}
        for item in items:
            if item.step_of:
                self.steps.setdefault(item.step_of, []).append(item)
            for source in item.sources:
                first = self.first_use.get(source, item.order)
                self.first_use[source] = min(first, item.order)

    def order(self, item: Item) -> float:
        """When something is met first: made, or for what was there before, used."""
        return float(item.order) if item.order >= 0 else float(self.first_use.get(item, math.inf))

    def module(self, path: str, items: Sequence[Item], group: Group) -> Box:
        """A module with all that is in it."""
        inner: dict[str, list[Item]] = {}
        own: list[Item] = []
        for item in items:
            child = _child(path, item.module)
            inner.setdefault(child, []).append(item) if child else own.append(item)
        boxes = [(self.order(item), self.item(item, group)) for item in own]
        for child, its_items in sorted(inner.items(), key=lambda entry: min(map(self.order, entry[1]))):
            word = child.rpartition(".")[2]
            child_group = self.canvas.group(child, "module", group, int(word) if word.isdecimal() else None)
            boxes.append((min(map(self.order, its_items)), self.module(child, its_items, child_group)))
        boxes.sort(key=lambda entry: entry[0])  # stable: weights keep their order
        return rows([box for _, box in boxes])

    def item(self, item: Item, group: Group) -> Box:
        """A tensor with its steps: all in one column of space, at different depths."""
        steps = self.steps.get(item, [])
        sizes = [window.size for part in (item, *steps) for window in part.windows]

        def put(x: int, y: int) -> None:
            for part, window, depth, behind in self._depths(item, steps):
                step_of = None if part is item else self.canvas.of[item][behind].id
                axes = tuple(part.tensor.axes[-2:]) if part is item and len(part.tensor.axes) > 1 else ("", "")
                self.canvas.put(part, window, group, (x, y, -depth), axes, step_of)  # type: ignore[arg-type]

        return Box(max(size[0] for size in sizes), max(size[1] for size in sizes), put)

    def _depths(self, item: Item, steps: Sequence[Item]) -> Iterator[tuple[Item, CellWindow, int, int]]:
        """Every window with its depth, and which of the item's slices it stands behind: slices first, then steps."""
        n = len(item.windows)
        paired = [step for step in steps if len(step.windows) == n]
        pitch = 2 * (1 + len(paired))
        for i, window in enumerate(item.windows):
            yield item, window, i * pitch, i
        for k, step in enumerate(paired, 1):
            for i, window in enumerate(step.windows):
                yield step, window, i * pitch + 2 * k, i
        depth = n * pitch
        for step in steps:
            if step not in paired:
                for window in step.windows:
                    yield step, window, depth, 0
                    depth += 2


def rows(boxes: Sequence[Box]) -> Box:
    """Boxes one after the other, in rows that make the whole a little wider than high."""
    if len(boxes) == 1:
        return boxes[0]
    gap = max(2, *(round(max(box.width, box.height) / 16) for box in boxes)) if boxes else 2
    gap = min(gap, 64)
    area = sum((max(box.width, STRIPS) + gap) * (box.height + gap) for box in boxes)
    limit = max([math.sqrt(area * WIDE), *(box.width for box in boxes)])
    x, y, height, width = 0, 0, 0, 0
    places = []
    for box in boxes:
        if x and x + box.width > limit:
            x, y, height = 0, y + height + gap, 0
        places.append((box, x, y))
        width, height = max(width, x + box.width), max(height, box.height)
        x += box.width + gap

    def put(left: int, top: int) -> None:
        for box, dx, dy in places:
            box.put(left + dx, top + dy)

    return Box(width, y + height, put)


def _child(path: str, module: str) -> str:
    """The module directly below `path` that a module is or lies in; "" for `path` itself."""
    if module == path or (path and not module.startswith(f"{path}.")):
        return ""
    relative = module[len(path) + 1 :] if path else module
    return f"{path}.{relative.partition('.')[0]}" if path else relative.partition(".")[0]


def lay_out(items: Sequence[Item], canvas: Canvas) -> None:
    """A whole model."""
    flow = Flow(items, canvas)
    main = [item for item in items if item.step_of is None]
    flow.module("", main, canvas.group("", "model", None)).put(0, 0)
    canvas.enclose()
