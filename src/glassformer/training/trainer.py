"""What is trained, and a step of it: gradients of micro-batches, one update of the weights, all that resuming needs.

Next to read: `adamw.py`, `clip.py` and `schedule.py` for the equations, `tasks/task.py` for losses and batches.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from glassformer import models
from glassformer.config import defaults_of, to_mapping
from glassformer.errors import CheckpointMismatch, TrainingError
from glassformer.training.adamw import AdamW, parameter_groups
from glassformer.training.clip import clip_gradients
from glassformer.training.config import RunConfig
from glassformer.training.device import choose_dtype
from glassformer.training.events import Started, StepDone
from glassformer.training.prefetch import Read
from glassformer.training.run_folder import RunState
from glassformer.training.schedule import learning_rate
from glassformer.training.tasks.task import Batch, Task
from glassformer.training.throughput import FORWARD_AND_BACKWARD, Throughput
from glassformer.training.world import ALONE


def build_module(config: RunConfig, task: Task, device: torch.device) -> nn.Module:
    """The model of the settings and of what the data decides, with random weights of the run's seed."""
    model_config = config.model_config(task.settings)
    torch.manual_seed(config.seed)
    return models.spec_of(model_config).build(model_config).to(device).train()


class Trainer:
    """A model, its optimizer, and how far they have come: `step` updates and `micro_step` gradients of the next.

    A step's loss and gradient are means over all its units (tokens, images, …), whatever micro-batch they are in. The
    sums are divided by `expected` as they come, which `update` corrects to the number that they turned out to be.
    """

    def __init__(self, config: RunConfig, task: Task, module: nn.Module) -> None:
        """With the parameters that the module has now: what replaces them, such as sharding, has been done to it."""
        self.config, self.task, self.module, self.world = config, task, module, ALONE
        self.read: Read = task.batch
        self.parameters = dict(module.named_parameters())
        self.device = next(iter(self.parameters.values())).device
        self.dtype, _ = choose_dtype(config.dtype, self.device)
        self.d_model: int = getattr(module.config, "d_model", 1)
        settings = config.optimizer
        self.optimizer = AdamW(
            parameter_groups(self.module, settings.weight_decay), settings.lr, settings.betas, settings.eps
        )
        self.step = 0
        self.micro_step = 0
        self.evaluated = 0  # the step of the last evaluation
        self.count = 0  # units in this step so far
        self.expected = 1  # units in the whole step, if all its micro-batches have as many as the first
        self.loss = torch.zeros((), device=self.device)  # the sum over this step so far, divided by `expected`
        self.throughput = Throughput(evaluation=task.evaluation_batches[0] / config.accumulation / FORWARD_AND_BACKWARD)

    @property
    def place(self) -> tuple[int, int, int]:
        """Steps, micro-steps and evaluations so far: two states of a run with the same are the same."""
        return self.step, self.micro_step, self.evaluated

    @property
    def owes_evaluation(self) -> bool:
        """Whether the weights are to be judged as they are, and have not been."""
        return self.evaluated < self.step and due(self.step, self.config.eval_interval, self.config.steps)

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
        per_second = self.throughput.step(self.count)
        self.count = 0
        return StepDone(
            step=self.step,
            steps=config.steps,
            loss=loss,
            lr=lr,
            grad_norm=norm,
            per_second=per_second,
            unit=self.task.unit,
            seconds_left=self.throughput.left(config.steps - self.step, self._evaluations_left()),
            applied=finite,
        )

    def _evaluations_left(self) -> int:
        """How many evaluations are to come, that of this step included."""
        steps = self.config.steps
        interval = self.config.eval_interval or steps
        return steps // interval - (self.step - 1) // interval + (steps % interval > 0)

    def state(self) -> RunState:
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
        return RunState(tensors=tensors, values=values)

    @torch.no_grad()
    def restore(self, module: nn.Module, state: RunState) -> None:
        """Go on from a checkpoint's model and state, where they are of this run's model and not beyond its end."""
        defaults = {**defaults_of(module.config), **defaults_of(self.module.config)}  # of fields that only one has
        saved, wanted = defaults | to_mapping(module.config), defaults | to_mapping(self.module.config)
        for name in defaults:
            if saved[name] != wanted[name] and name != "dropout":  # the weights mean the same with another
                raise CheckpointMismatch(
                    f"The checkpoint does not fit this run's settings: its model has {name} = {saved[name]!r}, "
                    f"the settings {wanted[name]!r}. Resume with the model that the run began with."
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
        """The event that tells listeners what is trained, and from which step on."""
        return Started(
            folder=folder,
            step=self.step,
            steps=self.config.steps,
            parameters=sum(parameter.numel() for parameter in self.parameters.values()),
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            preset=str(self.config.model.get("preset", "")),
            tokenizer=self.task.extras.get("tokenizer"),
        )


def due(step: int, interval: int, steps: int) -> bool:
    """Whether what comes at an interval, and at the end, comes after this step."""
    return step == steps or (interval > 0 and step % interval == 0)
