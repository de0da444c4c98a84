"""The spine that Transformers have in common: the residual stream, with attention left of it and the MLP right.

Positions run to the right, and the columns of a token stand under each other through the whole model; the network runs
down. Every block of the stream has on one side what was added to it, on the other side what reads it:

    attention's norm, heads  │ x │  embeddings
    joined heads, output     │ x │  the MLP's norm, hidden features
    the next layer's norm …  │ x │  the MLP's output

Heads stand behind each other. Weights stand outside of what they produce, their outputs level with the product's. The
MLP's hidden features run to the right, so that they are level with both of its matrices, and the model is compact.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.flow import Box, Flow, rows
from glassformer.viewer.roles import role_of
from glassformer.viewer.scene import Group
from glassformer.viewer.views import View

LAYERS_IN_A_COLUMN = 12
SCOPE = re.compile(
    r"blocks\.\d+\.(?:(?:attn|cross|mlp)_(?:post_)?norm|attn|cross_attn|mlp)(?=\.)|blocks\.\d+"
    r"|(?:final|embedding)_norm|head\.norm|position_bias|"
)
ATTENTIONS = {"attn": ("attn_norm", "attention", "head"), "cross_attn": ("cross_norm", "cross_attention", "cross_head")}
BEFORE, AFTER = (
    (("centred", "mean"), ("normalised", "variance"), ("norm", ""), ("final_norm", "")),
    (("norm_out", ""), ("normalised", "variance"), ("centred", "mean"), ("summed", "")),
)  # what a norm shows beside the stream, outwards: before a sublayer that reads it, or after one
MASKS = ("allowed", "allowed_all", "sees_any")
HEADS = (*MASKS, "scores", "highest", "exponentials", "total", "weights", "out")  # from above


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What differs between the models that have a spine: what leads to it, what leads away from it, and the names.

    `embedding` stands at the stream's first level and returns its right edge, `output` below the last stream at (x, y).
    `prefix` begins the paths of the model's parts. With `bookkeeping`, what has no place gets a group of its own.
    """

    embedding: Callable[["Spine", Group], int]
    output: Callable[["Spine", int, int], None]
    prefix: str = ""
    embedding_role: str = "embedding"
    layer_role: str = "layer"
    bookkeeping: bool = False


