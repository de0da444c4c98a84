"""Bicubic interpolation as a matrix product: a table of vectors on one grid, sampled on another.

Keys 1981, "Cubic convolution interpolation for digital image processing", with a = −3/4, as torch has it.
Samples stand for the middles of equal cells; beyond the border the last one is repeated.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SHARPNESS = -0.75  # a in the paper, which prefers −1/2; published models were moved to other resolutions with −3/4


def resize_grid(table: Float[Tensor, "H W C"], size: tuple[int, int]) -> Float[Tensor, "h w C"]:
    """rows · table · columnsᵀ, feature by feature."""
    rows = cubic_weights(table.shape[0], size[0]).to(table)
    columns = cubic_weights(table.shape[1], size[1]).to(table)
    features_first = table.movedim(-1, 0)
    resized = rows @ features_first @ columns.mT
    return resized.movedim(0, -1)


def resize_positions(
    learned: Float[Tensor, "n C"], grid: tuple[int, int], size: tuple[int, int], n_extra: int = 1
) -> Float[Tensor, "T C"]:
    """A Vision Transformer's learned positions for another grid of patches, those of the first tokens as they are.

    Dosovitskiy et al. 2020, §3.2 (arXiv:2010.11929).
    """
    if size == grid:
        return learned
    table = learned[n_extra:].reshape(*grid, -1)  # rows columns C
    resized = resize_grid(table, size)
    return torch.cat([learned[:n_extra], resized.flatten(0, 1)])


def cubic_weights(n_from: int, n_to: int) -> Float[Tensor, "to from"]:
    """Row i says how much of each of the old samples is in the new sample i: four of them, and they add up to 1."""
    place = (torch.arange(n_to, dtype=torch.float64) + 0.5) * n_from / n_to - 0.5  # among the old samples
    weights = torch.zeros(n_to, n_from, dtype=torch.float64)
    for offset in (-1, 0, 1, 2):
        neighbour = place.floor() + offset
        share = cubic(place - neighbour)
        inside = neighbour.clamp(0, n_from - 1)
        weights = weights + share[:, None] * (inside[:, None] == torch.arange(n_from))
    return weights


def cubic(distance: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The kernel: 1 at 0, 0 at every other whole number, smooth in between, nothing from 2 on."""
    a = SHARPNESS
    d = distance.abs()
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
