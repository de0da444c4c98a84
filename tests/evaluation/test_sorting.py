"""Counting sorted inputs, by models whose answers are known."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from glassformer.data import sort
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.nn.kv_cache import Policy


class Read:
    """All tokens that came, as a state; nothing about sorting needs other operations on its rows."""

    room = 11

    def __init__(self) -> None:
        self.text = torch.zeros(729, 0, dtype=torch.long)

    @property
    def rooms(self) -> list[int]:
        return [self.room] * len(self.text)

    def select(self, rows: Tensor) -> None:
        self.text = self.text[rows]

    branch = join = select


class Sorter(nn.Module):
    """Knows the answer from its first six tokens; for inputs that start with `wrong`, the last letter is another."""

    config = SimpleNamespace(vocab_size=3, context_length=11)

    def __init__(self, wrong: int | None = None) -> None:
        super().__init__()
        self.wrong = wrong
        self.anchor = nn.Parameter(torch.zeros(()))

    def begin(self, source: None, policy: Policy) -> Read:
        return Read()

    def forward(self, tokens: Tensor, state: Read, valid: Tensor | None = None) -> Tensor:
        state.text = torch.cat([state.text[: len(tokens)], tokens], 1)
        answer = state.text[:, :6].sort(-1).values
        letter = answer[:, state.text.shape[1] - 6]
        if self.wrong is not None and state.text.shape[1] == 11:
            letter = torch.where(state.text[:, 0] == self.wrong, (letter + 1) % 3, letter)
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
