"""Images with their classes, opened when they are asked for: a folder a class, MNIST's pair of files, or an archive.

`images.py` reads all of these; here they are one thing, of whatever sizes, and never all in memory at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from glassformer.data.images import list_folder, open_image, read_idx_set, read_npz_set
from glassformer.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """`open(i)` is what Pillow opened; `classes` are the names of the classes, where they have some."""

    open: Callable[[int], Any]
    labels: Sequence[int]
    classes: tuple[str, ...] = ()


def open_image_files(path: Path, labels: Path | None = None) -> ImageFiles:
    """The images of a folder, of an .npz (x_test and y_test), or of an IDX file whose `labels` are another one.

    Without `labels` they are beside the images, under MNIST's names.
    """
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if path.is_dir():
        paths, numbers, classes = list_folder(path)
        return ImageFiles(open=lambda i: open_image(paths[i]), labels=numbers, classes=tuple(classes))
    if path.suffix == ".npz":
        images = read_npz_set(path, images="x_test", labels="y_test")
    else:
        images = read_idx_set(path, labels or _labels_beside(path))
    return ImageFiles(open=lambda i: to_pillow(images.pixels[i]), labels=images.labels.tolist(), classes=images.classes)


def _labels_beside(path: Path) -> Path:
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.is_file():
        raise DataError(
            f"{path} is neither a folder of pictures nor an .npz; of an IDX file, name the labels too (--target)."
        )
    return beside


def to_pillow(pixels: UInt8[Tensor, "K H W"]) -> Any:
    """Pixels as Pillow has them, grey or coloured."""
    from PIL import Image

    channels_last = pixels.movedim(0, -1).numpy()
    return Image.fromarray(channels_last[..., 0] if len(pixels) == 1 else channels_last)
