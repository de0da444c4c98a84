"""A step is over all its units alike: of micro-batches of any sizes, and of any number of ranks."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.training.tasks import TASKS
from glassformer.training.tasks.task import Batch, Task
from glassformer.training.trainer import Trainer
from glassformer.training.world import World
from support.tolerances import assert_close
from training.runs import of_task, trainer_of


def units(batch: Batch) -> int:
    """What a batch has by its targets."""
    return int((batch.targets != -100).sum())


def rows(batch: Batch, chosen: slice) -> Batch:
    """Some rows of a batch."""
    part = dataclasses.replace(
        batch, inputs=tuple(tensor[chosen] for tensor in batch.inputs), targets=batch.targets[chosen]
    )
    return dataclasses.replace(part, count=units(part))


def wide(batch: Batch) -> Batch:
    """The same with numbers in float64."""
    inputs = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in batch.inputs)
    return dataclasses.replace(batch, inputs=inputs)


def step_of(trainer: Trainer, batches: list[Batch], monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, list[Tensor]]:
    """The loss and the gradient, in float64, of a step that reads these batches."""
    trainer.module.double()
    trainer.loss = trainer.loss.double()
    monkeypatch.setattr(trainer, "read", lambda step, micro_step, world: wide(batches[micro_step]))
    for _ in batches:
        trainer.accumulate()
    gradient = [parameter.grad for parameter in trainer.module.parameters() if parameter.grad is not None]
    assert gradient
    return trainer.loss, gradient


def assert_same(actual: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]]) -> None:
    assert_close(actual[0], expected[0])
    for ours, theirs in zip(actual[1], expected[1], strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_of_unequal_size_give_the_gradient_and_the_loss_of_the_one_large_batch(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(of_task(task, tmp_path), tmp_path)
    batch = trainer.task.batch(0, 0)
    parts = [rows(batch, slice(0, 1)), rows(batch, slice(1, 3)), rows(batch, slice(3, None))]
    assert sum(part.count for part in parts) == batch.count
    assert len({part.count for part in parts}) == 3
    expected = step_of(trainer, [batch], monkeypatch)
    apart = trainer_of(of_task(task, tmp_path, accumulation=3), tmp_path)
    assert_same(step_of(apart, parts, monkeypatch), expected)


def test_batches_of_16_and_283_words_weigh_as_many_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of the two batches' means would let a word of the small one weigh 17.7 times one of the other."""
    config = of_task("translation", tmp_path, accumulation=2, label_smoothing=0.1)
    trainer = trainer_of(config, tmp_path)
    batch = trainer.task.batch(0, 0)
    width = batch.targets.shape[1]

    def of_words(n: int) -> Batch:
        n_rows = -(-n // width)
        tokens = torch.arange(n_rows * width).remainder(200).reshape(n_rows, width)
        targets = tokens.flatten().masked_fill(torch.arange(n_rows * width) >= n, -100).reshape(n_rows, width)
        source = batch.inputs[0][:1].expand(n_rows, -1)
        return Batch(inputs=(source, tokens, torch.ones_like(source, dtype=torch.bool)), targets=targets, count=n)

    batches = [of_words(16), of_words(283)]
    loss, gradient = step_of(trainer, batches, monkeypatch)
    module = trainer.module
    module.zero_grad()
    logits = torch.cat([trainer.task.logits(module, each).flatten(0, 1) for each in batches])
    targets = torch.cat([each.targets.flatten() for each in batches])
    mean = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    mean.backward()  # type: ignore[no-untyped-call]
    whole = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert_same((loss, gradient), (mean, whole))


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_is_the_sum_over_the_units_and_their_number(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(of_task(task, tmp_path), tmp_path)
    batch = trainer.task.batch(1, 0)
    assert batch.count == units(batch)
    logits = trainer.task.logits(trainer.module, batch).detach().double()
    total, count = trainer.task.loss(logits, batch)
    assert count == batch.count
    if task == "word-vectors":
        right = torch.zeros_like(logits)
        right[:, 0] = 1
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, right, reduction="sum")
    else:
        flat = logits.reshape(-1, logits.shape[-1])
        expected = torch.nn.functional.cross_entropy(flat, batch.targets.flatten(), reduction="sum")
    assert_close(total, expected)


# ---- ranks


@pytest.mark.parametrize("task", TASKS)
def test_two_ranks_read_between_them_what_one_reads_in_twice_as_many_micro_batches(task: str, tmp_path: Path) -> None:
    alone = task_of(task, tmp_path, accumulation=4)
    together = task_of(task, tmp_path, accumulation=2)
    for step in (0, 3):
        expected = [alone.batch(step, number) for number in range(4)]
        actual = [
            together.batch(step, micro_step, World(rank=rank, size=2)) for micro_step in range(2) for rank in range(2)
        ]
        for ours, theirs in zip(actual, expected, strict=True):
            assert torch.equal(ours.targets, theirs.targets)
            assert all(map(torch.equal, ours.inputs, theirs.inputs))
        assert not all(map(torch.equal, expected[0].inputs, expected[1].inputs))


def task_of(task: str, folder: Path, accumulation: int) -> Task:
    config = of_task(task, folder, accumulation=accumulation)
    return TASKS[config.task](config, folder / "tokens", lambda text: None)


def test_a_world_has_a_rank_for_each_process_and_no_others() -> None:
    micro_batches = [World(rank=rank, size=3).micro_batch(step) for step in range(4) for rank in range(3)]
    assert micro_batches == list(range(12))
    for rank, size in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(ConfigError, match="A rank is from 0"):
            World(rank=rank, size=size)


# ---- resumed in the middle of a step


@pytest.mark.parametrize("counted", [True, False], ids=["as it is", "from before units were counted"])
def test_a_step_that_was_stopped_in_the_middle_ends_as_if_it_had_not_been(counted: bool, tmp_path: Path) -> None:
    """Where a state does not say what its sums are of, the step begins anew."""
    config = of_task("translation", tmp_path, accumulation=3)
    straight, stopped, resumed = (trainer_of(config, tmp_path) for _ in range(3))
    for trainer in (straight, stopped):
        make_steps(trainer, 2)
    stopped.accumulate()
    state = stopped.state()
    values = {name: value for name, value in state.values.items() if counted or name not in ("count", "expected")}
    resumed.restore(stopped.module, dataclasses.replace(state, values=values))
    assert (resumed.step, resumed.micro_step) == (2, int(counted))
    for trainer in (straight, resumed):
        make_steps(trainer, 1)
    for ours, theirs in zip(resumed.module.parameters(), straight.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def make_steps(trainer: Trainer, n_steps: int) -> None:
    for _ in range(n_steps):
        while trainer.micro_step < trainer.config.accumulation:
            trainer.accumulate()
        trainer.update()
