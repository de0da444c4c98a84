"""Counting sorted inputs, by models whose answers are known."""

import torch
from torch import Tensor, nn

from glassformer.data import sort
from glassformer.evaluation.sorting import sort_accuracy


class Sorter(nn.Module):
    """Knows the answer from its first six tokens; for inputs that start with `wrong`, the last letter is another."""

    def __init__(self, wrong: int | None = None) -> None:
        super().__init__()
        self.wrong = wrong
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        answer = tokens[:, :6].sort(-1).values
        letter = answer[:, tokens.shape[1] - 6]
        if self.wrong is not None and tokens.shape[1] == 11:
            letter = torch.where(tokens[:, 0] == self.wrong, (letter + 1) % 3, letter)
        return nn.functional.one_hot(letter, 3).float()[:, None]


def test_a_perfect_sorter_has_all_729_right() -> None:
    found = sort_accuracy(Sorter())
    assert (found.correct, found.total) == (729, 729)
    assert (found.held_out_correct, found.held_out_total) == (182, 182)


def test_one_wrong_letter_makes_an_answer_wrong_and_the_held_out_part_is_the_split_s() -> None:
    for seed in (0, 3):
        found = sort_accuracy(Sorter(wrong=1), seed=seed)
        _, held_out = sort.split(seed)
        assert found.correct == 729 * 2 // 3
        assert found.held_out_correct == int((held_out[:, 0] != 1).sum())
