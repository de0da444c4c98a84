"""What the page is given to draw, as records; `web/src/types.ts` has the same shapes and says what each field means.

A block is a window into one storage of a trace: an offset and two strides. So a head cut out of a matrix, a tied weight
and a transposed view cost nothing, and every cell that is drawn leads to the bytes that the model computed with.

World: x to the right (positions in the text), y down the network, z towards the viewer. A cell is 1 × 1 × 1.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Vec3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Text:
    """The same words in both languages of the page."""

    en: str
    zh: str


@dataclass(frozen=True, slots=True)
class Token:
    """What stands at a position: its id, its text, and its bytes in hexadecimal."""

    id: int
    text: str
    bytes: str


@dataclass(slots=True, kw_only=True)
class Group:
    """A part of the model and the box around all that belongs to it."""

    id: int
    parent: int | None
    path: str
    role: str
    index: int | None
    label: Text
    min: Vec3 = (0, 0, 0)
    max: Vec3 = (0, 0, 0)


@dataclass(slots=True, kw_only=True)
class Block:
    """A window of cells with a place in space."""

    id: int
    group: int
    name: str
    role: str
    kind: str
    label: Text
    tensor: int
    storage: int
    dtype: str
    offset: int
    strides: tuple[int, int]
    size: tuple[int, int]
    start: tuple[int, int]
    axes: tuple[str, str]
    pos: Vec3
    layer: int | None
    head: int | None
    step_of: int | None
    scale: float
    gradient_of: int | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """Numbers go from one block to another: as "data", as a "weight", or along the "residual" stream."""

    source: int
    target: int
    kind: str


@dataclass(slots=True, kw_only=True)
class Scene:
    """All blocks of a model at one step of a run."""

    model: Mapping[str, Any]
    lazy: bool
    tokens: list[Token]
    sizes: dict[str, int]
    source: list[Token] = field(default_factory=list)  # what an encoder reads, if that is tokens
    groups: list[Group] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    logits: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape that `types.ts` has."""
        return {
            "format": "glassformer-scene",
            "version": 1,
            "model": dict(self.model),
            "lazy": self.lazy,
            "tokens": [asdict(token) for token in self.tokens],
            "source": [asdict(token) for token in self.source],
            "sizes": self.sizes,
            "groups": [asdict(group) for group in self.groups],
            "blocks": [_block(block) for block in self.blocks],
            "arrows": [{"from": arrow.source, "to": arrow.target, "kind": arrow.kind} for arrow in self.arrows],
            "stream": self.stream,
            "logits": self.logits,
        }


def _block(block: Block) -> dict[str, Any]:
    """By hand, since there may be a hundred thousand and `asdict` copies deeply; without what most blocks lack."""
    fields = {name: getattr(block, name) for name in Block.__slots__}
    fields["label"] = {"en": block.label.en, "zh": block.label.zh}
    if block.start == (0, 0):
        del fields["start"]
    if block.gradient_of is None:
        del fields["gradient_of"]
    return fields
