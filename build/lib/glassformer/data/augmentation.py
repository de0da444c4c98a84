"""Small changes of an image that leave its class as it is, drawn anew for each image of a batch.

    flip     left and right change places, for every other image
    shift    by up to so many pixels, zeros coming in
    crop     a window somewhere in the image

All of them move pixels and compute none, so they work on bytes. The generator is the caller's: the same seed gives the
same images, and a resumed run those that it would have had.
"""

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from glassformer.errors import ConfigError


def flip(images: Shaped[Tensor, "B K H W"], generator: np.random.Generator) -> Shaped[Tensor, "B K H W"]:
    """Each image is mirrored, left for right, with probability ½."""
    mirrored = torch.from_numpy(generator.random(len(images)) < 0.5)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def shift(images: Shaped[Tensor, "B K H W"], most: int, generator: np.random.Generator) -> Shaped[Tensor, "B K H W"]:
    """Each image is moved by −most … most pixels down and as many across."""
    height, width = images.shape[-2:]
    wide = images.new_zeros(*images.shape[:-2], height + 2 * most, width + 2 * most)
    wide[..., most : most + height, most : most + width] = images
    return crop(wide, (height, width), generator)


def crop(
    images: Shaped[Tensor, "B K H W"], size: tuple[int, int], generator: np.random.Generator
) -> Shaped[Tensor, "B K h w"]:
    """Of each image a window of (height, width) pixels, each place as likely as the others."""
    n_images, _, height, width = images.shape
    if size[0] > height or size[1] > width:
        raise ConfigError(f"A window of {size} does not fit into images of {(height, width)}.")
    top = torch.from_numpy(generator.integers(height - size[0] + 1, size=n_images))
    left = torch.from_numpy(generator.integers(width - size[1] + 1, size=n_images))
    return windows(images, top, left, size)


def windows(
    images: Shaped[Tensor, "B K H W"], top: Int[Tensor, " B"], left: Int[Tensor, " B"], size: tuple[int, int]
) -> Shaped[Tensor, "B K h w"]:
    """Of image b the window whose upper left corner is at (top[b], left[b])."""
    image = torch.arange(len(images))[:, None, None]
    rows = top[:, None, None] + torch.arange(size[0])[:, None]
    columns = left[:, None, None] + torch.arange(size[1])
    channels_last = images[image, :, rows, columns]
    return channels_last.movedim(-1, 1)
