"""The training loop: accumulate gradients, move the weights, evaluate, save; and begin again where a run broke off.

    train(load_run_config("configs/sort.toml"), Path("runs/sort"))

Everything random is a function of (seed, step, micro-step, rank): batches (`data/memmap.py`) and dropout. So a run
that was stopped and resumed is the run that was not, to the bit. Next to read: `adamw.py`, `tasks/`, `run_folder.py`.
"""

import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from glassformer import models
from glassformer.config import to_mapping
from glassformer.errors import CheckpointError, CheckpointMismatch, TrainingError
from glassformer.training.adamw import AdamW, parameter_groups
from glassformer.training.clip import clip_gradients
from glassformer.training.config import RunConfig
from glassformer.training.device import choose_device, choose_dtype, cpu_threads
from glassformer.training.events import (
    Ended,
    Evaluated,
    Evaluating,
    Event,
    Figures,
    GradientReady,
    OnEvent,
    Said,
    Saved,
    Started,
    StepDone,
)
from glassformer.training.initial import set_initial_weights
from glassformer.training.inputs import check_files
from glassformer.training.prefetch import Read, prefetching
from glassformer.training.run_folder import RunFolder, State
from glassformer.training.schedule import constant, noam, warmup_cosine
from glassformer.training.signals import Stop, Stopped, stop_on_signal
from glassformer.training.tasks import TASKS
from glassformer.training.tasks.task import Batch, Say, Task
from glassformer.training.world import ALONE

# Times as long as forward alone: two of a step's three products with a matrix belong to the gradient.
FORWARD_AND_BACKWARD = 3


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
            tell(Said(text=text))
        else:
            said_elsewhere.put(text)

    gpus = [device] if device.type == "cuda" else []
    held = run.held(config, resume=resume, overwrite=overwrite)
    with torch.random.fork_rng(gpus), cpu_threads(config.threads), held:
        with run.begin(config, resume=resume) as tokens:
            task = TASKS[config.task](config, tokens, say)
            trainer = Trainer(config, task, device)
            newest = run.newest(say) if resume else None
            if newest is not None:
                checkpoint, state = newest
                trainer.restore(checkpoint.module, state)
                task.belongings = {**task.belongings, "rest": checkpoint.rest}
                say_what_changes(run.before(), config, trainer.step, trainer.d_model, say)
            else:
                set_initial_weights(trainer.module, config, task, say)
        began_at = trainer.step
        saved_at = None if newest is None else trainer.place

        def evaluate() -> None:
            nonlocal figures

            def progress(done: int, total: int) -> None:
                if stop.signal is not None:
                    raise Stopped
                left = (total - done) / done * (time.perf_counter() - since) if done else trainer.pace.evaluation
                tell(Evaluating(step=trainer.step, share=done / total, seconds_left=left))

            since = time.perf_counter()
            with stop.at_once():
                progress(0, 1)
                figures = task.evaluate(trainer.module, progress)
                trainer.evaluated = trainer.step
            trainer.pace.evaluated(time.perf_counter() - since)
            if trainer.evaluated == trainer.step:
                tell(Evaluated(step=trainer.step, figures=figures))

        def save() -> None:
            nonlocal saved_at
            path = run.save(trainer.state(), trainer.module, task, keep=config.keep)
            saved_at = trainer.place
            tell(Saved(step=trainer.step, path=path))
            trainer.pace.pause()

        stopping = "Stopping: the state is being saved. A second signal ends it at once."
        ahead = prefetching(task.batch, steps=config.steps, accumulation=config.accumulation)
        with advising_to_resume(folder), stop_on_signal(stop, lambda: say(stopping)), ahead as trainer.read:
            if config.schedule.kind != "constant" and config.schedule.warmup_steps >= config.steps:
                say(
                    "The learning rate is still rising when the run ends: schedule.warmup_steps is "
                    f"{config.schedule.warmup_steps}, steps {config.steps}."
                )
            some, batches = task.evaluation_batches
            if 0 < some < batches:
                say(f"A validation takes {some:,} of {batches:,} batches, spread evenly; with eval_batches 0 all.")
            if not batches and config.data.validation_fraction:
                say("There is too little to hold any of it out, so that no validation will say what was learned.")
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
                if _due(trainer.step, config.save_interval, config.steps) and stop.signal is None:
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


def _due(step: int, interval: int, steps: int) -> bool:
    return step == steps or (interval > 0 and step % interval == 0)


