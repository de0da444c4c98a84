"""How a run ends that is not let to its end: its state is saved, one sentence says so, and nothing small ends it."""

import errno
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from glassformer import files
from glassformer.errors import DataError, GlassformerError, TrainingError
from glassformer.training import report
from glassformer.training.events import Ended, Evaluated, Evaluating, Event, Notice, StepDone
from glassformer.training.ledger import Ledger
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.training.run_folder import RunFolder
from glassformer.training.signals import Stop, stop_on_signal
from glassformer.training.tasks import LanguageModel
from support.counts import count
from test_files import faults
from training.runs import everything, small, sorting

FAST: dict[str, Any] = {"steps": 6, "accumulation": 1, "eval_interval": 2, "save_interval": 2}


def said(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


def full(*arguments: object, **settings: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- one process at a time


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_a_run_at_work_is_left_alone_and_the_process_is_named(how: dict[str, bool], tmp_path: Path) -> None:
    config, refusals = small(tmp_path, **FAST), []

    def meddle(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            with pytest.raises(TrainingError) as refused:
                train(config, tmp_path / "run", **how)
            refusals.append(str(refused.value))

    ended = train(config, tmp_path / "run", on_event=meddle)
    assert ended.finished
    assert refusals[0].startswith(f"{tmp_path / 'run'} holds a run already" if not how else "A run is at work in")
    assert not how or f"(process {os.getpid()})" in refusals[0]
    files.verify(tmp_path / "run")
    assert not (tmp_path / "run" / "run.lock").exists()


def test_a_lock_that_a_killed_process_left_stops_nobody_and_is_not_written_through_a_link(tmp_path: Path) -> None:
    config = small(tmp_path, **FAST)
    train(config, tmp_path / "run")
    (tmp_path / "run" / "run.lock").write_text("4711\n")
    assert train(config, tmp_path / "run", resume=True).finished
    (tmp_path / "run" / "run.lock").write_text("years of work")
    with pytest.raises(TrainingError, match=r"run\.lock is not of the run that is here"):
        train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.lock").read_text() == "years of work"
    (tmp_path / "run" / "run.lock").unlink()
    (tmp_path / "precious").write_text("1\n")
    (tmp_path / "run" / "run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(TrainingError, match=r"run\.lock"):
        train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "precious").read_text() == "1\n"


def test_what_a_process_was_started_to_ignore_stays_ignored(tmp_path: Path) -> None:
    """`nohup glassformer train …` goes on when the terminal closes."""

    def hang_up(event: Event) -> None:
        if isinstance(event, StepDone):
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(small(tmp_path, **FAST), tmp_path / "run", on_event=hang_up).finished
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_in_the_middle_of_a_write_is_noted_though_it_cannot_be_said() -> None:
    stop = Stop()

    def say() -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with stop_on_signal(stop, say):
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal == signal.SIGTERM


def test_a_terminal_that_closes_sends_its_signal_twice_and_the_run_is_saved(tmp_path: Path) -> None:
    def hang_up(event: Event) -> None:
        if isinstance(event, StepDone):
            for _ in range(3):
                signal.raise_signal(signal.SIGHUP)

    assert train(small(tmp_path, **FAST), tmp_path / "run", on_event=hang_up).interrupted_by == signal.SIGHUP
    assert train(small(tmp_path, **FAST), tmp_path / "run", resume=True).finished


# ---- validation


@pytest.mark.parametrize(("eval_interval", "step"), [(2, 2), (0, 6)], ids=["on the way", "after the last step"])
def test_a_validation_is_left_at_once_and_made_up_for_when_the_run_is_resumed(
    eval_interval: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, **FAST | {"eval_interval": eval_interval})
    train(config, tmp_path / "straight")
    evaluate = LanguageModel.evaluate

    def interrupted(self: LanguageModel, module: nn.Module, progress: Callable[[int, int], None]) -> Any:
        def in_the_middle(done: int, total: int) -> None:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it went on")

        return evaluate(self, module, in_the_middle)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "evaluate", interrupted)
        ended = train(config, tmp_path / "run")
    assert (ended.interrupted_by, ended.step) == (signal.SIGINT, step)
    events: list[Event] = []
    assert train(config, tmp_path / "run", resume=True, on_event=events.append).finished
    assert [event.step for event in events if isinstance(event, Evaluated)] == [*range(step, 7, 2)]
    assert everything(tmp_path / "run") == everything(tmp_path / "straight")


def test_a_validation_is_bounded_shows_its_progress_and_is_in_the_time_left(tmp_path: Path) -> None:
    events: list[Event] = []
    train(small(tmp_path, **FAST, eval_batches=2), tmp_path / "run", on_event=events.append)
    assert "A validation takes 2 of 8 batches" in said(events)
    shares = [event.share for event in events if isinstance(event, Evaluating) and event.step == 2]
    assert shares == [0.0, 0.5, 1.0]
    assert all(event.seconds_left > 0 for event in events if isinstance(event, StepDone)), "a validation is left"
    events.clear()
    train(small(tmp_path, **FAST, eval_batches=0), tmp_path / "all", on_event=events.append)
    assert "batches" not in said(events)


# ---- those who listen


@pytest.mark.parametrize("error", [BrokenPipeError, OSError(errno.EIO, "the terminal has closed")])
def test_a_run_nobody_listens_to_ends_saved(error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, **FAST, on_nonfinite="skip")

    class Gone:
        lines = 0

        def write(self, text: str) -> int:
            self.lines += text.count("\n")
            if self.lines > 4:
                raise error
            return len(text)

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

        encoding = "utf-8"

    monkeypatch.setattr(sys, "stderr", Gone())
    with report.reports(tmp_path / "run") as on_event:
        ended = train(config, tmp_path / "run", on_event=on_event)
    assert ended.interrupted_by == signal.SIGPIPE
    assert 0 < ended.step < 6
    steps = [record["step"] for record in report._records(tmp_path / "run" / "metrics.jsonl") if "lr" in record]
    assert steps == list(range(1, ended.step + 1)), "the others heard what the one who left did not"
    assert train(config, tmp_path / "run", resume=True).finished


def test_no_plot_and_no_tensorboard_ends_a_run_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", full)
    with report.reports(tmp_path / "run") as on_event:

        def disturb(event: Event) -> None:
            on_event(event)
            if isinstance(event, StepDone) and event.step == 2:
                (written,) = (tmp_path / "run" / "tensorboard").iterdir()
                written.unlink()
                written.mkdir()

        assert train(small(tmp_path, **FAST), tmp_path / "run", on_event=disturb).finished
    lines = capsys.readouterr().err
    assert lines.count("loss.png is not written any more, the run goes on") == 1
    assert lines.count("tensorboard is not written any more, the run goes on") == 1


def test_metrics_wait_until_the_disk_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    listener = report.metrics_file(tmp_path / "run" / "metrics.jsonl", events.append)
    append, calls = report._append, iter(range(10**6))

    def sometimes(path: Path, data: bytes) -> None:
        if 2 <= next(calls) < 5:
            full()
        append(path, data)

    monkeypatch.setattr(report, "_append", sometimes)
    train(small(tmp_path, **FAST), tmp_path / "run", on_event=listener)
    records = report._records(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records if "lr" in record] == [1, 2, 3, 4, 5, 6]
    assert said(events).count("its lines wait until it can") == 1


def test_the_name_of_a_run_may_have_any_letters(tmp_path: Path) -> None:
    with warnings.catch_warnings(), report.reports(tmp_path / "红楼梦 $x_") as on_event:
        warnings.simplefilter("error")
        assert train(sorting(steps=1), tmp_path / "红楼梦 $x_", on_event=on_event).finished
    assert (tmp_path / "红楼梦 $x_" / "loss.png").read_bytes().startswith(b"\x89PNG")


# ---- what is said


def test_what_a_preset_reads_is_said_before_it_is_trained(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 200)
    events: list[Event] = []
    config = resolve(
        {
            "model": {"preset": "gpt2", "n_layers": 1, "d_model": 8, "n_heads": 1},
            "data": {"path": str(tmp_path / "text.txt")},
            "steps": 1,
            "context_length": 8,
        }
    )
    train(config, tmp_path / "run", on_event=events.append)
    assert "different characters is a token" in said(events)
    assert "such as gpt2.tiktoken" in said(events), "most presets have none of their own"
    with pytest.raises(DataError, match="makes its own data"):
        train(sorting(data={"path": str(tmp_path / "text.txt")}), tmp_path / "sort")


def test_a_text_too_short_to_hold_any_of_it_out_is_said(tmp_path: Path) -> None:
    for text, is_said in (("to be or not to be " * 200, False), ("to be or not", True)):
        events: list[Event] = []
        config = small(tmp_path, steps=1, context_length=8, data={"validation_fraction": 0.05})
        (tmp_path / "text.txt").write_text(text)
        train(config, tmp_path / f"{is_said}", on_event=events.append)
        assert ("no validation will say" in said(events)) == is_said


def test_more_steps_change_the_schedule_and_it_is_said(tmp_path: Path) -> None:
    train(small(tmp_path, **FAST), tmp_path / "run")
    for settings, sentence in (
        ({"steps": 6}, ""),
        ({"steps": 9}, "the run takes 9 steps instead of 6"),
        ({"steps": 9, "optimizer": {"lr": 0.02}}, ""),  # nothing is left to change
        ({"steps": 12, "optimizer": {"lr": 0.02}}, "the run takes 12 steps instead of 9"),
    ):
        events: list[Event] = []
        train(small(tmp_path, **{**FAST, **settings}), tmp_path / "run", resume=True, on_event=events.append)
        assert ("The schedule changes" in said(events)) == bool(sentence)
        assert sentence in said(events)


# ---- full disks


def test_a_full_disk_at_any_moment_ends_a_run_in_a_sentence_and_it_resumes(tmp_path: Path) -> None:
    """Of training, saving, publishing and plotting: the last whole checkpoint is what the run goes on from."""
    generator = random.Random("full disks")
    config = small(tmp_path, **FAST)
    train(config, tmp_path / "straight")
    expected = everything(tmp_path / "straight")

    def attempt(run: Path, *, resume: bool) -> Ended | None:
        with report.reports(run, quiet=True) as on_event:
            try:
                return train(config, run, resume=resume, on_event=on_event)
            except GlassformerError:
                return None  # anything else would be a stack at the command line

    with faults(None) as counter:
        attempt(tmp_path / "counted", resume=False)
    for number in range(count("full disks while training")):
        run = tmp_path / f"run-{number}"
        code, forever = ((errno.ENOSPC, True), (errno.EIO, False))[number % 2]
        with faults(generator.randrange(counter.calls), code, forever=forever):
            attempt(run, resume=False)
        begun = RunFolder(run).settings.is_file()
        with faults(generator.randrange(counter.calls), code, forever=forever):
            attempt(run, resume=begun)
        begun = RunFolder(run).settings.is_file()
        ended = attempt(run, resume=begun)
        assert ended is not None
        assert ended.finished
        assert everything(run) == expected
        files.verify(run)
        assert [path.name for path in run.rglob(".*")] == []
        assert Ledger(run).strangers() == []
        assert not (run / "run.lock").exists()
