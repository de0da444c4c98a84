"""Where the blocks of an encoder alone stand: a decoder's spine along which everyone may look.

Its embeddings are added and normalised before the first layer. Below the last one stands the head that guesses masked
tokens, where the model has one; its logits are `guesses`, since they say nothing of a next token.
"""

from collections.abc import Sequence

from glassformer.viewer.board import Board
from glassformer.viewer.layout.decoder import Decoder, sizes_of
from glassformer.viewer.roles import Item
from glassformer.viewer.scene import Group

NEEDED = {"tokens", "token_embedding", "x", "q", "k", "v", "scores", "weights", "out", "heads", "up"}
HERE = {
    "entering": "x",
    "position_embedded": "place_embedded",  # one of three that are added
    "head_hidden": "head_bent",
    "logits": "guesses",
    "probs": "guess_probs",
}


def place(items: Sequence[Item], board: Board) -> dict[str, int] | None:
    """An encoder's blocks, and the lengths of its axes; None where the items are none's."""
    found = {item.role: item for item in items if item.step_of is None}
    halves = {item.name.partition(".")[0] for item in items if item.role == "q"}
    if not set(found) >= NEEDED or halves != {"encoder"} or found["tokens"].tensor.shape[0] != 1:
        return None
    sizes = sizes_of(items)
    for item in items:
        item.role = HERE.get(item.role, item.role)
    Encoder(items, sizes, board).lay_out()
    return sizes


class Encoder(Decoder):
    """The spine is a decoder's; what leads to it and away from it is not."""

    prefix = "encoder."

    def embedding(self, group: Group) -> int:
        """The sum of the embeddings, and below it what the norm makes of that, which the first layer reads."""
        sums, pitch = self.by_role["", "x"], self.c + 2 * self.pad
        y = -(len(sums) - 1) * pitch
        self.put(self.find("", "tokens"), 0, y - 2 - self.gap, group)
        for n, stream in enumerate(sums):
            self.put(stream, 0, y + n * pitch, group)
        right = self.norm("embedding_norm", 0, self.t, 0, group, 1)
        x = self.t + self.gap
        for kind, strip in (("token", ""), ("place", "positions"), ("type", "token_types")):
            vectors = self.find("", f"{kind}_embedded")
            if vectors:
                self.put(self.find("", strip), x, y - 2, group)
                self.put(vectors, x, y, group)
                x += self.t + self.gap
        for kind in ("type", "position", "token"):
            table = self.find("", f"{kind}_embedding")
            if table:
                self.put(table, x, y, group)
                x += self.view.size(table)[0] + self.gap
        return max(x, right)

    def output(self, x: int, y: int) -> None:
        """Below the last layer, what the head makes of every position: one more layer, a norm, and guesses."""
        if self.find("", "guesses") is None:
            return
        group = self.board.group("output", "output", self.model)
        y += self.c + 2 * self.pad
        self.put(self.find("", "head_proj_bias"), x - 2, y, group)
        self.put(self.find("", "head_proj_weight"), x - 3 - self.c, y, group)
        right = x
        for role in ("head_proj", "head_below", "head_bent"):
            item = self.find("", role)
            if item:
                self.put(item, right, y, group)
                right += self.t + self.gap
        right = self.norm("head.norm", 0, right, y, group, 1) + self.gap
        self.put(self.find("head.norm", "head_norm"), right, y, group)
        y += self.c + 2 * self.pad
        self.put(self.find("", "lm_head_bias"), x - 2, y, group)
        self.put(self.find("", "lm_head"), x - 3 - self.c, y, group)
        for role, strip in (("guesses", ""), ("exponentials", "highest"), ("guess_probs", "total")):
            item = self.find("", role)
            if item:
                self.put(self.find("", strip), x, y - 2, group)
                self.put(item, x, y, group)
                x += self.t + self.gap
