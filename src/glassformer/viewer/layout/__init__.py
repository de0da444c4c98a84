"""Where blocks stand: one template a file, each for models whose roles it knows, and `flow.py` for all others.

`spine.py` has what Transformers have in common; `chunks.py` cuts tensors where time runs.

A template is a function of the items and the canvas: it places them and returns the lengths of the model's axes (by the
letters of docs/notation.md), or touches nothing and returns None where the items are not what it is for.
"""

from collections.abc import Callable, Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item, make_foreign
from glassformer.viewer.layout import decoder, encoder, encoder_decoder, flow, image, recurrent

Template = Callable[[Sequence[Item], Canvas], dict[str, int] | None]
TEMPLATES: tuple[Template, ...] = (
    recurrent.place,
    encoder_decoder.place,
    encoder.place,
    decoder.place,
    image.place,
)  # the first that fits


def lay_out(items: Sequence[Item], canvas: Canvas) -> dict[str, int]:
    """Place everything, in a template where one fits; returns the lengths of the axes that it knows."""
    for place in TEMPLATES:
        sizes = place(items, canvas)
        if sizes is not None:
            return sizes
    make_foreign(items)
    flow.lay_out(items, canvas)
    return {}
