"""Watching a training run: pictures of the model while it learns, for the page that `train --view` opens.

    watch = Watch(name="sort", on_first=lambda session: …)
    train(config, folder, on_event=watch)

A picture is a recorded pass over the same text every time, with the weights as they are at that step and their
gradients: one step of the session's only run. There are many of the first steps and fewer later on, as the loss curve
has it: after step n the next is at 1.05 n + 1, and never sooner than half a second after the last.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from glassformer.errors import GlassformerError
from glassformer.inference.recorded_call import call_of
from glassformer.training.events import Ended, Evaluated, Event, GradientReady, Started, StepDone
from glassformer.viewer import pack
from glassformer.viewer.events import Events
from glassformer.viewer.responses import plain
from glassformer.viewer.session import Session

PAUSE = 0.5  # seconds between two pictures
GROWTH = 1.05
MOST_POSITIONS = 16  # of the text that is recorded
MOST_BYTES = 1 << 30  # of all pictures; then the last one stays
MOST_LOSSES = 4096  # that a page which comes late is told of; of more, every other is left out


class Watch:
    """A listener of `training.loop.train`."""

    def __init__(self, *, name: str, on_first: Callable[[Session], None]) -> None:
        self.session = Session(None, name=name)
        self.session.training = self
        self.events = Events()
        self._on_first = on_first
        self._inputs: tuple[Tensor, ...] | None = None
        self._next, self._last, self._nbytes = 1.0, 0.0, 0
        self._steps = 0
        self._losses: list[tuple[int, float | str]] = []
        self._pictured: list[int] = []
        self._figures: dict[str, int | float | str] = {}
        self.ended: Ended | None = None

    def __call__(self, event: Event) -> None:
        """Take note of what happens in a training, and tell the pages that are open."""
        match event:
            case Started():
                self.session.tokenizer = event.tokenizer
            case GradientReady():
                if event.step >= self._next and time.monotonic() - self._last >= PAUSE and self._nbytes < MOST_BYTES:
                    self._try_to_look(event)
            case StepDone():
                self._steps = event.steps
                loss, lr = plain(event.loss), plain(event.lr)
                self._losses.append((event.step, loss))
                if len(self._losses) > MOST_LOSSES:
                    del self._losses[1::2]
                self.events.tell("loss", {"step": event.step, "steps": event.steps, "loss": loss, "lr": lr})
            case Evaluated():
                self._figures = {name: plain(value) for name, value in event.figures.items()}
                self.events.tell("figures", {"step": event.step, "figures": self._figures})
            case Ended():
                self.ended = event
                self.events.tell("ended", {"step": event.step})

    def progress(self) -> dict[str, Any]:
        """How far the run is, for a page that has just come: `Training` of types.ts."""
        return {
            "ended": self.ended is not None,
            "figures": self._figures,
            "steps": self._steps,
            "losses": list(self._losses),
            "pictures": list(self._pictured),
        }

    def _try_to_look(self, event: GradientReady) -> None:
        """A page must not cost a run: where there is no room for a picture, there are no more."""
        try:
            self._look(event)
        except (GlassformerError, MemoryError, RuntimeError, OSError) as error:
            self._next = math.inf
            warnings.warn(f"The page gets no more pictures: {error}", stacklevel=2)

    def _look(self, event: GradientReady) -> None:
        """Record the model as it is; training goes on with the same numbers and the same chance."""
        if self._inputs is None:
            self._inputs = tuple(first_of(tensor).cpu().clone() for tensor in event.inputs)
        module = copy.deepcopy(event.module).cpu().eval()
        gradients = {
            name: parameter.grad.detach().cpu().clone()
            for name, parameter in event.module.named_parameters()
            if parameter.grad is not None
        }
        trace = pack.record(module, *self._inputs, call=call_of(module))
        trace.replay = None  # a picture, and nothing to run
        first = not self.session.runs
        self.session.add(trace, "training", gradients)
        self._pictured.append(event.step)
        self._nbytes += sum(storage.nbytes for storage in trace.storages)
        self._next, self._last = event.step * GROWTH + 1, time.monotonic()
        info = self.session.runs[0].step_to_json(len(self._pictured) - 1)
        self.events.tell("picture", {"info": info, "at": event.step})
        if first:
            self._on_first(self.session)


def first_of(batch: Tensor) -> Tensor:
    """The first of a batch: of tokens the first few, of a picture or a sound all."""
    return batch[:1] if batch.is_floating_point() else batch[:1, :MOST_POSITIONS]
