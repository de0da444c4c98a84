"""Patches are a convolution's windows, and come together again."""

import pytest
import torch

from glassformer.errors import ConfigError
from glassformer.features.patches import patchify, unpatchify


@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (4, 4), (3, 5)])
@pytest.mark.parametrize("size", [(12, 15), (13, 17), (5, 6)])
def test_a_matrix_times_patches_is_a_convolution(patch: tuple[int, int], size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn(7, 3, *patch, dtype=torch.float64)
    if patch[0] > size[0] or patch[1] > size[1]:
        pytest.skip("no patch fits")
    expected = torch.nn.functional.conv2d(images, weight, stride=patch).flatten(2).mT
    torch.testing.assert_close(patchify(images, patch) @ weight.flatten(1).T, expected)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_patches_make_the_image_again(lead: tuple[int, ...]) -> None:
    images = torch.arange(2 * 3 * 4 * 6 * 10).reshape(-1, 4, 6, 10)[: max(1, torch.Size(lead).numel())]
    images = images.reshape(*lead, 4, 6, 10)
    patches = patchify(images, (3, 2))
    assert patches.shape == (*lead, 10, 24)
    assert torch.equal(unpatchify(patches, (3, 2), (2, 5)), images)


def test_patches_go_row_by_row_and_channels_come_first() -> None:
    image = torch.arange(2 * 4 * 4).reshape(2, 4, 4)
    assert patchify(image, (2, 2))[1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]


def test_no_patch_and_no_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match="An image of 3 x 9 has no patch of 4 x 4"):
        patchify(torch.zeros(1, 3, 9), (4, 4))
    with pytest.raises(ConfigError, match="6 patches of 12 numbers are no grid of 2 x 2"):
        unpatchify(torch.zeros(6, 12), (2, 2), (2, 2))
