"""An image as a sequence: squares of pixels, row by row, each one vector. By reshaping alone.

Dosovitskiy et al. 2020, §3.1 (arXiv:2010.11929). A patch's vector has all its pixels of the first channel, then of the
second, as the weights of a convolution lie. Next to read: `image_processor.py` for pixels, `models/vit.py`.
"""

from jaxtyping import Shaped
from torch import Tensor

from glassformer.errors import ConfigError


def patchify(images: Shaped[Tensor, "*B K H W"], patch_size: tuple[int, int]) -> Shaped[Tensor, "*B P KHW"]:
    """The patches of (height, width), row by row; pixels at the right and the bottom that fill none are left out.

    >>> import torch
    >>> image = torch.arange(16).reshape(1, 4, 4)  # one channel
    >>> patchify(image, (2, 2))
    tensor([[ 0,  1,  4,  5],
            [ 2,  3,  6,  7],
            [ 8,  9, 12, 13],
            [10, 11, 14, 15]])
    """
    *lead, channels, height, width = images.shape
    patch_height, patch_width = patch_size
    rows, columns = height // patch_height, width // patch_width
    if rows == 0 or columns == 0:
        raise ConfigError(f"An image of {height} x {width} has no patch of {patch_height} x {patch_width}.")
    whole = images[..., : rows * patch_height, : columns * patch_width]
    grid = whole.reshape(*lead, channels, rows, patch_height, columns, patch_width)
    patches = grid.movedim((-4, -2), (-5, -4))  # rows columns channels patch_height patch_width
    return patches.reshape(*lead, rows * columns, channels * patch_height * patch_width)


def unpatchify(
    patches: Shaped[Tensor, "*B P KHW"], patch_size: tuple[int, int], grid: tuple[int, int]
) -> Shaped[Tensor, "*B K H W"]:
    """The image whose patches these are, `grid` of them down and across: `patchify` undone."""
    *lead, n_patches, features = patches.shape
    patch_height, patch_width = patch_size
    rows, columns = grid
    if rows * columns != n_patches or features % (patch_height * patch_width):
        raise ConfigError(
            f"{n_patches} patches of {features} numbers are no grid of {rows} x {columns} patches of "
            f"{patch_height} x {patch_width} pixels."
        )
    split = patches.reshape(*lead, rows, columns, -1, patch_height, patch_width)
    image = split.movedim((-5, -4), (-4, -2))  # channels rows patch_height columns patch_width
    return image.reshape(*lead, -1, rows * patch_height, columns * patch_width)
