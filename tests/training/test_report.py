"""What listeners make of a run: figures on disk, a plot, TensorBoard's files, lines at the terminal."""

import io
import json
import math
import sys
from pathlib import Path

import pytest

from glassformer.errors import MissingExtra
from glassformer.training import report
from glassformer.training.events import Ended, Evaluated, Notice, Started, StepDone
from glassformer.training.loop import train
from training.runs import small
from training.test_loop import interrupt_after


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, steps: int = 100, loss: float = 2.5, applied: bool = True) -> StepDone:
    return StepDone(
        step=number,
        steps=steps,
        loss=loss,
        lr=1e-3,
        grad_norm=0.5,
        per_second=12345.6,
        unit="tokens",
        seconds_left=3725.0,
        applied=applied,
    )


def started(folder: Path, number: int = 0) -> Started:
    return Started(folder=folder, step=number, steps=100, parameters=1234567, device="cpu", dtype="float32")


def ended(folder: Path, interrupted_by: int | None = None, steps_made: int = 100) -> Ended:
    return Ended(
        step=100, steps_made=steps_made, folder=folder, seconds=61.0, figures={}, interrupted_by=interrupted_by
    )


def test_metrics_have_a_line_for_every_step_and_evaluation(tmp_path: Path) -> None:
    with report.reports(tmp_path / "run") as on_event:
        train(small(tmp_path), tmp_path / "run", on_event=on_event)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "lr" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "validation_loss" in line] == [5, 10, 12]
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_a_resumed_run_has_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = report.metrics_file(tmp_path / "run" / "metrics.jsonl")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 14)
        train(small(tmp_path), tmp_path / "run", on_event=listener)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:  # steps after the checkpoint, the last cut short
        file.write('{"step": 5, "lr": 1}\n{"step": 6, "l')
    train(small(tmp_path), tmp_path / "run", resume=True, on_event=listener)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "lr" in line] == list(range(1, 13))


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    listener = report.metrics_file(tmp_path / "metrics.jsonl")
    listener(started(tmp_path))
    listener(step(1, loss=math.nan))
    listener(Evaluated(step=1, figures={"loss": math.inf, "correct": 3}))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] is None
    assert lines[1] == {"step": 1, "validation_loss": None, "validation_correct": 3}


@pytest.mark.parametrize(("library", "extra"), [("matplotlib", "plot"), ("tensorboard", "train")])
def test_a_missing_extra_is_said_once_and_the_rest_goes_on(
    library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library or "utils.tensorboard" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    make = {"plot": report.loss_plot, "train": report.tensorboard}[extra]
    with pytest.raises(MissingExtra, match=rf"pip install 'glassformer\[{extra}\]'"):
        make(tmp_path / "x")
    with report.reports(tmp_path / "run") as on_event:
        train(small(tmp_path, steps=2), tmp_path / "run", on_event=on_event)
    assert capsys.readouterr().err.count(f"glassformer[{extra}]") == 1
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_away_from_a_terminal_there_are_plain_lines_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with report.progress() as on_event:
        on_event(started(tmp_path))
        for number in range(1, 101):
            on_event(step(number))
        on_event(Evaluated(step=100, figures={"correct": 729, "loss": 1.5}))
        on_event(ended(tmp_path))
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert lines[0] == "Training 1,234,567 parameters on cpu in float32."
    assert "step 5/100  loss 2.5000  lr 1.00e-03  12,346 tokens/s  1 h 02 min left" in lines
    assert len(lines) < 30
    assert lines[-2] == "step 100, validation: correct 729, loss 1.5000"
    assert lines[-1] == f"Trained 100 steps in 1 min 01 s. The model is in {tmp_path}."
    assert "\x1b" not in text


def test_a_run_that_had_made_its_steps_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress() as on_event:
        on_event(ended(tmp_path, steps_made=0))
    assert "All 100 steps were made before" in capsys.readouterr().err


def test_at_a_terminal_there_is_a_bar_with_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with report.progress() as on_event:
        on_event(started(tmp_path, 41))
        on_event(step(42))
    text = stream.getvalue()
    assert "from step 41" in text
    for part in ("42/100", "loss 2.5000", "lr 1.00e-03", "12,346 tokens/s", "1 h 02 min left"):
        assert part in text


def test_a_skipped_step_and_an_interruption_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress() as on_event:
        on_event(step(7, steps=10_000, loss=math.nan, applied=False))
        on_event(ended(tmp_path, interrupted_by=2))
        on_event(Notice(text="[red]as it is[/red]"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("skipped: not finite")
    assert lines[1] == f"Stopped at step 100. Go on with:  glassformer train --resume {tmp_path}"
    assert lines[2] == "[red]as it is[/red]"


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress(quiet=True) as on_event:
        on_event(started(tmp_path))
        on_event(step(1))
        on_event(ended(tmp_path))
    assert capsys.readouterr().err == ""