class Spine:
    """One model being laid out, or one half of it. Its items are found by the part of the model and the role."""

    def __init__(
        self,
        items: Sequence[Item],
        sizes: Mapping[str, int],
        canvas: Canvas,
        plan: "Plan",
        *,
        view: View | None = None,
        model: Group | None = None,
    ) -> None:
        """`model` is the group of all that is laid out here."""
        self.items, self.sizes, self.canvas, self.plan = items, sizes, canvas, plan
        self.view = view or View(sizes)
        self.flow = Flow(items, canvas)
        self.by_role: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            if item.step_of is None:
                scope = SCOPE.match(item.name.removeprefix(plan.prefix))
                self.by_role.setdefault((scope[0] if scope else "", item.role), []).append(item)
        self.t, self.c = sizes["T"], sizes["C"]
        self.gap = max(2, min(self.t // 6, self.c // 24))  # between blocks of a kind
        self.pad = max(4, self.c // 16)  # between parts
        self.pitch = max(2 * self.gap, sizes["D"], 2 * (2 + self._most_steps()))  # from head to head
        self.is_post_norm = any(role == "summed" for _, role in self.by_role)
        self.placed: set[Item] = set()
        self.model = model or canvas.group("", "model", None)

    def group(self, path: str, role: str, parent: Group, index: int | None = None) -> Group:
        """A group of the part of the model that has this path."""
        return self.canvas.group(f"{self.plan.prefix}{path}", role, parent, index)

    def _most_steps(self) -> int:
        return max(map(len, self.flow.steps.values()), default=0)

    def lay_out(self) -> None:
        """Everything."""
        self.main()
        self.behind()
        self.canvas.enclose()

    def main(self) -> None:
        """All but the steps."""
        embedding = self.group("embedding", self.plan.embedding_role, self.model)
        right = self.rotations(self.plan.embedding(self, embedding) + self.pad, embedding)
        right = self.distances(right, embedding)
        first = len(self.canvas.blocks)
        x, y, top, bottom = 0, 0, 0, 0
        for layer in range(len({scope for scope, _ in self.by_role if re.fullmatch(r"blocks\.\d+", scope)})):
            if layer and layer % LAYERS_IN_A_COLUMN == 0:
                own = self.canvas.blocks[first:]
                left = min(block.pos[0] for block in own)
                x = max(block.pos[0] + block.size[0] for block in own) + 4 * self.pad - min(left, 0)
                y = top
            y = self.layer(layer, x, y)
            bottom = max(bottom, y)
        self.plan.output(self, x, y)
        unplaced = [item for item in self.items if item.step_of is None and item not in self.placed]
        if unplaced:
            group = self.group("bookkeeping", "bookkeeping", self.model) if self.plan.bookkeeping else embedding
            self.box(unplaced, group).put(right + self.pad, 0)

    # ---- items

    def find(self, scope: str, role: str) -> Item | None:
        """The item of a role in a part of the model."""
        return next(iter(self.by_role.get((scope, role), [])), None)

    def put(self, item: Item | None, x: int, y: int, group: Group | Sequence[Group], z: int = 0) -> None:
        """Put all windows of an item with their corner there; heads and panels stand behind each other."""
        if item is None:
            return
        self.placed.add(item)
        axes = self.view.axes(item)
        for n, window in enumerate(self.view.windows(item)):
            slab = None if window.head is None else self.slab(item, window.head)
            depth = -n * self.pitch if slab is None else self.z_of(slab)
            own = group if isinstance(group, Group) else group[slab or 0]
            slab_window = window if window.head == slab else replace(window, head=slab)
            self.canvas.put(item, slab_window, own, (x, y, z + depth), axes)

    def slab(self, item: Item, head: int) -> int:
        """In which query head's slab a head stands: keys that several heads share with the first of them."""
        return head * (self.sizes["H"] // self.sizes["G"]) if role_of(item.role).heads == "key" else head

    def z_of(self, slab: int) -> int:
        """Heads fan out around the plane of the stream, the first one in front."""
        return (self.sizes["H"] - 1) * self.pitch // 2 - slab * self.pitch

    def box(self, unplaced: Sequence[Item], group: Group) -> Box:
        """What has no place of its own here."""
        self.placed.update(unplaced)
        return rows([self.flow.item(item, group) for item in sorted(unplaced, key=self.flow.order)])

    # ---- parts

    def rotations(self, x: int, parent: Group) -> int:
        """By how much each pair of features turns at each position; returns the right edge."""
        cos, sin = (
            sorted((i for (_, own), its in self.by_role.items() if own == role for i in its), key=self.flow.order)
            for role in ("cos", "sin")
        )
        if not cos:
            return x
        group = self.canvas.group("rotation", "rotary", parent)
        angles = [self.by_role.get(("", role), []) for role in ("pair", "frequency", "angles")]
        right, y = x, 0
        for rotation in zip_longest(*angles, cos, sin):  # of each kind of layers one, below each other
            at = x
            for item in filter(None, rotation):
                self.put(item, at, y, group)
                at += self.view.size(item)[0] + self.gap
            right = max(right, at)
            y += max(self.view.size(item)[1] for item in rotation if item) + self.gap
        return right

    def distances(self, x: int, parent: Group) -> int:
        """What the distance from query to key adds to the scores of each head; returns the right edge."""
        own = [item for (scope, _), its in self.by_role.items() if scope == "position_bias" for item in its]
        if not own:
            return x
        box = self.box(own, self.group("position_bias", "position_bias", parent))
        box.put(x, 0)
        return x + box.width + self.gap

    def layer(self, layer: int, x: int, y: int) -> int:
        """From the level of the stream that it reads; returns that of the stream that it leaves."""
        path = f"blocks.{layer}"
        post = self.is_post_norm or self.find(f"{path}.attn_norm", "norm_out") is not None
        group = self.group(path, self.plan.layer_role, self.model, layer)
        streams = list(self.by_role.get((path, "x"), []))
        left = x
        for number, (part, (norm, role, head)) in enumerate(ATTENTIONS.items()):
            if self.find(f"{path}.{part}", "q") is None:
                continue
            attention = self.group(f"{path}.{part}", role, group)
            left = left if post else self.norm(f"{path}.{norm}", number, left, y, group, -1)
            left, bottom = self.heads(f"{path}.{part}", left - self.pad, y, attention, head)
            y = max(y + self.c, bottom) + self.pad
            self.put(streams.pop(0) if len(streams) > 1 else None, x, y, group)
            left = self.norm(f"{path}.{norm if post else f'{part}_post_norm'}", number, x, y, group, -1)
            left = self.scaled(path, part, left, y, attention, -1)
            left = self.projection(f"{path}.{part}", left, y, attention)
        right = x + self.t if post else self.norm(f"{path}.mlp_norm", 2, x + self.t, y, group, 1)
        after = f"{path}.mlp_norm" if post else f"{path}.mlp_post_norm"
        room = self.norm_width(after) + self.scale_width(path)
        below = self.mlp(f"{path}.mlp", x, right + self.pad, y, group, room)
        self.norm(after, 2, x + self.t, below, group, 1)
        self.scaled(path, "mlp", x + self.t, below, group, 1)
        self.put(streams[0] if streams else None, x, below, group)
        scopes = {path, *(scope for scope, _ in self.by_role if scope.startswith(f"{path}."))}
        unplaced = [
            i for (scope, _), its in self.by_role.items() if scope in scopes for i in its if i not in self.placed
        ]
        if unplaced:
            box = self.box(unplaced, group)
            own = [block for block in self.canvas.blocks if block.layer == layer]
            box.put(min(block.pos[0] for block in own) - self.pad - box.width, y)
        return below

    def norm_width(self, path: str) -> int:
        """How much room a norm after a sublayer takes beside the stream; none where it is not."""
        parts = sum(self.find(path, role) is not None for role, _ in AFTER)
        return parts * (self.gap + self.t) + 5 if parts else 0

    def scale_width(self, path: str) -> int:
        """How much room the scaled output of the feed-forward network takes beside the stream."""
        return 0 if self.find(path, "mlp_scaled") is None else self.gap + self.t + 2

    def scaled(self, path: str, part: str, x: int, y: int, group: Group, side: int) -> int:
        """What a sublayer adds, feature by feature by a scale of its own; returns where it ends."""
        item = self.find(path, f"{part}_scaled")
        if item is None:
            return x
        self.put(item, x + self.gap if side > 0 else x - self.gap - self.t, y, group)
        x += side * (self.gap + self.t + 2)
        self.put(self.find(path, f"{part}_scale"), x - (1 if side > 0 else 0), y, group)
        return x

    def norm(self, path: str, index: int, x: int, y: int, parent: Group, side: int) -> int:
        """Beside the stream, outwards; returns where it ends."""
        if not any(scope == path for scope, _ in self.by_role):
            return x
        is_of_output = self.find(path, "norm_out") is not None
        is_after = is_of_output or (self.is_post_norm and path != "final_norm")
        role_of_group = "norm_of_output" if is_of_output else "norm_after" if is_after else "norm"
        group = self.group(path, role_of_group, parent, index)
        for role, statistic in AFTER if is_after else BEFORE:
            item = self.find(path, role)
            if item:
                x += side * self.gap - (self.t if side < 0 else 0)
                self.put(item, x, y, group)
                strip = self.find(path, statistic) or (self.find(path, "mean_square") if statistic else None)
                self.put(strip if strip and strip not in self.placed else None, x, y - 2, group)
                x += self.t if side > 0 else 0
        x += side
        for role in ("norm_weight", "norm_bias", "norm_offset"):
            item = self.find(path, role)
            if item:
                x += side
                self.put(item, x - (1 if side < 0 else 0), y, group)
                x += side
        return x

    def heads(self, path: str, x: int, y: int, attention: Group, role_of_head: str) -> tuple[int, int]:
        """The heads' slabs with their right edge at x; returns their left edge and their lower one."""
        slabs = [self.group(f"{path}.head.{h}", role_of_head, attention, h) for h in range(self.sizes["H"])]
        x -= self.t
        at = y
        for role in HEADS:
            item = self.find(path, role)
            if item:
                self.put(item, x, at, attention if role in MASKS else slabs)
                at += self.view.size(item)[1] + (1 if role_of(role).strip else self.gap)
        x -= self.gap
        row = max(self.view.size(item)[1] for item in (self.find(path, name) for name in "qkv") if item) + self.gap
        parts = ("_shared", "_kept", "_rotated", "_normed", "", "_bias", "_weight", "_up_weight")
        columns = [[f"{name}{part}" for name in "qkv"] for part in parts]
        for roles in columns:
            items = [self.find(path, role) for role in roles]
            width = max((self.view.size(item)[0] for item in items if item), default=0)
            if width:
                x -= width + (1 if width in (1, self.c) else self.gap)
                for number, item in enumerate(items):
                    self.put(item, x, y + number * row, slabs)
        bottom = max(at, y + 3 * row)
        latents = [item for item in (self.find(path, role) for role in ("q_latent", "kv_latent")) if item]
        if latents:
            x, at = x - self.gap - self.t, y
            for item in latents:  # what all heads read: one below the other
                self.put(item, x, at, attention)
                at += self.view.size(item)[1] + self.gap
        return x, max(at, bottom) - self.gap

    def projection(self, path: str, x: int, y: int, group: Group) -> int:
        """The heads joined, and what attention adds to the stream; returns their left edge."""
        for role, gap in (("attn_out", self.gap), ("o_bias", 1), ("o_weight", 1), ("heads", self.gap)):
            item = self.find(path, role)
            if item:
                x -= gap + self.view.size(item)[0]
                self.put(item, x, y, group)
        return x

    def mlp(self, path: str, spine: int, x: int, y: int, layer: Group, room: int) -> int:
        """Up, along the hidden features, and down again; gate and up behind each other. Returns the output's level.

        Between the stream and the output stays `room`.
        """
        group = self.group(path, "mlp", layer)
        x = max(x, spine + room + 2 * (self.t + self.gap) + 3)  # the output and its bias stand between
        if self.find(path, "up") is None:
            return self.mixture(path, x, y, group)
        behind = max(self.pitch, self.c // 2)
        for role, gap in (("_weight", 1), ("_bias", self.gap), ("", self.gap)):
            both = [item for item in (self.find(path, f"{part}{role}") for part in ("gate", "up")) if item]
            for n, item in enumerate(both):
                self.put(item, x, y, group, z=-n * behind)
            y += max((self.view.size(item)[1] + gap for item in both), default=0)
        for role in ("opened", "inner", "below", "bent", "activated"):
            hidden = self.find(path, role)
            if hidden:
                self.put(hidden, x, y, group)
                y += self.view.size(hidden)[1] + self.gap
        self.put(self.find(path, "down_weight"), x, y, group)
        self.put(self.find(path, "mlp_out"), spine + self.t + room + self.gap, y, group)
        self.put(self.find(path, "down_bias"), x - 2, y, group)
        return y

    def mixture(self, path: str, x: int, y: int, group: Group) -> int:
        """A router and several networks in the place of one, by their flow of data. Returns where they end."""
        own = [i for (scope, _), its in self.by_role.items() if scope == path for i in its if i not in self.placed]
        box = self.box(own, group)
        box.put(x, y)
        return y + box.height

    # ---- steps

    def behind(self) -> None:
        """Steps, each in the first free place behind what it leads to."""
        for item in self.items:
            if item.step_of:
                targets = self.canvas.of[item.step_of]
                for window, target in self.view.pairs(item, targets):
                    self.canvas.put_behind(item, window, target)


def sizes_of(items: Sequence[Item]) -> dict[str, int]:
    """The lengths of the axes, as the tensors have them."""
    by_role = {item.role: item.tensor.shape for item in reversed(items) if not item.step_of}
    n_heads, n_queries, n_keys = by_role["scores"][-3:]
    predicted = by_role.get("logits") or by_role.get("token_embedding", ())[:1]
    return {
        "T": n_queries,
        "S": n_keys,
        "C": by_role["x"][-1],
        "H": n_heads,
        "G": by_role["k"][-3],
        "D": by_role["q"][-1],
        **({"R": by_role["angles"][-1]} if "angles" in by_role else {}),
        **({"F": by_role["up"][-1]} if "up" in by_role else {}),
        **({"V": predicted[-1]} if predicted else {}),
        "L": len({item.layer for item in items if item.layer is not None}),
    }
