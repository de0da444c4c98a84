"""Where blocks are put: the growing list of groups and blocks, and the boxes around them."""

from collections.abc import Callable, Iterable

from glassformer.viewer.items import Item
from glassformer.viewer.roles import group_label, label
from glassformer.viewer.scene import Block, Group, Token
from glassformer.viewer.windows import CellWindow

Rect = tuple[int, int, int, int]  # x, y, and one past the last of each


class Canvas:
    """Groups and blocks so far. Steps are stood behind their blocks at the end, each in the first free place."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.blocks: list[Block] = []
        self.of: dict[Item, list[Block]] = {}
        self.tokens: list[Token] = []  # what stands at the positions of a model that reads no text
        self.scale: Callable[[Item], float] = lambda item: 0.0
        self._taken: dict[int, list[Rect]] = {}  # by depth
        self._seen = 0

    def group(self, path: str, role: str, parent: Group | None, index: int | None = None) -> Group:
        """A new group below its parent; its box is that of what is put into it."""
        group = Group(
            id=len(self.groups),
            parent=None if parent is None else parent.id,
            path=path,
            role=role,
            index=index,
            label=group_label(role, index, path),
        )
        self.groups.append(group)
        return group

    def put(
        self,
        item: Item,
        window: CellWindow,
        group: Group,
        at: tuple[int, int, int],
        axes: tuple[str, str] = ("", ""),
        step_of: int | None = None,
    ) -> Block:
        """A block with its smallest corner at a place."""
        block = Block(
            id=len(self.blocks),
            group=group.id,
            name=f"{item.name}{window.index}",
            role="step" if item.step_of else item.role,
            kind=item.kind,
            label=label(item.role, item.name, bool(item.step_of)),
            tensor=item.tensor.id,
            storage=item.storage,
            dtype=str(item.tensor.dtype).removeprefix("torch."),
            offset=window.offset,
            strides=window.strides,
            size=window.size,
            start=window.start,
            axes=axes,
            pos=at,
            layer=item.layer,
            head=window.head,
            step_of=step_of,
            scale=self.scale(item),
        )
        self.blocks.append(block)
        self.of.setdefault(item, []).append(block)
        return block

    def put_behind(self, item: Item, window: CellWindow, target: Block) -> None:
        """A step in the first free place behind the block that it leads to."""
        x, y, z = target.pos
        rect = (x, y, x + window.size[0], y + window.size[1])
        while any(overlap(rect, other) for other in self._at(z)):
            z -= 2
        axes = target.axes if window.size == target.size else ("", "")
        self.put(item, window, self.groups[target.group], (x, y, z), axes, target.id)

    def _at(self, z: int) -> list[Rect]:
        """What stands at a depth."""
        while self._seen < len(self.blocks):
            (x, y, depth), (nx, ny) = self.blocks[self._seen].pos, self.blocks[self._seen].size
            self._taken.setdefault(depth, []).append((x, y, x + nx, y + ny))
            self._seen += 1
        return self._taken.get(z, [])

    def stream(self, items: Iterable[Item]) -> list[int]:
        """The blocks of the residual stream, from the embedding to the last."""
        return [block.id for item in items if item.role == "x" and not item.step_of for block in self.of[item]]

    def enclose(self) -> None:
        """Let every group be the box around its blocks and its groups."""
        boxes: dict[int, list[int]] = {}
        for block in self.blocks:
            (x, y, z), (nx, ny) = block.pos, block.size
            _grow(boxes, block.group, (x, y, z, x + nx, y + ny, z + 1))
        for group in reversed(self.groups):  # children come after their parents
            if group.id in boxes:
                x0, y0, z0, x1, y1, z1 = boxes[group.id]
                group.min, group.max = (x0, y0, z0), (x1, y1, z1)
                if group.parent is not None:
                    _grow(boxes, group.parent, boxes[group.id])


def _grow(boxes: dict[int, list[int]], group: int, box: Iterable[int]) -> None:
    old = boxes.get(group)
    new = list(box)
    boxes[group] = new if old is None else [*map(min, old[:3], new[:3]), *map(max, old[3:], new[3:])]


def overlap(a: Rect, b: Rect) -> bool:
    """Whether two rectangles share a cell."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
