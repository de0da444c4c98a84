"""How a decoder's tensors are seen: which axis runs along x and which along y, by head, and long ones in panels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from glassformer.viewer.items import Item
from glassformer.viewer.roles import role_of
from glassformer.viewer.scene import Block
from glassformer.viewer.windows import CellWindow, heads, panels

SHORTEST_PANEL = 256


class View:
    """The windows of a model's tensors, given the lengths of its axes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.panel = max(SHORTEST_PANEL, sizes.get("F", 0))
        self._known: dict[Item, list[CellWindow]] = {}

    def axes(self, item: Item) -> tuple[str, str]:
        """The letters along x and y; the exponentials of the last softmax run over the vocabulary."""
        if item.role == "exponentials":
            return ("T", "S") if item.layer is not None else ("T", "V")
        return role_of(item.role).axes

    def windows(self, item: Item) -> list[CellWindow]:
        """What is shown of a tensor, in the order of its heads or panels."""
        if item not in self._known:
            self._known[item] = self._windows(item)
        return self._known[item]

    def _windows(self, item: Item) -> list[CellWindow]:
        role = role_of(item.role)
        is_column = item.kind == "computed" and len(item.tensor.shape) == 1 and role.axes == ("", "C")
        cell_windows = [window.turned() for window in item.windows] if role.turned or is_column else item.windows
        by = role.heads
        if by == "query" and item.layer is not None:
            return heads(cell_windows, self.sizes["H"], 1)
        if by == "key":
            return heads(cell_windows, self.sizes["G"], 1)
        axes = self.axes(item)
        return panels(cell_windows[0], axes.index("V"), self.panel) if "V" in axes else list(cell_windows)

    def size(self, item: Item) -> tuple[int, int]:
        """How much of the plane it takes."""
        sizes = [window.size for window in self.windows(item)]
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def pairs(self, step: Item, targets: Sequence[Block]) -> Iterator[tuple[CellWindow, Block]]:
        """Each window of a step with the block that it is a step of: of its head, of its panel, or the first."""
        assert step.step_of is not None
        turned = role_of(step.step_of.role).turned
        cell_windows = [window.turned() for window in step.windows] if turned else list(step.windows)
        if len(targets) > 1 and targets[0].head is not None:
            cell_windows = heads(cell_windows, len(targets), 1)
        elif len(targets) > 1 and len(cell_windows) == 1 and "V" in self.axes(step.step_of):
            cell_windows = panels(cell_windows[0], self.axes(step.step_of).index("V"), self.panel)
        for n, window in enumerate(cell_windows):
            target = targets[n] if len(cell_windows) == len(targets) else targets[0]
            yield replace(window, head=target.head), target
