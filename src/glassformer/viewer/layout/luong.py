"""Where Luong's attention stands: below the decoder, and right of the memory that it looks at.

Columns are tokens of the target, rows are tokens of the source, so that the weights are the picture of which word was
read for which. Scores, window and weights stand side by side; below them what is made of the memory by these weights.
"""

from collections.abc import Mapping, Sequence

from glassformer.viewer.layout.pieces import Pieces
from glassformer.viewer.scene import Group

Row = Sequence[tuple[str, tuple[str, str]]]
QUESTION: Row = (
    ("score_from_h", ("T", "C")),
    ("turned", ("N", "C")),
    ("score_from_memory", ("N", "C")),
    ("score_hidden", ("N", "C")),
    ("centre_from_h", ("T", "C")),
    ("centre_hidden", ("T", "C")),
    ("centre_from_v", ("T", "")),
    ("centre_length", ("T", "")),
    ("centre", ("T", "")),
)
ALIGNMENT: Row = tuple(
    (f"alignment_{role}", ("T", "N"))
    for role in ("scores", "allowed", "distance", "near", "masked", "exponentials", "gaussian", "weights")
)
STRIPS = {"alignment_allowed": "sees_any", "alignment_masked": "highest", "alignment_exponentials": "total"}
ANSWER: Row = (
    ("context", ("T", "C")),
    ("joined", ("T", "")),
    ("attended_sum", ("T", "C")),
    ("attended", ("T", "C")),
    ("attended_all", ("T", "C")),
)
WEIGHTS = ("score_v_weight", "score_h_weight", "score_memory_weight", "centre_v_weight", "centre_h_weight")


def lay_out(pieces: Pieces, model: Group, sizes: Mapping[str, int], corner: tuple[int, int], gap: int) -> int:
    """From a corner to the right and down; returns the lower edge."""
    group = pieces.board.group("attention", "alignment", model)
    (x, y), c = corner, sizes["C"]
    at = x - gap
    for role in WEIGHTS:
        for item in pieces.all("attention", role):
            at -= item.windows[0].size[0] + gap
            pieces.matrix([item], at, y, group, ("", ""))
    y = _row(pieces, QUESTION, x, y, group, gap) + gap + 3
    y = _row(pieces, ALIGNMENT, x, y, group, gap) + gap
    for item in pieces.all("attention", "attended_weight"):
        pieces.matrix([item], x - 2 * gap - 2 * c, y, group, ("", "C"))
    return _row(pieces, ANSWER, x, y, group, gap)


def _row(pieces: Pieces, row: Row, x: int, y: int, group: Group, gap: int) -> int:
    """Matrices side by side, with strips above; returns the lower edge."""
    bottom = y
    for role, axes in row:
        found = pieces.all("attention", role)
        if role in STRIPS:
            pieces.matrix(pieces.all("attention", f"alignment_{STRIPS[role]}"), x, y - 2, group, ("T", ""))
        width, height = pieces.matrix(found, x, y, group, axes)
        x, bottom = x + width + (gap + 2 if width else 0), max(bottom, y + height)
    return bottom
