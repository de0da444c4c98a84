"""Where Luong's attention stands: below the decoder, and right of the memory that it looks at.

Columns are tokens of the target, rows are tokens of the source, so that the weights are the picture of which word was
read for which. Scores, window and weights stand side by side; below them what is made of the memory by these weights.
"""

from collections.abc import Mapping, Sequence

from glassformer.viewer.layout.chunks import Chunks
from glassformer.viewer.roles import role_of
from glassformer.viewer.scene import Group

QUESTION = (
    *("score_from_h", "turned", "score_from_memory", "score_hidden"),
    *("centre_from_h", "centre_hidden", "centre_from_v", "centre_length", "centre"),
)
ALIGNMENT = tuple(
    f"alignment_{name}"
    for name in ("scores", "allowed", "distance", "near", "masked", "exponentials", "gaussian", "weights")
)
STRIPS = {"alignment_allowed": "sees_any", "alignment_masked": "highest", "alignment_exponentials": "total"}
ANSWER = ("context", "joined", "attended_sum", "attended", "attended_all")
WEIGHTS = ("score_v_weight", "score_h_weight", "score_memory_weight", "centre_v_weight", "centre_h_weight")


def lay_out(chunks: Chunks, model: Group, sizes: Mapping[str, int], corner: tuple[int, int], gap: int) -> int:
    """From a corner to the right and down; returns the lower edge."""
    group = chunks.canvas.group("attention", "alignment", model)
    (x, y), c = corner, sizes["C"]
    at = x - gap
    for role in WEIGHTS:
        for item in chunks.all("attention", role):
            at -= item.windows[0].size[0] + gap
            chunks.matrix([item], at, y, group, ("", ""))
    y = _row(chunks, QUESTION, x, y, group, gap) + gap + 3
    y = _row(chunks, ALIGNMENT, x, y, group, gap) + gap
    for item in chunks.all("attention", "attended_weight"):
        chunks.matrix([item], x - 2 * gap - 2 * c, y, group, role_of("attended_weight").axes)
    return _row(chunks, ANSWER, x, y, group, gap)


def _row(chunks: Chunks, row: Sequence[str], x: int, y: int, group: Group, gap: int) -> int:
    """Matrices side by side, with strips above; returns the lower edge."""
    bottom = y
    for role in row:
        items = chunks.all("attention", role)
        if role in STRIPS:
            strip = f"alignment_{STRIPS[role]}"
            chunks.matrix(chunks.all("attention", strip), x, y - 2, group, role_of(strip).axes)
        width, height = chunks.matrix(items, x, y, group, role_of(role).axes)
        x, bottom = x + width + (gap + 2 if width else 0), max(bottom, y + height)
    return bottom