class Trainer:
    """A model, its optimizer, and how far they have come: `step` updates and `micro_step` gradients of the next.

    A step's loss and gradient are means over all its units (tokens, images, …), whatever micro-batch they are in. The
    sums are divided by `expected` as they come, which `update` corrects to the number that they turned out to be.
    """

    def __init__(self, config: RunConfig, task: Task, device: torch.device) -> None:
        self.config, self.task, self.device, self.world = config, task, device, ALONE
        self.read: Read = task.batch
        self.dtype, _ = choose_dtype(config.dtype, device)
        model_config = config.model_config(task.settings)
        self.d_model: int = getattr(model_config, "d_model", 1)
        torch.manual_seed(config.seed)
        self.module = models.spec_of(model_config).build(model_config).to(device).train()
        self.parameters = dict(self.module.named_parameters())
        settings = config.optimizer
        self.optimizer = AdamW(
            parameter_groups(self.module, settings.weight_decay), settings.lr, settings.betas, settings.eps
        )
        self.step = 0
        self.micro_step = 0
        self.evaluated = 0  # the step of the last evaluation
        self.count = 0  # units in this step so far
        self.expected = 1  # units in the whole step, if all its micro-batches have as many as the first
        self.loss = torch.zeros((), device=device)  # the sum over this step so far, divided by `expected`
        self.pace = Pace(evaluation=task.evaluation_batches[0] / config.accumulation / FORWARD_AND_BACKWARD)

    @property
    def place(self) -> tuple[int, int, int]:
        """What distinguishes two states of a run."""
        return self.step, self.micro_step, self.evaluated

    @property
    def owes_evaluation(self) -> bool:
        """Whether the weights are to be judged as they are, and have not been."""
        return self.evaluated < self.step and _due(self.step, self.config.eval_interval, self.config.steps)

    def accumulate(self) -> Batch:
        """Add the gradient of one micro-step; return the batch that it read."""
        config, world = self.config, self.world
        address = (config.seed, self.step, world.micro_batch(self.micro_step))
        torch.manual_seed(int(np.random.SeedSequence(address).generate_state(1, np.uint64)[0]))
        batch = self.read(self.step, self.micro_step, world).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.task.logits(self.module, batch)
        total, count = self.task.loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch)
        if self.micro_step == 0:
            self.expected = count * config.accumulation
        loss = total / self.expected
        loss.backward()  # type: ignore[no-untyped-call]
        self.loss += loss.detach()
        self.count += count
        self.micro_step += 1
        if self.micro_step >= config.accumulation:
            self._correct()
        return batch

    @torch.no_grad()
    def _correct(self) -> None:
        """Make the loss and the gradient means over the units of the whole step."""
        if self.count != self.expected:
            for tensor in (self.loss, *(p.grad for p in self.parameters.values() if p.grad is not None)):
                tensor.mul_(self.expected / self.count)

    def update(self) -> StepDone:
        """Move the weights by the accumulated gradient, unless it or the loss is not finite."""
        config = self.config
        self.step += 1
        lr = learning_rate(config, self.step, self.d_model)
        length = clip_gradients(self.parameters.values(), config.clip_norm or math.inf)
        loss, norm = torch.stack([self.loss, length]).tolist()  # the step's only wait for the device
        finite = math.isfinite(norm) and math.isfinite(loss)
        if not finite and config.on_nonfinite == "stop":
            raise TrainingError(
                f"Step {self.step} has loss {loss} and a gradient of length {norm}; the weights are as before. "
                f'Lower optimizer.lr, or go on past such steps with on_nonfinite = "skip".'
            )
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss.zero_()
        self.micro_step = 0
        per_second = self.pace.step(self.count)
        self.count = 0
        return StepDone(
            step=self.step,
            steps=config.steps,
            loss=loss,
            lr=lr,
            grad_norm=norm,
            per_second=per_second,
            unit=self.task.unit,
            seconds_left=self.pace.left(config.steps - self.step, self._evaluations_left()),
            applied=finite,
        )

    def _evaluations_left(self) -> int:
        """From this step on, with its own."""
        steps = self.config.steps
        interval = self.config.eval_interval or steps
        return steps // interval - (self.step - 1) // interval + (steps % interval > 0)

    def state(self) -> State:
        """All that the rest of the run depends on, beside the weights, the settings and the text."""
        tensors = {"loss": self.loss}
        for name, parameter in self.parameters.items():
            tensors |= {f"{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
            if parameter.grad is not None:
                tensors[f"{name}.gradient"] = parameter.grad
        values = {
            "step": self.step,
            "micro_step": self.micro_step,
            "count": self.count,
            "expected": self.expected,
            "evaluated": self.evaluated,
        }
        return State(tensors=tensors, values=values)

    @torch.no_grad()
    def restore(self, module: nn.Module, state: State) -> None:
        """Go on from a checkpoint's model and state, where they are of this run's model and not beyond its end."""
        found, wanted = to_mapping(module.config), to_mapping(self.module.config)
        for name in {**wanted, **found}:
            if found.get(name) != wanted.get(name) and name != "dropout":  # the weights mean the same with another
                raise CheckpointMismatch(
                    f"The checkpoint does not fit this run's settings: its model has {name} = {found.get(name)!r}, "
                    f"the settings {wanted.get(name)!r}. Resume with the model that the run began with."
                )
        try:
            self.module.load_state_dict(module.state_dict())
            self.step = int(state.values["step"])
            self.evaluated = int(state.values.get("evaluated", self.step))
            in_a_step = (
                "count" in state.values
            )  # earlier states cannot say what their sums are of: the step begins anew
            if in_a_step:
                self.micro_step, self.count, self.expected = (
                    int(state.values[name]) for name in ("micro_step", "count", "expected")
                )
                self.loss.copy_(state.tensors["loss"])
            for name, tensor in state.tensors.items():
                owner, _, key = name.rpartition(".")
                if key == "gradient" and in_a_step:
                    self.parameters[owner].grad = tensor.to(self.device)
                elif owner and key != "gradient":
                    self.optimizer.state[self.parameters[owner]][key] = tensor.to(self.device)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointMismatch(
                f"The checkpoint does not fit this run's settings: {str(error).splitlines()[0]} "
                f"Resume with the model that the run began with."
            ) from None
        if self.step > self.config.steps:
            raise TrainingError(
                f"The run has made {self.step:,} steps, and the settings ask for {self.config.steps:,} in all: "
                f"a resumed run cannot take any back, so set steps to {self.step} or more."
            )

    def started(self, folder: Path) -> Started:
        """Where we stand."""
        return Started(
            folder=folder,
            step=self.step,
            steps=self.config.steps,
            parameters=sum(parameter.numel() for parameter in self.parameters.values()),
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            preset=str(self.config.model.get("preset", "")),
            tokenizer=self.task.belongings.get("tokenizer"),
        )


class Pace:
    """How quick steps are: a mean that forgets, since the first steps are slow. And how long an evaluation takes."""

    def __init__(self, evaluation: float) -> None:
        self.seconds, self.count = 0.0, 0.0  # of a step
        self._since = time.perf_counter()
        self._evaluation_steps = evaluation  # how many steps take as long as one: a guess, until the first is over
        self._evaluation_seconds: float | None = None

    @property
    def evaluation(self) -> float:
        """Seconds of an evaluation."""
        guess = self.seconds * self._evaluation_steps
        return guess if self._evaluation_seconds is None else self._evaluation_seconds

    def step(self, count: int) -> float:
        """Take note that a step with so much in it is done; return how much is done in a second."""
        now = time.perf_counter()
        taken, self._since = now - self._since, now
        share = 0.1 if self.seconds else 1.0
        self.seconds += (taken - self.seconds) * share
        self.count += (count - self.count) * share
        return self.count / self.seconds

    def left(self, steps: int, evaluations: int) -> float:
        """Seconds that so many take."""
        return self.seconds * steps + self.evaluation * evaluations

    def pause(self) -> None:
        """What came since the last step does not count: an evaluation, a checkpoint."""
        self._since = time.perf_counter()

    def evaluated(self, seconds: float) -> None:
        """Take note how long an evaluation took."""
        self._evaluation_seconds = seconds
        self.pause()


def learning_rate(config: RunConfig, step: int, d_model: int) -> float:
    """The rate of the step-th update, by the schedule that the settings name."""
    schedule, highest = config.schedule, config.optimizer.lr
    if schedule.kind == "noam":
        return noam(step, d_model, schedule.warmup_steps, schedule.factor)
    if schedule.kind == "constant":
        return constant(step, highest, schedule.warmup_steps)
    return warmup_cosine(step, highest, schedule.min_lr, schedule.warmup_steps, config.steps)
