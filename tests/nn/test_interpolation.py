"""Bicubic interpolation as a matrix against torch's own."""

import pytest
import torch

from glassformer.nn.interpolation import cubic, cubic_weights, resize_grid


@pytest.mark.parametrize("before", [(1, 1), (2, 5), (7, 7), (14, 3)])
@pytest.mark.parametrize("after", [(1, 1), (3, 2), (7, 7), (16, 16), (31, 5)])
def test_a_grid_is_resized_as_torch_does(before: tuple[int, int], after: tuple[int, int]) -> None:
    table = torch.randn(*before, 4, dtype=torch.float64)
    image = table.permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(image, size=after, mode="bicubic", align_corners=False)
    torch.testing.assert_close(resize_grid(table, after), expected[0].permute(1, 2, 0))


@pytest.mark.parametrize(("before", "after"), [(1, 4), (5, 3), (14, 24), (9, 9)])
def test_shares_add_up_to_one_and_the_same_size_changes_nothing(before: int, after: int) -> None:
    weights = cubic_weights(before, after)
    torch.testing.assert_close(weights.sum(-1), torch.ones(after, dtype=torch.float64))
    if before == after:
        assert torch.equal(weights, torch.eye(before, dtype=torch.float64))


def test_the_kernel_is_one_at_zero_and_zero_at_whole_numbers() -> None:
    assert cubic(torch.tensor([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1, 0, 0, 0, 0]
    assert cubic(torch.tensor(0.5)) == cubic(torch.tensor(-0.5))
