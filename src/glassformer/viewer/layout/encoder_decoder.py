"""Where the blocks of an encoder-decoder stand: two spines side by side, the encoder's left of the decoder's.

Each is laid out as a decoder is (`decoder.py`); a decoder's layer has a second attention under its first one, with keys
and values from the encoder. Positions of the source have an axis of their own, N, and what the encoder makes of
them a role of its own: its residual stream is `source`, and the end of that the `memory`.
"""

from collections.abc import Mapping, Sequence

from glassformer.viewer.board import Board
from glassformer.viewer.layout import sound
from glassformer.viewer.layout.decoder import Decoder, sizes_of
from glassformer.viewer.roles import Item
from glassformer.viewer.scene import Group
from glassformer.viewer.views import View

OF_SOURCE = {"source_tokens", "source_embedding", "waveform"}


def place(items: Sequence[Item], board: Board) -> dict[str, int] | None:
    """Both spines, and the lengths of their axes; None where the items are no encoder's and decoder's."""
    shown = [item for item in items if item.step_of is None]
    crossing = [item for item in shown if ".cross_attn." in item.name]
    needed = {"q", "scores", "weights", "heads"} <= {item.role for item in crossing}
    logits = next((item.tensor.shape for item in shown if item.role == "logits"), (0,))
    if not needed or logits[0] != 1:
        return None
    encoding = [item.order for item in shown if item.name.startswith("encoder.") and item.order >= 0]
    of_source = {item for item in items if _is_of_source(item, min(encoding))}
    for item in items:
        if item.role == "positions" and len(item.tensor.shape) > 1:
            item.role = "position_encoding"
    model = board.group("", "model", None)
    sizes = _sizes([item for item in shown if item not in of_source], crossing)
    sizes |= sound.sizes_of(shown)
    view = Sided(sizes, of_source)
    right = Right([item for item in items if item not in of_source], sizes, board, view, model)
    right.main()
    n_right = len(board.blocks)
    left = Left(
        [item for item in items if item in of_source], {**sizes, "T": sizes["N"], "S": sizes["N"]}, board, view, model
    )
    left.main()
    own = board.blocks[n_right:]
    edge = min(block.pos[0] for block in board.blocks[:n_right]) - max(b.pos[0] + b.size[0] for b in own) - 2 * left.pad
    for block in own:
        block.pos = (block.pos[0] + edge, *block.pos[1:])
    right.behind()
    left.behind()
    board.enclose()
    return sizes


def _is_of_source(item: Item, encoder_begins: int) -> bool:
    shown = item.step_of or item
    if shown.name.startswith(("encoder.", "decoder.")):
        return shown.name.startswith("encoder.")
    return shown.role in OF_SOURCE or 0 <= shown.order < encoder_begins


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
        x, y = super().axes(item)
        letters = "TS" if item in self.of_source else "S" if ".cross_attn." in item.name else ""
        return "N" if x and x in letters else x, "N" if y and y in letters else y


class Half(Decoder):
    """One of the two spines."""

    role = ""

    def __init__(self, items: Sequence[Item], sizes: Mapping[str, int], board: Board, view: View, model: Group) -> None:
        self.around = model
        super().__init__(items, sizes, board, view)

    def whole(self) -> Group:
        return self.board.group(self.role, self.role, self.around)

    def for_the_rest(self, embedding: Group) -> Group:
        return self.board.group(f"{self.role}.bookkeeping", "bookkeeping", self.model)


class Right(Half):
    """The decoder."""

    prefix, role = "decoder.", "decoder"


class Left(Half):
    """The encoder, whose stream ends as the memory."""

    prefix, role = "encoder.", "encoder"
    embedding_role, layer_role = "source_embedding", "encoder_layer"

    def __init__(self, items: Sequence[Item], sizes: Mapping[str, int], board: Board, view: View, model: Group) -> None:
        super().__init__(items, sizes, board, view, model)
        ends = [item for item in items if item.role == "final_norm"] or [item for item in items if item.role == "x"][
            -1:
        ]
        for item in items:
            item.role = (
                "memory"
                if item in ends
                else {"x": "source", "token_embedded": "source_embedded"}.get(item.role, item.role)
            )

    def embedding(self, group: Group) -> int:
        """Of a text, as a decoder has it, or of sound."""
        return sound.stem(self, group) if "U" in self.sizes else super().embedding(group)
