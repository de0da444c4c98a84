"""Those who listen to a run: a file of figures, a plot, TensorBoard, and a line of progress at the terminal.

Each is a function of one event (`events.py`), made by a function that says where it writes; `all_of` joins several.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.errors import MissingExtra
from glassformer.training.events import Ended, Evaluated, Event, OnEvent, Said, Started, StepDone


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
        listeners = [say, metrics_file(folder / "metrics.jsonl")]
        for make, path in ((loss_plot, folder / "loss.png"), (tensorboard, folder / "tensorboard")):
            try:
                listeners.append(make(path))
            except MissingExtra as missing:
                say(Said(text=str(missing)))
        yield all_of(*listeners)


def metrics_file(path: Path) -> OnEvent:
    """One JSON object a line for every step and evaluation. A resumed run drops the lines of steps it makes again."""

    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            kept = [record for record in _records(path) if record["step"] <= event.step]
            files.write_file(path, "".join(f"{json.dumps(record)}\n" for record in kept).encode(), overwrite=True)
        elif isinstance(event, StepDone | Evaluated):
            record = asdict(event)
            figures = record.pop("figures", {})
            record |= {f"validation_{name}": value for name, value in figures.items()}
            with path.open("a") as file:
                file.write(json.dumps({name: _finite(value) for name, value in record.items()}) + "\n")

    return on_event


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
        records = _records(path.with_name("metrics.jsonl"))
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per token)", title=path.parent.name)
        for key, label in {"loss": "training", "validation_loss": "validation"}.items():
            points = [(record["step"], record[key]) for record in records if record.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1)
        if axes.lines:
            axes.legend()
        aside = path.with_name(f".{path.name}.part")
        figure.savefig(aside, format="png", dpi=120)
        aside.replace(path)

    return on_event


def tensorboard(folder: Path) -> OnEvent:
    """Scalars for TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "train", "Writing TensorBoard files") from None
    writers: list[Any] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            writers.append(SummaryWriter(str(folder), purge_step=event.step + 1))
        elif isinstance(event, StepDone):
            for name in ("loss", "lr", "grad_norm", "per_second"):
                writers[0].add_scalar(f"training/{name}", getattr(event, name), event.step)
        elif isinstance(event, Evaluated):
            for name, value in event.figures.items():
                writers[0].add_scalar(f"validation/{name}", value, event.step)
        elif isinstance(event, Ended):
            writers.pop().close()

    return on_event


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[OnEvent]:
    """A bar with tokens/s, loss, learning rate and time left on a terminal's stderr; elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, refresh_per_second=4) as bar:
        task = bar.add_task("", total=None)

        def on_event(event: Event) -> None:
            if quiet:
                return
            if isinstance(event, Started):
                bar.update(task, completed=event.step, total=event.steps)
            if isinstance(event, StepDone):
                bar.update(task, completed=event.step, total=event.steps, description=_describe(event))
                if not console.is_terminal and _worth_a_line(event):
                    console.print(f"step {event.step:,}/{event.steps:,}  {_describe(event)}", markup=False)
            elif sentence := _sentence(event):
                console.print(sentence, markup=False)

        yield on_event


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
        since = f"from step {event.step:,} " if event.step else ""
        return f"Training {event.parameters:,} parameters {since}on {event.device} in {event.dtype}."
    if isinstance(event, Evaluated) and event.figures:
        figures = ", ".join(f"{_spaced(k)} {_number(v)}" for k, v in event.figures.items())
        return f"step {event.step:,}, validation: {figures}"
    if isinstance(event, Said):
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
