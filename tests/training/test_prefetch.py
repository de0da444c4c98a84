"""Preparing the next batch while a step runs: the same run to the bit, and nothing that stays behind."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from glassformer import twins
from glassformer.errors import DataError
from glassformer.training import loop
from glassformer.training.config import RunConfig
from glassformer.training.events import Event, Notice, StepDone
from glassformer.training.loop import train
from glassformer.training.prefetch import Read, prefetching
from glassformer.training.tasks import TASKS, LanguageModel
from glassformer.training.tasks.task import Batch, Say
from glassformer.training.world import ALONE, World
from training.runs import everything, of_task, small

EMPTY = Batch(inputs=(), targets=torch.zeros(0), count=0)


class Reader:
    """Notes which batches are asked for, in which thread; some cannot be read."""

    def __init__(self, *bad: tuple[int, int]) -> None:
        self.read, self.threads, self.bad = list[tuple[int, int]](), set[int](), bad

    def __call__(self, step: int, micro_step: int, world: World) -> Batch:
        self.read.append((step, micro_step))
        self.threads.add(threading.get_ident())
        if (step, micro_step) in self.bad:
            raise DataError(f"no batch {step}, {micro_step}")
        return EMPTY


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


def test_one_batch_is_prepared_ahead_by_one_other_thread_up_to_the_end_of_the_run() -> None:
    reader = Reader()
    with prefetching(reader, steps=2, accumulation=3) as read:
        addresses = [(step, micro_step) for step in range(2) for micro_step in range(3)]
        for number, address in enumerate(addresses):
            read(*address, World())
            assert len(reader.read) <= number + 2
    assert reader.read == addresses
    assert len(reader.threads) == 1
    assert threading.get_ident() not in reader.threads


def test_batches_may_be_asked_for_in_any_order() -> None:
    reader = Reader()
    with prefetching(lambda *address: (reader(*address), address)[1], steps=9, accumulation=2) as read:  # type: ignore[arg-type, return-value]
        for address in ((4, 1), (4, 1), (0, 0), (5, 0)):
            assert read(*address, World()) == (*address, World())


def test_an_error_is_raised_where_its_batch_is_asked_for() -> None:
    reader = Reader((0, 1))
    with prefetching(reader, steps=2, accumulation=2) as read:
        read(0, 0, World())
        with pytest.raises(DataError, match="no batch 0, 1"):
            read(0, 1, World())
        read(1, 0, World())


def test_batches_are_prepared_by_the_twins_that_are_in_use() -> None:
    modes: list[str] = []

    def read_mode(step: int, micro_step: int, world: World) -> Batch:
        modes.append(twins.current().mode)
        return EMPTY

    with twins.use("readable"), prefetching(read_mode, steps=2, accumulation=1) as read:
        read(0, 0, World())
    assert set(modes) == {"readable"}


@contextmanager
def at_once(read: Read, *, steps: int, accumulation: int) -> Iterator[Read]:
    yield read


@pytest.mark.parametrize("task", sorted(TASKS.keys() - {"sort"}))  # which reads as the language model does
def test_a_run_is_the_one_that_prepares_each_batch_when_it_needs_it_to_the_bit(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = of_task(task, tmp_path, accumulation=2, eval_interval=2, eval_batches=1)
    train(config, tmp_path / "ahead")
    monkeypatch.setattr(loop, "prefetching", at_once)
    train(config, tmp_path / "at once")
    assert everything(tmp_path / "ahead") == everything(tmp_path / "at once")


@pytest.mark.parametrize("signals", [1, 2])
def test_no_thread_stays_when_a_run_is_interrupted(signals: int, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)

    if signals == 1:
        assert train(small(tmp_path), tmp_path / "run", on_event=interrupt).interrupted_by == signal.SIGINT
    else:
        with pytest.raises(KeyboardInterrupt):
            train(small(tmp_path), tmp_path / "run", on_event=interrupt)


def test_data_that_cannot_be_read_ends_the_run_at_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, steps = LanguageModel.batch, list[int]()

    def unreadable(self: LanguageModel, step: int, micro_step: int, world: World = ALONE) -> Batch:
        if (step, micro_step) == (2, 1):
            raise DataError("The disk is gone.")
        return batch(self, step, micro_step, world)

    monkeypatch.setattr(LanguageModel, "batch", unreadable)
    with pytest.raises(DataError, match="The disk is gone"):
        train(small(tmp_path), tmp_path / "run", on_event=lambda event: steps.append(getattr(event, "step", 0)))
    assert max(steps) == 2


def test_what_is_said_of_a_batch_is_heard_in_the_thread_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    class Talking(LanguageModel):
        def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
            self.say = say
            super().__init__(config, folder, say)

        def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
            self.say(f"batch {step}, {micro_step}")
            return super().batch(step, micro_step, world)

    def listen(event: Event) -> None:
        assert threading.current_thread() is threading.main_thread()
        texts.append(event.text if isinstance(event, Notice) else "")

    monkeypatch.setattr(loop, "TASKS", {"language-model": Talking})
    train(small(tmp_path, steps=2, accumulation=2), tmp_path / "run", on_event=listen)
    remarks = [text for text in texts if text.startswith("batch")]
    assert remarks == ["batch 0, 0", "batch 0, 0", "batch 0, 1", "batch 1, 0", "batch 1, 1"]  # its text is tried first
