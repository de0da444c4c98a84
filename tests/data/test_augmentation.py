"""Augmentation moves pixels, computes none, and does the same for the same seed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.data.augmentation import crop, flip, shift, windows
from glassformer.errors import ConfigError

IMAGES = torch.arange(1, 200 * 2 * 4 * 5 + 1).reshape(200, 2, 4, 5)
KINDS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "flip": flip,
    "shift": lambda images, generator: shift(images, 2, generator),
    "crop": lambda images, generator: crop(images, (3, 2), generator),
}


@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS.keys())
def test_the_same_seed_gives_the_same_images(change: Callable[[Tensor, np.random.Generator], Tensor]) -> None:
    before = IMAGES.clone()
    one, two, other = (change(IMAGES, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(IMAGES, before)
    assert one.dtype == IMAGES.dtype


def test_about_half_of_the_images_are_mirrored_and_the_others_stay() -> None:
    found = flip(IMAGES, np.random.default_rng(0))
    stay, mirrored = ((found == like).flatten(1).all(-1) for like in (IMAGES, IMAGES.flip(-1)))
    assert (stay ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 130


def test_an_image_is_shifted_every_way_and_zeros_come_in() -> None:
    found = shift(IMAGES, 1, np.random.default_rng(0))
    seen = set()
    for image, moved in zip(IMAGES, found, strict=True):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        places = [
            (down, across)
            for down in range(3)
            for across in range(3)
            if torch.equal(padded[:, down : down + 4, across : across + 5], moved)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9
    assert torch.equal(shift(IMAGES, 0, np.random.default_rng(0)), IMAGES)


def test_a_window_may_be_anywhere_in_the_image() -> None:
    found = crop(IMAGES, (3, 2), np.random.default_rng(0))
    corners = found[:, 0, 0, 0] - IMAGES[:, 0, 0, 0]
    assert corners.unique().tolist() == [row * 5 + column for row in range(2) for column in range(4)]
    assert torch.equal(crop(IMAGES, (4, 5), np.random.default_rng(0)), IMAGES)


def test_windows_are_cut_where_they_are_asked_for() -> None:
    found = windows(IMAGES[:2], torch.tensor([0, 1]), torch.tensor([3, 0]), (2, 2))
    assert torch.equal(found[0], IMAGES[0, :, 0:2, 3:5])
    assert torch.equal(found[1], IMAGES[1, :, 1:3, 0:2])


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"A window of \(5, 2\) does not fit into images of \(4, 5\)"):
        crop(IMAGES, (5, 2), np.random.default_rng(0))
