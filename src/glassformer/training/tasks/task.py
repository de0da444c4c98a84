"""What the loop asks of a task: batches, what the model makes of them, how far off that is, and how it is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.training.events import Figures

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the model is called with, what it is to answer, and how many tokens, images, … that is."""

    inputs: tuple[Tensor, ...]
    targets: Tensor
    count: int

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(
            inputs=tuple(tensor.to(device) for tensor in self.inputs),
            targets=self.targets.to(device),
            count=self.count,
        )


@runtime_checkable
class Task(Protocol):
    """A task is a class, made of (settings, the folder for what it prepares, `say`), and a line in `TASKS`.

    `settings` are the fields of the model's configuration that the data decides, such as vocab_size; `belongings` go
    into the checkpoint beside the model (`huggingface.write_directory`); `unit` is what `Batch.count` counts.
    """

    settings: Mapping[str, Any]
    belongings: Mapping[str, Any]
    unit: str

    def batch(self, step: int, micro_step: int) -> Batch:
        """A pure function of step and micro-step."""

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """What the model answers."""

    def loss(self, logits: Tensor, batch: Batch) -> Float[Tensor, ""]:
        """The mean over what was asked, to be made small."""

    def evaluate(self, module: nn.Module) -> Figures:
        """Figures by name, the one to watch first."""


class Predicts:
    """The part of a task that most have in common: classes or next tokens, judged by their cross-entropy."""

    settings: Mapping[str, Any]
    belongings: Mapping[str, Any]
    label_smoothing = 0.0
    unit = "tokens"

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """(…, V)"""
        logits: Tensor = module(*batch.inputs)
        return logits

    def loss(self, logits: Float[Tensor, "*B V"], batch: Batch) -> Float[Tensor, ""]:
        """−log p of the targets (Int, *B); −100 where there is none."""
        targets: Int[Tensor, "*B"] = batch.targets
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)


Maker = Callable[[Any, Path, Say], Task]
