"""Where the blocks of recurrent networks stand: time runs to the right, and each step of it is a cell of its own.

    U  W │ U x  W h  gates  cell  h │ U x  W h  gates  cell  h │ …

Weights stand once, left of the first step. Gates stand behind each other, in the planes of their weights. Layers stand
under each other, and so do the two directions of a layer. An encoder stands left of its decoder, what looks back at the
encoder's states below the decoder (`luong.py`), and at the bottom the logits.
"""

import re
from collections.abc import Callable, Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout import luong
from glassformer.viewer.layout.chunks import LONGEST, Chunks, Point
from glassformer.viewer.roles import RECURRENT
from glassformer.viewer.scene import Group

SCOPE = re.compile(rf"(?:{RECURRENT}|(?:recurrent|encoder|decoder|attention)\.)")
GATES = ("reset", "update", "input_gate", "forget_gate", "candidate", "output_gate")
RENAMED = {"attended": "attended_before", "out": "attended_all"}  # what has no other name than these
SPACE = 5  # between one step of time and the next


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """Recurrent networks' blocks and the lengths of their axes; None where the items are none's."""
    by_role = {item.role: item for item in items if item.step_of is None}
    if not {"from_x", "from_h", "h", "logits", "tokens"} <= set(by_role) or by_role["logits"].tensor.shape[0] != 1:
        return None
    begin = min((item.order for item in items if item.name.startswith("encoder.") and item.order >= 0), default=0)
    last = max(item.layer or 0 for item in items if item.role == "h")
    for item in items:
        item.role = RENAMED.get(item.name.partition("#")[0], item.role)
        if item.role == "x":
            item.role = "source_embedded" if item.order < begin else "token_embedded"
        elif item.role in ("tokens", "source_tokens"):
            item.windows = [window.turned() for window in item.windows]
        elif item.role == "states" and _scope(item) == f"encoder.layers.{last}":
            item.role = "memory"
    network = Network(items, canvas)
    network.lay_out()
    return network.sizes


def _scope(item: Item) -> str:
    match = SCOPE.match(item.name)
    return match[0].rstrip(".") if match else ""


