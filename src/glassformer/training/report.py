"""Those who listen to a run: a file of figures, a plot, TensorBoard, and a line of progress at the terminal.

None of them ends a run, except that nobody is at the terminal any more. Each is a function of one event (`events.py`),
made by a function that says where it writes; `all_of` joins several.
"""

import errno
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.errors import MissingExtra
from glassformer.printable import printable
from glassformer.training.events import Ended, Evaluated, Evaluating, Event, Notice, OnEvent, Started, StepDone
from glassformer.training.ledger import Ledger
from glassformer.training.run_folder import METRICS, PLOT, TENSORBOARD

SCALARS = ("loss", "lr", "grad_norm", "per_second")  # of a step, for TensorBoard
SECONDS_BETWEEN_LINES = 10  # of a validation


def all_of(*listeners: OnEvent) -> OnEvent:
    """Every listener hears every event, in this order."""

    def on_event(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return on_event


@contextmanager
def reports(folder: Path, *, quiet: bool = False) -> Iterator[OnEvent]:
    """All reports that this installation can make, for a run in `folder`; what is missing is said once."""
    with progress(quiet=quiet) as say:
        listeners = [metrics_file(folder / METRICS, say)]
        for make, name in ((loss_plot, PLOT), (tensorboard, TENSORBOARD)):
            try:
                listeners.append(optional(make(folder / name), name, say))
            except MissingExtra as missing:
                say(Notice(text=str(missing)))
        yield all_of(*listeners, say)  # last, since nobody listens any more when it raises


def optional(listener: OnEvent, name: str, say: OnEvent) -> OnEvent:
    """A listener that no run depends on: when it fails, that is said, and it is not called again."""
    works = True

    def on_event(event: Event) -> None:
        nonlocal works
        if works:
            try:
                listener(event)
            except Exception as error:  # whatever a library makes of a full disk, of a font, of a file that has gone
                works = False
                say(Notice(text=f"{name} is not written any more, the run goes on: {' '.join(str(error).split())}"))

    return on_event


def metrics_file(path: Path, say: OnEvent = lambda event: None) -> OnEvent:
    """One JSON object a line for every step and evaluation. A resumed run drops the lines of steps it makes again.

    What a full disk does not take waits until it does.
    """
    waiting = b""

    def on_event(event: Event) -> None:
        nonlocal waiting
        if isinstance(event, Started):
            kept = [record for record in _records(path) if record["step"] <= event.step]
            files.write_file(path, "".join(f"{json.dumps(record)}\n" for record in kept).encode(), overwrite=True)
        elif isinstance(event, StepDone | Evaluated):
            record = asdict(event)
            figures = record.pop("figures", {})
            record |= {f"validation_{name}": value for name, value in figures.items()}
            line = json.dumps({name: _finite(value) for name, value in record.items()}).encode() + b"\n"
            was_waiting, waiting = bool(waiting), waiting + line
            try:
                _append(path, waiting)
                waiting = b""
            except OSError as error:
                if not was_waiting:
                    say(Notice(text=f"{path} cannot be written, its lines wait until it can: {error.strerror}."))

    return on_event


def _append(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


def _records(path: Path) -> list[dict[str, Any]]:
    """The records of a file that a killed process may have left in the middle of one."""
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    records = []
    for line in text.splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: null stands for them."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def loss_plot(path: Path) -> OnEvent:
    """Draw the loss over the steps, from the metrics beside `path`, at every evaluation and at the end."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plot", "Drawing loss.png") from None

    def on_event(event: Event) -> None:
        if not isinstance(event, Evaluated | Ended):
            return
        records = _records(path.with_name(METRICS))
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per token)")  # a run's name may have any letters
        for key, label in {"loss": "training", "validation_loss": "validation"}.items():
            points = [(record["step"], record[key]) for record in records if record.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1)
        if axes.lines:
            axes.legend()
        with files.new_file(path, overwrite=True) as new:
            figure.savefig(new, format="png", dpi=120)

    return on_event


def tensorboard(folder: Path) -> OnEvent:
    """Scalars for TensorBoard, a record a step. Its own writer has a thread, whose errors nobody can catch."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise MissingExtra("tensorboard", "train", "Writing TensorBoard files") from None
    path = folder

    def write(**content: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(Record(wall_time=time.time(), **content).SerializeToString())
        _append(path, record.getvalue())

    def on_event(event: Event) -> None:
        nonlocal path
        if isinstance(event, Started):
            path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            Ledger(folder.parent).add(f"{folder.name}/{path.name}")
            folder.mkdir(parents=True, exist_ok=True)
            write(file_version="brain.Event:2")
            write(step=event.step + 1, session_log=SessionLog(status=SessionLog.START))  # drops what came after
        elif isinstance(event, StepDone | Evaluated):
            if isinstance(event, Evaluated):
                scalars = {f"validation/{name}": value for name, value in event.figures.items()}
            else:
                scalars = {f"training/{name}": getattr(event, name) for name in SCALARS}
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            write(step=event.step, summary=Summary(value=values))

    return on_event


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[OnEvent]:
    """A bar with tokens/s, loss, learning rate and time left on a terminal's stderr; elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    class Terminal(Console):
        def on_broken_pipe(self) -> None:  # rich itself would end the process
            raise BrokenPipeError

    console = Terminal(stderr=True, highlight=False, soft_wrap=True)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal, refresh_per_second=4)
    task = bar.add_task("", total=None)
    last_line = time.monotonic()
    gone = False

    def show(event: Event) -> None:
        nonlocal last_line
        sentence = _sentence(event)
        if isinstance(event, Started):
            bar.update(task, completed=event.step, total=event.steps)
        if isinstance(event, StepDone):
            bar.update(task, completed=event.step, total=event.steps, description=_describe(event))
            if not console.is_terminal and _worth_a_line(event):
                sentence = f"step {event.step:,}/{event.steps:,}  {_describe(event)}"
        if isinstance(event, Evaluating):
            description = f"validation: {event.share:.0%}, {_duration(event.seconds_left)} left"
            bar.update(task, description=description)
            if not console.is_terminal and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                sentence = f"step {event.step:,}, {description}"
        if sentence:
            console.print(printable(sentence, keep="\n"), markup=False)
            last_line = time.monotonic()

    def on_event(event: Event) -> None:
        nonlocal gone
        if not (quiet or gone):
            try:
                show(event)
            except OSError:  # the terminal has closed, or the program that read our lines has ended
                gone = True
                raise BrokenPipeError from None

    bar.start()
    try:
        yield on_event
    finally:
        with suppress(OSError):
            bar.stop()


def _describe(event: StepDone) -> str:
    skipped = "" if event.applied else "  skipped: not finite"
    left = f"{_duration(event.seconds_left)} left"
    return f"loss {event.loss:.4f}  lr {event.lr:.2e}  {event.per_second:,.0f} {event.unit}/s  {left}{skipped}"


def _worth_a_line(event: StepDone) -> bool:
    """Steps 1, 2, 5, 10, 20, 50, … to see that it runs, then every twentieth part of the run."""
    leading = str(event.step).rstrip("0") in ("1", "2", "5") and event.step < event.steps // 20
    return leading or event.step % max(event.steps // 20, 1) == 0 or not event.applied


def _sentence(event: Event) -> str:
    if isinstance(event, Started):
        preset = f"of the preset {event.preset} " if event.preset else ""
        since = f"from step {event.step:,} " if event.step else ""
        return f"Training {event.parameters:,} parameters {preset}{since}on {event.device} in {event.dtype}."
    if isinstance(event, Evaluated) and event.figures:
        figures = ", ".join(f"{_spaced(k)} {_number(v)}" for k, v in event.figures.items())
        return f"step {event.step:,}, validation: {figures}"
    if isinstance(event, Notice):
        return event.text
    if isinstance(event, Ended) and not event.finished:
        return f"Stopped at step {event.step:,}. Go on with:  glassformer train --resume {event.folder}"
    if isinstance(event, Ended) and event.steps_made == 0:
        return f"All {event.step:,} steps were made before; --steps asks for more. The model is in {event.folder}."
    if isinstance(event, Ended):
        return f"Trained {event.steps_made:,} steps in {_duration(event.seconds)}. The model is in {event.folder}."
    return ""


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
