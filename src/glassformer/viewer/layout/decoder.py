"""Where the blocks of a decoder stand: along a spine, with embeddings at its first level and logits at its end."""

from collections.abc import Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.spine import Plan, Spine, sizes_of
from glassformer.viewer.scene import Group

EMBEDDED = (
    *("token_embedded", "source_embedded", "vectors", "position_embedded", "position_encoding", "encoding"),
    *("position_embedding", "token_embedding", "source_embedding"),
)


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """A decoder's blocks, and the lengths of its axes; None where the items are none's."""
    if not is_decoder(items):
        return None
    sizes = sizes_of(items)
    Spine(items, sizes, canvas, DECODER).lay_out()
    return sizes


def is_decoder(items: Sequence[Item]) -> bool:
    """Whether the layout here fits: layers of heads around a stream, and one text."""
    by_role = {item.role: item.tensor for item in items if item.step_of is None}
    needed = {"tokens", "x", "q", "k", "v", "scores", "weights", "heads", "logits"}  # of one token, `out` is `heads`
    has_stream = any(item.role == "x" and item.layer is not None for item in items)
    return has_stream and needed <= by_role.keys() and by_role["logits"].shape[0] == 1 and len(by_role["q"].shape) == 4


def embedding(spine: Spine, group: Group) -> int:
    """At the stream's first level, or above it where the stream begins behind a norm; returns its right edge."""
    embedded = spine.find("", "embedded")
    y = -(spine.c + 2 * spine.pad) if embedded else 0
    spine.put(spine.find("", "tokens") or spine.find("", "source_tokens"), 0, y - 2 - spine.gap, group)
    spine.put(embedded, 0, y, group)
    spine.put(spine.find("", "x"), 0, 0, group)
    x = spine.t + spine.gap
    for role in EMBEDDED:
        item = spine.find("", role)
        if item:
            if role in ("position_embedded", "encoding"):
                spine.put(spine.find("", "positions"), x, y - 2, group)
            spine.put(item, x, y, group)
            x += spine.view.size(item)[0] + spine.gap
    return max(x, spine.norm("embedding_norm", 0, spine.t, 0, group, 1))


def output(spine: Spine, x: int, y: int) -> None:
    """The last norm beside the last stream, and below them what it says of the next token."""
    if spine.find("", "logits") is None and spine.find("final_norm", "final_norm") is None:
        return
    group = spine.group("output", "output", spine.model)
    left = spine.norm("final_norm", 0, x, y, group, -1)
    spine.put(spine.find("", "scaled"), left - spine.gap - spine.t, y, group)
    y += spine.c + spine.pad
    head, bias = spine.find("", "lm_head"), spine.find("", "lm_head_bias")
    spine.put(bias, x - spine.gap - 1, y, group)
    spine.put(head, x - spine.gap - spine.c - (2 if bias else 0), y, group)
    under_each_other = 3 * spine.sizes["V"] <= spine.c
    raw = (("uncapped", ""), ("unscaled", ""))  # what a model makes logits of
    for role, strip in (*raw, ("logits", ""), ("exponentials", "highest"), ("probs", "total")):
        item = spine.find("", role)
        if item:
            spine.put(spine.find("", strip), x, y - (0 if under_each_other else 2), group)
            y += 2 if strip and under_each_other else 0
            spine.put(item, x, y, group)
            if under_each_other:
                y += spine.view.size(item)[1] + spine.gap
            else:
                x += spine.t + spine.gap


DECODER = Plan(embedding=embedding, output=output)