class Network:
    """One model being laid out."""

    def __init__(self, items: Sequence[Item], canvas: Canvas) -> None:
        self.canvas, self.chunks = canvas, Chunks(items, _scope, canvas)
        shapes = {item.role: item.tensor.shape for item in items if item.step_of is None}
        n_layers = len({item.layer for item in items if item.role == "h"})
        n_tokens, d_model = shapes["token_embedded"][-2:]
        self.sizes = {"T": n_tokens, "C": d_model, "V": shapes["logits"][-1], "L": n_layers}
        if "source_embedded" in shapes:
            self.sizes["N"] = shapes["source_embedded"][-2]
        self.gap = max(2, d_model // 24)  # within a part
        self.pad = max(8, d_model // 8)  # between parts
        self.model = canvas.group("", "model", None)

    def lay_out(self) -> None:
        """Everything, an encoder left of its decoder."""
        x = left = bottom = 0
        for prefix in ("encoder", "decoder", "recurrent"):
            if self.chunks.scopes(f"{prefix}."):
                stack = Stack(self, prefix, x)
                bottom = max(bottom, stack.lay_out() + self.pad)
                x, left = stack.right + self.pad, stack.x
        if self.chunks.all("attention", "attended"):
            bottom = luong.lay_out(self.chunks, self.model, self.sizes, (left, bottom), self.gap) + self.pad
        bottom = self.output(left, bottom) + self.pad
        self.chunks.rest(left, bottom, self.model)
        self.chunks.behind()
        self.canvas.enclose()

    def output(self, x: int, y: int) -> int:
        """What is said of the next token; returns the lower edge."""
        group, find = self.canvas.group("output", "output", self.model), self.chunks.all
        for item in find("", "lm_head_bias"):
            self.chunks.panels(item, x - 2, y, group, ("", "V"))
        for item in find("", "lm_head"):
            self.chunks.panels(item, x - 2 - self.gap - self.sizes["C"], y, group, ("C", "V"))
        bottom = y
        for role, strip in (("logits", ""), ("exponentials", "highest"), ("probs", "total")):
            self.chunks.matrix(find("", strip), x, y - 2, group, ("T", ""))
            for item in find("", role):
                width, height = self.chunks.panels(item, x, y, group, ("T", "V"))
                x, bottom = x + width + self.gap, max(bottom, y + height)
        return bottom


class Stack:
    """The layers of one network along one text."""

    def __init__(self, network: Network, prefix: str, left: int) -> None:
        self.network, self.chunks, self.prefix = network, network.chunks, prefix
        self.of_source = prefix == "encoder"
        self.letter = "N" if self.of_source else "T"
        self.n, self.c = network.sizes[self.letter], network.sizes["C"]
        self.group = network.canvas.group(prefix, prefix, network.model)
        scopes = [scope for scope in self.chunks.scopes(f"{prefix}.layers.") if self.chunks.all(scope, "h")]
        computed = {role: self.chunks.all(scopes[0], role) for role in GATES}
        self.gates = sorted((role for role in GATES if computed[role]), key=lambda role: computed[role][0].order)
        parts = (["from_x"], ["from_h"], self.gates, ["cell"], ["h"])
        present = [part for part in parts if any(self.chunks.all(scopes[0], role) for role in part)]
        self.column = {role: 2 * number for number, part in enumerate(present) for role in part}
        self.column["states"] = self.column["h"] + 2
        self.pitch = self.column["states"] + SPACE
        self.depth = max(8, self.c // 4)  # from gate to gate
        widths = [sum(self.width(scope, role) for role in ("from_x_weight", "from_h_weight")) for scope in scopes]
        tables = [min(item.tensor.shape[0], LONGEST) for item in self.chunks.all("", self.table)]
        self.x = left + max([*widths, *tables]) + 2 * network.gap + 4 + network.pad
        self.right = self.x + self.n * self.pitch
        self.layers: dict[int, list[str]] = {}
        for scope in scopes:
            self.layers.setdefault(int(scope.split(".")[2]), []).append(scope)

    @property
    def table(self) -> str:
        """The role of the embedding that it reads from."""
        return "source_embedding" if self.of_source else "token_embedding"

    def width(self, scope: str, role: str) -> int:
        """The cells of the widest matrix of a role; 0 where there is none."""
        return max((item.windows[0].size[0] for item in self.chunks.all(scope, role)), default=0)

    def at(self, role: str, y: int, z: int = 0) -> Callable[[int], Point]:
        """Where a role's column stands in each step of time."""
        return lambda t: (self.x + t * self.pitch + self.column[role], y, z)

    def lay_out(self) -> int:
        """From the tokens down; returns the lower edge."""
        y = self.embedding()
        for index, scopes in self.layers.items():
            role = "encoder_layer" if self.of_source else "layer"
            group = self.network.canvas.group(f"{self.prefix}.layers.{index}", role, self.group, index)
            y = self.layer(f"{self.prefix}.layers.{index}", scopes, y, group)
        for role in ("memory", "states"):
            out = self.chunks.all(f"{self.prefix}.layers.{max(self.layers)}", role)
            y += self.chunks.matrix(out, self.x, y, self.group, (self.letter, "C"))[1]
        return y

    def embedding(self) -> int:
        """Tokens and their vectors above the steps that read them; returns the level of the first layer."""
        role = "source_embedding" if self.of_source else "embedding"
        group = self.network.canvas.group(f"{self.prefix}.embedding", role, self.group)
        chunks, pad = self.chunks, self.network.pad
        for item in chunks.all("", self.table):
            chunks.panels(item, self.x - pad - min(item.tensor.shape[0], LONGEST), 0, group, ("V", "C"))
        rows = [("source_tokens", "", -3), ("source_embedded", "C", 0)]
        if not self.of_source:
            rows = [("tokens", "", -3), ("token_embedded", "C", 0), ("fed", "", self.c + pad)]
        for role, letter, y in rows:
            chunks.columns(chunks.all("", role), self.n, self.at("from_x", y), lambda t: group, (self.letter, letter))
        is_fed = not self.of_source and chunks.all("", "fed")
        return self.c + pad + (2 * self.c + pad if is_fed else 0)

    def layer(self, path: str, scopes: Sequence[str], y: int, group: Group) -> int:
        """One layer, its directions under each other; returns the level of the next."""
        chunks, top = self.chunks, y
        for item in chunks.all(self.prefix, "initial") if path.endswith(".0") else []:
            chunks.matrix([item], self.x - 4, y, group, ("", "C"))
        for scope in scopes:
            way = scope.rpartition(".")[2]
            own = group if len(scopes) == 1 else self.network.canvas.group(scope, way, group)
            y = self.direction(scope, y, own) + self.network.gap
        if len(scopes) > 1:
            for number, item in enumerate(chunks.all(path, "reached")):
                chunks.matrix([item], self.right, top, group, ("", "C"), z=-number * self.depth)
        if path != f"{self.prefix}.layers.{max(self.layers)}":
            axes = (self.letter, "C")
            chunks.columns(chunks.all(path, "states"), self.n, self.at("states", top), lambda t: group, axes)
        return y + self.network.pad

    def direction(self, scope: str, y: int, group: Group) -> int:
        """The cells of one network, step by step; returns the lower edge."""
        chunks, canvas, n_gates = self.chunks, self.network.canvas, max(1, len(self.gates))
        size = chunks.all(scope, "h")[0].tensor.shape[-1]
        steps = [canvas.group(f"{scope}.step.{t}", "time_step", group, t) for t in range(self.n)]
        letter = "C" if size == self.c else ""
        backwards = scope.endswith("backwards")
        for gate in range(n_gates):
            rows, z = (gate * size, (gate + 1) * size), -gate * self.depth
            x = self.x - self.network.pad
            for role in ("from_h_bias", "from_h_weight", "from_x_bias", "from_x_weight"):
                x -= self.width(scope, role)
                for item in chunks.all(scope, role):
                    chunks.put(item, (0, item.windows[0].size[0], *rows), (x, y, z), group, ("", letter))
                x -= 1 if role.endswith("bias") else self.network.gap
            for role in ("from_x", "from_h"):
                items = chunks.all(scope, role)
                axes = (self.letter, letter)
                chunks.columns(
                    items, self.n, self.at(role, y, z), steps.__getitem__, axes, features=rows, backwards=backwards
                )
        for number, role in enumerate([*self.gates, "cell", "h"]):
            z = -number * self.depth if role in self.gates else 0
            chunks.columns(
                chunks.all(scope, role),
                self.n,
                self.at(role, y, z),
                steps.__getitem__,
                (self.letter, letter),
                backwards=backwards,
            )
        if scope.endswith("wards"):  # what one of two directions puts out
            place = self.at("h", y, -self.depth)
            chunks.columns(chunks.all(scope, "states"), self.n, place, steps.__getitem__, (self.letter, letter))
        return y + size
