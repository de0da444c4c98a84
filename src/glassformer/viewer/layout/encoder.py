"""Where the blocks of an encoder alone stand: a decoder's spine along which everyone may look.

Its embeddings are added and normalised before the first layer. Below the last one stands the head, where the model has
one: that which guesses masked tokens, whose logits are `guesses`, since they say nothing of a next token, or that which
tells classes of texts apart by the first token's column.
"""

from collections.abc import Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.spine import Plan, Spine, sizes_of
from glassformer.viewer.scene import Group

NEEDED = {"tokens", "token_embedding", "x", "q", "k", "v", "scores", "weights", "heads", "up"}
HERE = {
    "entering": "x",
    "position_embedded": "place_embedded",  # one of three that are added
    "head_hidden": "head_bent",
    "logits": "guesses",
    "probs": "guess_probs",
}
OF_CLASSES = {"logits": "class_logits", "exponentials": "class_exponentials", "probs": "class_probs"}


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """An encoder's blocks, and the lengths of its axes; None where the items are none's."""
    by_role = {item.role: item for item in items if item.step_of is None}
    halves = {item.name.partition(".")[0] for item in items if item.role == "q"}
    if not set(by_role) >= NEEDED or halves != {"encoder"} or by_role["tokens"].tensor.shape[0] != 1:
        return None
    sizes, renamed = sizes_of(items), HERE
    if "logits" in by_role and len(by_role["logits"].tensor.shape) == 2:
        sizes["V"] = by_role["token_embedding"].tensor.shape[0]
        renamed = HERE | OF_CLASSES
    for item in items:
        if item.layer is None:
            item.role = renamed.get(item.role, item.role)
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
    rows: tuple[str, ...] = ("positions",)
    if spine.find("", "position_rows"):  # those of the mask, which are others, stand over what the first layer reads
        rows = ("position_rows", "rank", "counted")
        spine.put(spine.find("", "positions"), 0, -2, group)
    for kind, strips in (("token", ()), ("place", rows), ("type", ("token_types",))):
        vectors = spine.find("", f"{kind}_embedded")
        if vectors:
            for n, strip in enumerate(strips, 1):
                spine.put(spine.find("", strip), x, y - 2 * n, group)
            spine.put(vectors, x, y, group)
            x += spine.t + spine.gap
    for kind in ("type", "position", "token"):
        table = spine.find("", f"{kind}_embedding")
        if table:
            spine.put(table, x, y, group)
            x += spine.view.size(table)[0] + spine.gap
    return max(x, right)


def output(spine: Spine, x: int, y: int) -> None:
    """Below the last layer, what the head makes of every position, or of the first one for classes."""
    if spine.find("", "guesses") is None and spine.find("", "class_logits") is None:
        return
    group = spine.canvas.group("output", "output", spine.model)
    y += spine.c + 2 * spine.pad
    spine.put(spine.find("", "head_proj_bias"), x - 2, y, group)
    spine.put(spine.find("", "head_proj_weight"), x - 3 - spine.c, y, group)
    right = x
    for role in ("head_proj", "head_below", "head_bent"):
        right = beside(spine, role, "", right, y, group)
    right = spine.norm("head.norm", 0, right, y, group, 1) + spine.gap
    spine.put(spine.find("head.norm", "head_norm"), right, y, group)
    y += spine.c + 2 * spine.pad
    for bias, weight in (("lm_head_bias", "lm_head"), ("class_bias", "class_weight")):
        spine.put(spine.find("", bias), x - 2, y, group)
        spine.put(spine.find("", weight), x - 3 - spine.c, y, group)
    right = x
    for logits, exponentials, probs in (("guesses", "exponentials", "guess_probs"), tuple(OF_CLASSES.values())):
        for role, strip in ((logits, ""), (exponentials, "highest"), (probs, "total")):
            right = beside(spine, role, strip, right, y, group)


def beside(spine: Spine, role: str, strip: str, x: int, y: int, group: Group) -> int:
    """An item with what stands above it as a line, if it is there; returns where the next one stands."""
    item = spine.find("", role)
    if item is None:
        return x
    spine.put(spine.find("", strip), x, y - 2, group)
    spine.put(item, x, y, group)
    return x + spine.view.size(item)[0] + spine.gap


ENCODER = Plan(embedding=embedding, output=output, prefix="encoder.")
