"""Where the blocks of an encoder-decoder stand: two spines side by side, the encoder's left of the decoder's.

Each is laid out as a decoder is (`spine.py`); a decoder's layer has a second attention under its first one, with keys
and values from the encoder. Positions of the source have an axis of their own, N, and what the encoder makes of
them a role of its own: its residual stream is `source`, and the end of that the `memory`.
"""

from collections.abc import Mapping, Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout import decoder, sound
from glassformer.viewer.layout.spine import Plan, Spine, sizes_of
from glassformer.viewer.scene import Group
from glassformer.viewer.views import View

OF_AN_ENCODER = {"x": "source", "token_embedded": "source_embedded"}
OF_SOURCE = {"source_tokens", "source_embedding", "waveform"}


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """Both spines, and the lengths of their axes; None where the items are no encoder's and decoder's."""
    main_items = [item for item in items if item.step_of is None]
    crossing = [item for item in main_items if ".cross_attn." in item.name]
    needed = {"q", "scores", "weights", "heads"} <= {item.role for item in crossing}
    logits = next((item.tensor.shape for item in main_items if item.role == "logits"), (0,))
    if not needed or logits[0] != 1:
        return None
    encoding = [item.order for item in main_items if item.name.startswith("encoder.") and item.order >= 0]
    of_source = {item for item in items if _is_of_source(item, min(encoding))}
    for item in items:
        if item.role == "positions" and len(item.tensor.shape) > 1:
            item.role = "position_encoding"
    model = canvas.group("", "model", None)
    sizes = _sizes([item for item in main_items if item not in of_source], crossing)
    sizes |= sound.sizes_of(main_items)
    view = Sided(sizes, of_source)
    right = _half(DECODER, [item for item in items if item not in of_source], sizes, canvas, view, model)
    right.main()
    n_right = len(canvas.blocks)
    source_sizes = {**sizes, "T": sizes["N"], "S": sizes["N"]}
    left = _half(ENCODER, [item for item in items if item in of_source], source_sizes, canvas, view, model)
    _rename(left.items)
    left.main()
    own = canvas.blocks[n_right:]
    edge = (
        min(block.pos[0] for block in canvas.blocks[:n_right]) - max(b.pos[0] + b.size[0] for b in own) - 2 * left.pad
    )
    for block in own:
        block.pos = (block.pos[0] + edge, *block.pos[1:])
    right.behind()
    left.behind()
    canvas.enclose()
    return sizes


def _is_of_source(item: Item, encoder_begins: int) -> bool:
    main_item = item.step_of or item
    if main_item.name.startswith(("encoder.", "decoder.")):
        return main_item.name.startswith("encoder.")
    return main_item.role in OF_SOURCE or 0 <= main_item.order < encoder_begins


def _sizes(of_target: Sequence[Item], crossing: Sequence[Item]) -> dict[str, int]:
    """The lengths of the axes: those of a decoder, and how much it looks at."""
    n_source = next(item.tensor.shape[-1] for item in crossing if item.role == "scores")
    return {**sizes_of(of_target), "N": n_source}


class Sided(View):
    """A view that calls positions of the source N, where an encoder reads them and where a decoder looks at them."""

    def __init__(self, sizes: Mapping[str, int], of_source: set[Item]) -> None:
        super().__init__(sizes)
        self.of_source = of_source

    def axes(self, item: Item) -> tuple[str, str]:
        """The letters along x and y, with N for positions of the source."""
        x, y = super().axes(item)
        letters = "TS" if item in self.of_source else "S" if ".cross_attn." in item.name else ""
        return "N" if x and x in letters else x, "N" if y and y in letters else y


def _half(
    plan: Plan, items: Sequence[Item], sizes: Mapping[str, int], canvas: Canvas, view: View, model: Group
) -> Spine:
    """One of the two spines, in a group of its own."""
    role = plan.prefix.rstrip(".")
    return Spine(items, sizes, canvas, plan, view=view, model=canvas.group(role, role, model))


def _rename(of_source: Sequence[Item]) -> None:
    """The encoder's stream has roles of its own, and ends as the memory. Its spine has noted the roles from before."""
    ends = [item for item in of_source if item.role == "final_norm"]
    ends = ends or [item for item in of_source if item.role == "x"][-1:]
    for item in of_source:
        item.role = "memory" if item in ends else OF_AN_ENCODER.get(item.role, item.role)


def _source(spine: Spine, group: Group) -> int:
    """Of a text, as a decoder has it, or of sound."""
    return sound.stem(spine, group) if "U" in spine.sizes else decoder.embedding(spine, group)


DECODER = Plan(embedding=decoder.embedding, output=decoder.output, prefix="decoder.", bookkeeping=True)
ENCODER = Plan(
    embedding=_source,
    output=decoder.output,
    prefix="encoder.",
    embedding_role="source_embedding",
    layer_role="encoder_layer",
    bookkeeping=True,
)
