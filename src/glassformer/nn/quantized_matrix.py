"""A matrix of whole numbers of 8 or 4 bits with scales: how it lies in files, row by row, and in memory, in tiles.

Each 32 neighbours in a row have a scale, as in ggml's blocks. A weight is scale · level with a level from −127 to 127
(Q8_0), or, with levels from 0 to 15, scale · (level − 8) (Q4_0) or scale · level + offset (Q4_1). One scale for a whole
row would not do: SmolLM2-135M's perplexity then grows by 1.2 %, and by 0.3 % so.
What multiplies by such a matrix is in `quantized.py`; which matrices become so is decided in `inference/quantize.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.nn.functional import HALF

LevelKind = Literal["q8_0", "q4_0", "q4_1"]

GROUP = 32  # neighbours in a row that share a scale
TILE = 16  # rows that lie together in memory
ZERO = 8  # the level that stands for 0 in Q4_0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRows:
    """A matrix of this shape as files have it.

    `levels` are int8, a number a byte, or uint8, two numbers a byte: of each 32 the first 16 in the low halves, the
    others in the high ones. Rows are filled up to a multiple of 32. `scale` and `offset` are float16.
    `fault` says whether they are.
    """

    levels: Tensor  # d_out bytes
    scale: Tensor  # d_out groups
    offset: Tensor | None
    shape: tuple[int, int]

    @property
    def kind(self) -> LevelKind:
        """How its numbers follow from levels."""
        if self.levels.dtype == torch.int8:
            return "q8_0"
        return "q4_0" if self.offset is None else "q4_1"

    def take(self, rows: Int[Tensor, " n"]) -> "QuantizedRows":
        """The matrix of these rows, in this order."""
        return QuantizedRows(
            levels=self.levels[rows],
            scale=self.scale[rows],
            offset=None if self.offset is None else self.offset[rows],
            shape=(len(rows), self.shape[1]),
        )

    def fault(self) -> str:
        """What is wrong with the parts, which may come from a stranger's file; nothing, usually."""
        n_groups = -(-self.shape[1] // GROUP)
        of_bytes = self.levels.dtype == torch.int8
        wanted = {"levels": (torch.int8, GROUP) if of_bytes else (torch.uint8, GROUP // 2), "scale": (torch.float16, 1)}
        parts = {"levels": self.levels, "scale": self.scale}
        if self.offset is not None:
            if of_bytes:
                return "it has offsets, and its levels signs"
            parts, wanted = {**parts, "offset": self.offset}, {**wanted, "offset": (torch.float16, 1)}
        for name, part in parts.items():
            dtype, n = wanted[name]
            if part.dtype != dtype or tuple(part.shape) != (self.shape[0], n * n_groups):
                return f"its {name} is {part.dtype} {tuple(part.shape)}, not {dtype} {(self.shape[0], n * n_groups)}"
            if name != "levels" and not part.isfinite().all():
                return f"its {name} has numbers that are infinite or none (NaN)"
        return ""


class QuantizedMatrix(nn.Module):
    """A matrix in tiles of 16 rows, as `kernels/quantized.py` reads it; rows that are missing in the last are zero.

    The parts are buffers, not parameters: nothing here is learned.
    """

    levels: Shaped[Tensor, "tiles groups runs 16 4"]
    scale: Float[Tensor, "tiles groups 16"]
    offset: Float[Tensor, "tiles groups 16"] | None

    def __init__(self, rows: QuantizedRows) -> None:
        super().__init__()
        self.shape = rows.shape
        self.kind: LevelKind = rows.kind
        self.register_buffer("levels", _tiles(rows.levels.view(len(rows.levels), self.n_groups, -1)))
        self.register_buffer("scale", _tiles(rows.scale))
        self.register_buffer("offset", None if rows.offset is None else _tiles(rows.offset))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedMatrix":
        """What torch does to move a module (`to`, `float`): the parts may lie elsewhere, and stay of their types."""
        parts = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, moved in list(self.named_buffers(recurse=False)):
            if moved.dtype != parts[name].dtype:
                setattr(self, name, parts[name].to(moved.device))
        return self

    @property
    def n_groups(self) -> int:
        """How many times 32 columns there are; the last may be filled up."""
        return -(-self.shape[1] // GROUP)

    def rows(self) -> QuantizedRows:
        """The matrix as files have it."""
        n = self.shape[0]
        levels = self.levels.permute(0, 3, 1, 2, 4).flatten(0, 1)[:n].flatten(1)
        scale, offset = (
            None if part is None else part.mT.flatten(0, 1)[:n].contiguous() for part in (self.scale, self.offset)
        )
        assert scale is not None
        return QuantizedRows(levels=levels, scale=scale, offset=offset, shape=self.shape)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "d_out d_in"]:
        """The numbers that it stands for."""
        in_rows = self.levels.permute(0, 3, 1, 2, 4)  # tiles 16 groups runs 4
        return self._numbers(in_rows, self.scale, self.offset, dtype)[: self.shape[0], : self.shape[1]]

    def of_tokens(self, tokens: Int[Tensor, "*B"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*B d_in"]:
        """The rows of these numbers."""
        tile, row = tokens.flatten() // TILE, tokens.flatten() % TILE
        levels = self.levels[tile, :, :, row][:, None]
        scale, offset = (None if part is None else part[tile, :, row][..., None] for part in (self.scale, self.offset))
        assert scale is not None
        numbers = self._numbers(levels, scale, offset, dtype)[:, : self.shape[1]]
        return numbers.reshape(*tokens.shape, self.shape[1])

    def _numbers(self, in_rows: Tensor, scale: Tensor, offset: Tensor | None, dtype: torch.dtype) -> Tensor:
        """scale · level + offset, for levels (tiles, rows, groups, runs, 4)."""
        wide = torch.float32 if dtype in HALF else dtype
        levels = in_rows.to(wide, memory_format=torch.contiguous_format)
        if self.levels.dtype == torch.uint8:
            halves = torch.tensor([1.0, 16.0], dtype=wide, device=levels.device)[:, None, None]
            levels = levels[:, :, :, None] // halves % 16  # of each byte the low half, and the high one
            levels = levels.flatten(3, 4)
        if self.kind == "q4_0":
            levels = levels - ZERO
        scale = scale.to(wide).mT[..., None, None]
        weight = levels * scale
        if offset is not None:
            offset = offset.to(wide).mT[..., None, None]
            weight = weight + offset
        return weight.flatten(2).flatten(0, 1).to(dtype)


def _tiles(rows: Tensor) -> Tensor:
    """Rows (d_out, groups, …) in tiles of 16, in which the rows stand behind the groups, and four bytes of each row
    together."""
    n_tiles = -(-len(rows) // TILE)
    full = rows.new_zeros(n_tiles * TILE, *rows.shape[1:])
    full[: len(rows)] = rows
    if rows.ndim == 3:
        return full.view(n_tiles, TILE, rows.shape[1], -1, 4).permute(0, 2, 3, 1, 4).contiguous()
    return full.view(n_tiles, TILE, -1).mT.contiguous()


# ---- from numbers to levels


def to_int8(weight: Float[Tensor, "d_out d_in"]) -> QuantizedRows:
    """Each 32 weights by a scale, the largest of them being ±127."""
    groups = filled(weight.float()).view(len(weight), -1, GROUP)
    scale = (groups.abs().amax(2) / 127).half()
    levels = (groups / divisor(scale.float())[..., None]).round().clamp(-127, 127).to(torch.int8)
    return QuantizedRows(levels=levels.flatten(1), scale=scale, offset=None, shape=shape_of(weight))


def divisor(numbers: Tensor) -> Tensor:
    """The numbers, with 1 for 0."""
    return numbers.where(numbers != 0, 1.0)


def filled(rows: Tensor) -> Tensor:
    """Rows with zeros behind them, to a multiple of 32."""
    return torch.cat([rows, rows.new_zeros(len(rows), -rows.shape[1] % GROUP)], dim=1)


def shape_of(weight: Tensor) -> tuple[int, int]:
    """Rows and columns."""
    return weight.shape[0], weight.shape[1]
