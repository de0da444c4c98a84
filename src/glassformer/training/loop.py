"""The training loop: accumulate gradients, move the weights, evaluate, save; and begin again where a run broke off.

    train(load_run_config("configs/sort.toml"), Path("runs/sort"))

Everything random is a function of (seed, step, micro-step, rank): batches (`data/memmap.py`) and dropout. So a run
that was stopped and resumed is the run that was not, to the bit. Next to read: `trainer.py`, `tasks/`, `run_folder.py`.
"""

import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from glassformer.errors import CheckpointError, TrainingError
from glassformer.training.config import RunConfig
from glassformer.training.device import choose_device, cpu_threads
from glassformer.training.events import (
    Ended,
    Evaluated,
    Evaluating,
    Event,
    Figures,
    GradientReady,
    Notice,
    OnEvent,
    Saved,
)
from glassformer.training.input_files import check_files
from glassformer.training.prefetch import prefetching
from glassformer.training.pretrained_init import load_pretrained
from glassformer.training.run_folder import RunFolder
from glassformer.training.schedule import learning_rate
from glassformer.training.signals import Stop, Stopped, stop_on_signal
from glassformer.training.tasks import TASKS
from glassformer.training.tasks.task import Say, Task
from glassformer.training.trainer import Trainer, build_module, due


def train(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Ended:
    """Train from the first step, or `resume` from the newest checkpoint in the run's folder.

    A folder that holds a run already is refused, unless `overwrite` says to remove that run; it is removed when the
    new one is about to make its first step, and stays where the new one cannot be made.

    SIGINT, SIGTERM and SIGHUP end the run after the micro-step in progress, or in the middle of a validation, with a
    checkpoint; so does a listener whose reader has left (`BrokenPipeError`). A figure that is not finite raises
    `TrainingError`, unless `on_nonfinite` says to skip it; it never reaches the weights.
    """
    began = time.monotonic()
    device, _ = choose_device(config.device)
    run = RunFolder(folder)
    if not resume:
        check_files(config, folder)
    figures: Figures = {}
    stop = Stop()

    def tell(event: Event) -> None:
        try:
            on_event(event)
        except BrokenPipeError:
            stop.signal = stop.signal or signal.SIGPIPE

    listening, said_elsewhere = threading.get_ident(), queue.SimpleQueue[str]()

    def say(text: str) -> None:
        """Listeners hear everything from this thread, what the one that prepares batches says a little later."""
        if threading.get_ident() == listening:
            tell(Notice(text=text))
        else:
            said_elsewhere.put(text)

    gpus = [device] if device.type == "cuda" else []
    held = run.held(config, resume=resume, overwrite=overwrite)
    with torch.random.fork_rng(gpus), cpu_threads(config.threads), held:
        with run.begin(config, resume=resume) as data_folder:
            task = TASKS[config.task](config, data_folder, say)
            module = build_module(config, task, device)
            checkpoint, state = (run.newest(say) if resume else None) or (None, None)
            if checkpoint is None:
                load_pretrained(module, config, task, say)
            trainer = Trainer(config, task, module)
            if checkpoint is not None and state is not None:
                trainer.restore(checkpoint.module, state)
                task.extras = {**task.extras, "rest": checkpoint.rest}
                say_what_changes(run.before(), config, trainer.step, trainer.d_model, say)
        began_at = trainer.step
        saved_at = None if checkpoint is None else trainer.place

        def evaluate() -> None:
            nonlocal figures

            def progress(done: int, total: int) -> None:
                if stop.signal is not None:
                    raise Stopped
                left = (total - done) / done * (time.perf_counter() - since) if done else trainer.throughput.evaluation
                tell(Evaluating(step=trainer.step, share=done / total, seconds_left=left))

            since = time.perf_counter()
            with stop.at_once():
                progress(0, 1)
                figures = task.evaluate(trainer.module, progress)
                trainer.evaluated = trainer.step
            trainer.throughput.evaluated(time.perf_counter() - since)
            if trainer.evaluated == trainer.step:
                tell(Evaluated(step=trainer.step, figures=figures))

        def save() -> None:
            nonlocal saved_at
            path = run.save(trainer.state(), trainer.module, task, keep=config.keep)
            saved_at = trainer.place
            tell(Saved(step=trainer.step, path=path))
            trainer.throughput.pause()

        stopping = "Stopping: the state is being saved. A second signal ends it at once."
        ahead = prefetching(task.batch, steps=config.steps, accumulation=config.accumulation)
        with advising_to_resume(folder), stop_on_signal(stop, lambda: say(stopping)), ahead as trainer.read:
            for text in surprises(config, task):
                say(text)
            tell(trainer.started(folder))
            if trainer.owes_evaluation:  # since it was stopped in the middle of one
                evaluate()
            while trainer.step < config.steps and stop.signal is None:
                batch = trainer.accumulate()
                while not said_elsewhere.empty():
                    say(said_elsewhere.get())
                if trainer.micro_step < config.accumulation:
                    continue
                tell(GradientReady(step=trainer.step + 1, module=trainer.module, inputs=batch.inputs))
                tell(trainer.update())
                if trainer.owes_evaluation:
                    evaluate()
                if due(trainer.step, config.save_interval, config.steps) and stop.signal is None:
                    save()
            if saved_at != trainer.place:
                save()
            run.publish()
        finished = trainer.step == config.steps and not trainer.owes_evaluation
        ended = Ended(
            step=trainer.step,
            steps_made=trainer.step - began_at,
            folder=folder,
            seconds=time.monotonic() - began,
            figures=figures,
            interrupted_by=None if finished else stop.signal,
        )
        tell(ended)
    return ended


def surprises(config: RunConfig, task: Task) -> Iterator[str]:
    """What a person may not expect of these settings and this data, in sentences."""
    if config.schedule.kind != "constant" and config.schedule.warmup_steps >= config.steps:
        yield (
            "The learning rate is still rising when the run ends: schedule.warmup_steps is "
            f"{config.schedule.warmup_steps}, steps {config.steps}."
        )
    some, batches = task.evaluation_batches
    if 0 < some < batches:
        yield f"A validation takes {some:,} of {batches:,} batches, spread evenly; with eval_batches 0 all."
    if not batches and config.data.validation_fraction:
        yield "There is too little to hold any of it out, so that no validation will say what was learned."


@contextmanager
def advising_to_resume(folder: Path) -> Iterator[None]:
    """Where a checkpoint cannot be written, say how to go on from the last one that was."""
    try:
        yield
    except CheckpointError as error:
        raise TrainingError(
            f"{error} The run goes on from its newest checkpoint when that is mended:",
            python="pass resume=True.",
            command=f"glassformer train --resume {folder}",
        ) from error


def say_what_changes(before: RunConfig, config: RunConfig, step: int, d_model: int, say: Say) -> None:
    """Say where other settings change the learning rate of steps to come: a cosine falls over all steps of a run."""
    for number in (step + 1, min(before.steps, config.steps)):
        old, new = (learning_rate(each, number, d_model) for each in (before, config))
        if old != new and step < config.steps:
            longer = f"the run takes {config.steps:,} steps instead of {before.steps:,}"
            why = longer if before.steps != config.steps else "the settings have changed"
            say(f"The schedule changes: the rate of step {number:,} is {new:.2e} instead of {old:.2e}, since {why}.")
            break
