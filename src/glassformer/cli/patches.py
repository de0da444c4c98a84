"""How a picture is cut into patches: in numbers, and at a terminal as the picture itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.text import Text

from glassformer.cli.output import print_line
from glassformer.data.images import open_image
from glassformer.features.image_processor import ImageProcessor

LINE = (90, 120, 200)  # the colour between patches


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A picture as a model sees it, in red, green and blue from 0 to 255, and the (height, width) of its patches."""

    pixels: UInt8[np.ndarray, "H W 3"]
    patch: tuple[int, int]
    n_extra: int  # tokens before the patches

    @classmethod
    def of(cls, path: Path, processor: ImageProcessor, config: Any) -> "Grid":
        """The grid of a picture for a Vision Transformer."""
        pixels = processor.pixels(open_image(path)).expand(3, -1, -1).movedim(0, -1)
        return cls(pixels=pixels.numpy(), patch=config.patch_size, n_extra=config.n_extra_tokens)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def patches(self) -> tuple[int, int]:
        """How many, down and across."""
        return self.size[0] // self.patch[0], self.size[1] // self.patch[1]

    def show(self) -> None:
        """Its numbers, and at a terminal the picture: each character is one pixel above another one."""
        (height, width), (rows, columns), (down, across) = self.size, self.patches, self.patch
        print_line(
            f"  {height} x {width} pixels in {rows} x {columns} patches of {down} x {across}: "
            f"{rows * columns + self.n_extra} tokens"
        )
        console = Console()
        if not console.is_terminal:
            return
        drawn = self.drawn(console.width - 2)
        for upper, lower in zip(drawn[::2], drawn[1::2], strict=True):
            line = Text("  ")
            for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
                line.append(
                    "▀", style=f"rgb({above[0]},{above[1]},{above[2]}) on rgb({below[0]},{below[1]},{below[2]})"
                )
            console.print(line, no_wrap=True, crop=True)

    def drawn(self, width: int) -> UInt8[np.ndarray, "h w 3"]:
        """The patches with lines between, an even number of rows, at most `width` pixels across if each has one."""
        rows, columns = self.patches
        shrink = min(1.0, (width // columns - 1) / self.patch[1])
        down, across = (max(1, int(side * shrink)) for side in self.patch)
        whole = self.pixels[: rows * self.patch[0], : columns * self.patch[1]]
        small = np.asarray(Image.fromarray(whole).resize((columns * across, rows * down), Image.Resampling.BOX))
        canvas = np.full((rows, down + 1, columns, across + 1, 3), LINE, dtype=np.uint8)
        canvas[:, :down, :, :across] = small.reshape(rows, down, columns, across, 3)
        lines = canvas.reshape(rows * (down + 1), columns * (across + 1), 3)
        return lines if len(lines) % 2 == 0 else np.concatenate([lines, lines[-1:]])
