"""Where the blocks of an encoder alone stand: a decoder's spine along which everyone may look.

Its embeddings are added and normalised before the first layer. Below the last one stands the head that guesses masked
tokens, where the model has one; its logits are `guesses`, since they say nothing of a next token.
"""

from collections.abc import Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.spine import Plan, Spine, sizes_of
from glassformer.viewer.scene import Group

NEEDED = {"tokens", "token_embedding", "x", "q", "k", "v", "scores", "weights", "out", "heads", "up"}
HERE = {
    "entering": "x",
    "position_embedded": "place_embedded",  # one of three that are added
    "head_hidden": "head_bent",
    "logits": "guesses",
    "probs": "guess_probs",
}


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """An encoder's blocks, and the lengths of its axes; None where the items are none's."""
    by_role = {item.role: item for item in items if item.step_of is None}
    halves = {item.name.partition(".")[0] for item in items if item.role == "q"}
    if not set(by_role) >= NEEDED or halves != {"encoder"} or by_role["tokens"].tensor.shape[0] != 1:
        return None
    sizes = sizes_of(items)
    for item in items:
        item.role = HERE.get(item.role, item.role)
    Spine(items, sizes, canvas, ENCODER).lay_out()
    return sizes


def embedding(spine: Spine, group: Group) -> int:
    """The sum of the embeddings, and below it what the norm makes of that, which the first layer reads."""
    sums, pitch = spine.by_role["", "x"], spine.c + 2 * spine.pad
    y = -(len(sums) - 1) * pitch
    spine.put(spine.find("", "tokens"), 0, y - 2 - spine.gap, group)
    for n, stream in enumerate(sums):
        spine.put(stream, 0, y + n * pitch, group)
    right = spine.norm("embedding_norm", 0, spine.t, 0, group, 1)
    x = spine.t + spine.gap
    for kind, strip in (("token", ""), ("place", "positions"), ("type", "token_types")):
        vectors = spine.find("", f"{kind}_embedded")
        if vectors:
            spine.put(spine.find("", strip), x, y - 2, group)
            spine.put(vectors, x, y, group)
            x += spine.t + spine.gap
    for kind in ("type", "position", "token"):
        table = spine.find("", f"{kind}_embedding")
        if table:
            spine.put(table, x, y, group)
            x += spine.view.size(table)[0] + spine.gap
    return max(x, right)


def output(spine: Spine, x: int, y: int) -> None:
    """Below the last layer, what the head makes of every position: one more layer, a norm, and guesses."""
    if spine.find("", "guesses") is None:
        return
    group = spine.canvas.group("output", "output", spine.model)
    y += spine.c + 2 * spine.pad
    spine.put(spine.find("", "head_proj_bias"), x - 2, y, group)
    spine.put(spine.find("", "head_proj_weight"), x - 3 - spine.c, y, group)
    right = x
    for role in ("head_proj", "head_below", "head_bent"):
        item = spine.find("", role)
        if item:
            spine.put(item, right, y, group)
            right += spine.t + spine.gap
    right = spine.norm("head.norm", 0, right, y, group, 1) + spine.gap
    spine.put(spine.find("head.norm", "head_norm"), right, y, group)
    y += spine.c + 2 * spine.pad
    spine.put(spine.find("", "lm_head_bias"), x - 2, y, group)
    spine.put(spine.find("", "lm_head"), x - 3 - spine.c, y, group)
    for role, strip in (("guesses", ""), ("exponentials", "highest"), ("guess_probs", "total")):
        item = spine.find("", role)
        if item:
            spine.put(spine.find("", strip), x, y - 2, group)
            spine.put(item, x, y, group)
            x += spine.t + spine.gap


ENCODER = Plan(embedding=embedding, output=output, prefix="encoder.")
