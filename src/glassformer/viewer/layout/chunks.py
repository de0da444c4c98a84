"""Tensors cut into the chunks that stand in different places: columns of a text, gates, matrices made of columns.

Where a loop over time has written a variable once a step, its tensors are the columns of one picture. A block's `start`
says which position its column is, so that a selector finds it just as in a tensor of the whole text.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.flow import Flow, rows
from glassformer.viewer.scene import Group
from glassformer.viewer.windows import CellWindow, panels

Point = tuple[int, int, int]
Cut = tuple[int, int, int, int]  # from x, to x, from y, to y
LONGEST = 256  # cells of a vocabulary that stand in one panel


class Chunks:
    """Items by what they belong to and their role, and what has been placed of them so far."""

    def __init__(self, items: Sequence[Item], scope_of: Callable[[Item], str], canvas: Canvas) -> None:
        self.items, self.canvas = items, canvas
        self.flow = Flow(items, canvas)
        self.placed: set[Item] = set()
        self._cuts: dict[Item, list[Cut]] = {}
        self._found: dict[tuple[str, str], list[Item]] = {}
        for item in sorted(items, key=lambda item: item.order):
            if item.step_of is None:
                self._found.setdefault((scope_of(item), item.role), []).append(item)

    def all(self, scope: str, role: str) -> list[Item]:
        """The items of a role there, in the order in which they were computed."""
        return self._found.get((scope, role), [])

    def scopes(self, prefix: str) -> list[str]:
        """The parts of the model whose paths begin so."""
        return list(dict.fromkeys(scope for scope, _ in self._found if scope.startswith(prefix)))

    def put(
        self, item: Item, cut: Cut, at: Point, group: Group, axes: tuple[str, str], start: int | None = None
    ) -> None:
        """A piece of an item's only window; `start` is the position of its first column, if it is not its own place."""
        window = carve(item.windows[0], cut)
        first = cut[0] if start is None else start
        self.placed.add(item)
        self._cuts.setdefault(item, []).append(cut)
        self.canvas.put(item, replace(window, start=(first, 0)), group, at, axes)

    def columns(
        self,
        items: Sequence[Item],
        n: int,
        place: Callable[[int], Point],
        group: Callable[[int], Group],
        axes: tuple[str, str],
        *,
        features: tuple[int, int] | None = None,
        backwards: bool = False,
    ) -> None:
        """Position by position, from one tensor of all positions or from one a position; of them some features only."""
        if len(items) not in (1, n) or any(len(item.windows) != 1 for item in items):
            return
        for t in range(n):
            whole = len(items) == 1
            item = items[0] if whole else items[n - 1 - t if backwards else t]
            nx, ny = item.windows[0].size
            if nx != (n if whole else 1):
                return
            low, high = features or (0, ny)
            column = (t, t + 1) if whole else (0, 1)
            self.put(item, (*column, low, high), place(t), group(t), axes, start=t)

    def matrix(
        self, items: Sequence[Item], x: int, y: int, group: Group, axes: tuple[str, str], z: int = 0
    ) -> tuple[int, int]:
        """One picture of all positions: columns side by side, what is more than a column behind each other.

        Returns its width and its height, 0 where there is nothing.
        """
        width = height = 0
        for number, item in enumerate(items):
            self.placed.add(item)
            n_steps = len(self.flow.steps.get(item, []))
            for slice_, window in enumerate(item.windows):
                at = number if len(items) > 1 else slice_
                alone = len(items) == 1 and len(item.windows) == 1
                column = window.size[0] == 1 and not alone
                depth = 0 if column else 2 * (1 + n_steps) * at
                shifted = replace(window, start=(at, 0)) if column else window
                self.canvas.put(item, shifted, group, (x + at * column, y, z - depth), axes)
                width, height = max(width, at * column + window.size[0]), max(height, window.size[1])
        return width, height

    def panels(self, item: Item, x: int, y: int, group: Group, axes: tuple[str, str]) -> tuple[int, int]:
        """A matrix whose vocabulary, along the axis V, is cut into panels behind each other; its width and height."""
        self.placed.add(item)
        window = item.windows[0].turned() if axes[0] == "V" else item.windows[0]
        n_steps = len(self.flow.steps.get(item, []))
        for number, panel in enumerate(panels(window, axes.index("V"), LONGEST)):
            self.canvas.put(item, panel, group, (x, y, -2 * (1 + n_steps) * number), axes)
        return min(window.size[0], LONGEST if axes[0] == "V" else window.size[0]), min(window.size[1], LONGEST)

    def rest(self, x: int, y: int, parent: Group) -> None:
        """What has no place of its own: positions, masks and the like."""
        left = [item for item in self.items if item.step_of is None and item not in self.placed]
        if left:
            group = self.canvas.group("bookkeeping", "bookkeeping", parent)
            rows([self.flow.item(item, group) for item in sorted(left, key=self.flow.order)]).put(x, y)

    def behind(self) -> None:
        """Steps behind what they lead to, cut like it where they are of its shape."""
        for item in self.items:
            if item.step_of is None or item in self.canvas.of:
                continue
            targets, cuts = self.canvas.of[item.step_of], self._cuts.get(item.step_of, [])
            same = [window.size for window in item.windows] == [window.size for window in item.step_of.windows]
            if cuts and same:
                for target, cut in zip(targets, cuts, strict=True):
                    window = replace(carve(item.windows[0], cut), start=target.start)
                    self.canvas.put_behind(item, window, target)
            else:
                for number, window in enumerate(item.windows):
                    self.canvas.put_behind(item, window, targets[number if len(targets) == len(item.windows) else 0])


def carve(window: CellWindow, cut: Cut) -> CellWindow:
    """The cells of a window within a cut, named by where they were."""
    x0, x1, y0, y1 = cut
    if (x0, x1, y0, y1) == (0, window.size[0], 0, window.size[1]):
        return window
    carved = window.cut(0, x0, x1).cut(1, y0, y1)
    return replace(carved, index=f"[{x0 if x1 == x0 + 1 else f'{x0}:{x1}'},{y0}:{y1}]")
