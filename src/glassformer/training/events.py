"""What a run tells those who listen (`report.py`): plain records, passed to the `on_event` of `train`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from glassformer.tokenizers import Tokenizer

Figures = Mapping[str, int | float]  # by name, the one to watch first


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first step is about to be made; `step` of them are behind us when a run resumes."""

    folder: Path
    step: int
    steps: int
    parameters: int
    device: str
    dtype: str
    preset: str = ""  # whose model it is, if the settings name one
    tokenizer: Tokenizer | None = None  # of the text that it reads


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientReady:
    """The gradient of a step is in the parameters' `.grad`, not clipped yet, and the weights have not moved.

    For listeners that look into the model; they leave it, and torch's random numbers, as they are. `inputs` are
    those of the last batch, as the whole model takes them.
    """

    step: int
    module: nn.Module
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """The weights have moved. `grad_norm` is the length before clipping; `applied` is False for a step skipped."""

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    per_second: float
    unit: str  # of what: tokens, images, …
    seconds_left: float  # of the steps, and of the validations among them
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluating:
    """A part of the validation after a step is done; the rest takes about `seconds_left`."""

    step: int
    share: float  # from 0 to 1
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The task's figures after a step, the one to watch first."""

    step: int
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint is complete."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence for the person who waits."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The run is finished, or was interrupted by a signal and can be resumed. The checkpoint is in `folder`.

    It is SIGPIPE where the reader of our output is gone.
    """

    step: int
    steps_made: int  # since it was started or resumed
    folder: Path
    seconds: float
    figures: Figures
    interrupted_by: int | None

    @property
    def finished(self) -> bool:
        """Whether all steps were made."""
        return self.interrupted_by is None


Event = Started | GradientReady | StepDone | Evaluating | Evaluated | Saved | Notice | Ended
OnEvent = Callable[[Event], None]  # a BrokenPipeError from it says that the reader is gone: the run is saved, and ends
