"""The sorting task: all inputs, the split, and the examples of minGPT."""

import pytest
import torch

from glassformer.data import sort


def test_there_are_all_729_inputs_once() -> None:
    inputs = sort.all_inputs()
    assert inputs.shape == (729, 6)
    assert len({tuple(row) for row in inputs.tolist()}) == 729
    assert inputs.min() == 0
    assert inputs.max() == 2


@pytest.mark.parametrize("seed", [0, 1, 1337])
def test_a_quarter_is_held_out_and_the_split_is_the_seed_s(seed: int) -> None:
    train, held_out = sort.split(seed)
    rows = {tuple(row) for row in train.tolist()}, {tuple(row) for row in held_out.tolist()}
    assert (len(rows[0]), len(rows[1])) == (547, 182)
    assert not rows[0] & rows[1]
    assert torch.equal(sort.split(seed)[1], held_out)
    assert not torch.equal(sort.split(seed + 1)[1], held_out)


def test_an_example_reads_eleven_letters_and_predicts_the_answer_alone() -> None:
    tokens, targets = sort.example(torch.tensor([[2, 1, 0, 1, 1, 2]]))  # CBABBC
    assert tokens.tolist() == [[2, 1, 0, 1, 1, 2, 0, 1, 1, 1, 2]]
    assert targets.tolist() == [[-100] * 5 + [0, 1, 1, 1, 2, 2]]


def test_batches_are_a_pure_function_of_seed_step_and_micro_step() -> None:
    train, _ = sort.split()

    def batch(seed: int, step: int, micro_step: int) -> list[list[int]]:
        return sort.random_batch(train, 32, seed=seed, step=step, micro_step=micro_step)[0].tolist()

    assert batch(1, 2, 3) == batch(1, 2, 3)
    assert len({str(batch(*key)) for key in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1)]}) == 5
    seen = {tuple(row[:6]) for step in range(100) for row in batch(0, step, 0)}
    assert seen <= {tuple(row) for row in train.tolist()}
    assert len(seen) > 530
