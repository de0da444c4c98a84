"""What the loop asks of a task: batches, what the model makes of them, how far off that is, and how it is judged."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer import files, strict_json
from glassformer.errors import ConfigError, DataError
from glassformer.evaluation.eval_mode import evaluating
from glassformer.evaluation.perplexity import Loss
from glassformer.inference.recorded_call import call_of
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.nn import functional as F
from glassformer.tokenizers import Tokenizer
from glassformer.training.config import RunConfig, bpe_size
from glassformer.training.events import Figures
from glassformer.training.world import ALONE, World

Say = Callable[[str], None]


def quietly(done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the model is called with, what it is to answer, and how many units of the task's that is.

    A unit is what the loss is a mean over: a target token, an image, a pair of words.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    count: int

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; a GPU of NVIDIA's fetches it while the host goes on."""
        inputs, targets = (
            [tensor.to(device, non_blocking=device.type == "cuda") for tensor in tensors]
            for tensors in (self.inputs, [self.targets])
        )
        return Batch(inputs=tuple(inputs), targets=targets[0], count=self.count)


@runtime_checkable
class Task(Protocol):
    """A task is a class, made of (settings, the folder for what it prepares, `say`), and a line in `TASKS`.

    The class says which `kind` of model it trains, and has the record of its own settings under `[data]`.
    `settings` are the fields of the model's configuration that the data decides, such as vocab_size; `extras` are what
    is saved with the model, such as its tokenizer (options of `huggingface.write_directory`); `unit` is what
    `Batch.count` counts.
    """

    settings: Mapping[str, Any]
    extras: Mapping[str, Any]
    unit: str

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """How many batches an evaluation takes, counted in batches of training's size, and how many there are."""

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """A pure function of its address: the run's seed, step, micro-step and rank."""

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """What the model computes from a batch's inputs, before any softmax."""

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Float[Tensor, ""], int]:
        """The sum over the batch's units, in nats, and how many they are; their ratio is to be made small.

        A sum, since means of batches of different sizes have no mean: the loop divides by the units of a whole step.
        """

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Figures by name, the one to watch first; `progress` is told how many batches are done, of how many."""

    def write_extras(self, folder: Path, module: nn.Module) -> None:
        """Write files of the task's own into the folder of a checkpoint."""


class PredictionTask:
    """What most tasks have in common: classes or next tokens are predicted, and judged by their cross-entropy."""

    settings: Mapping[str, Any]
    extras: Mapping[str, Any]
    label_smoothing = 0.0
    unit = "tokens"

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """A score for each class or token, (…, V)."""
        logits: Tensor = call_of(module)(module, *batch.inputs)
        return logits

    def loss(self, logits: Float[Tensor, "*B V"], batch: Batch) -> tuple[Float[Tensor, ""], int]:
        """The sum of −log p of the targets (Int, *B), and their number; −100 is no target."""
        targets: Int[Tensor, "*B"] = batch.targets
        total = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="sum")
        return total, batch.count

    def write_extras(self, folder: Path, module: nn.Module) -> None:
        """Most tasks have no files of their own."""

    def mean_loss(
        self, module: nn.Module, batches: Iterable[Batch], n_batches: int, progress: Progress = quietly
    ) -> Loss:
        """The mean over all targets of these batches, each with the same weight, without label smoothing."""
        total, count = 0.0, 0
        with evaluating(module) as device:
            for number, batch in enumerate((each.to(device) for each in batches), start=1):
                logits = self.logits(module, batch).float()
                total += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
                count += batch.count
                progress(number, n_batches)
        return Loss(nats_per_token=total / count, tokens=count)


def evenly(n: int, few: int) -> np.ndarray:
    """`few` of n indices, or all where it is 0, spread evenly."""
    return np.linspace(0, n - 1, few).round().astype(np.int64) if 0 < few < n else np.arange(n)


FINGERPRINT = "data.json"


def check_same_data(folder: Path, setting: str, facts: Mapping[str, str | int]) -> None:
    """Note what a run learns from in its folder; raise where a resumed run finds something else.

    One image more, and others are held out: those that the model is judged by would have been trained on.
    """
    path = folder / FINGERPRINT
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_file(path, (json.dumps(facts, indent=1) + "\n").encode())
        return
    before = strict_json.read(path)
    if before != facts:
        changes = [
            f"{name} {before.get(name)} then, {value} now" for name, value in facts.items() if before.get(name) != value
        ]
        raise DataError(
            f"{setting} is not what the run began with ({'; '.join(changes)}): bring that back, or begin another run."
        )


def held_out(n: int, config: RunConfig) -> Bool[np.ndarray, " n"]:
    """Which of n things are for validation, where the settings name no others; some are left to train on."""
    chosen = np.random.default_rng(config.seed).random(n) < config.data.validation_fraction
    if chosen.all():
        raise DataError(f"{config.data.path} leaves nothing to train on: lower data.validation_fraction.")
    return chosen


def learned_tokenizer(
    setting: str, texts: Iterable[str], *, default: int, special_tokens: Sequence[str], say: Say
) -> Tokenizer:
    """Byte-level BPE of "bpe:N", or of `default` tokens, learned from the texts; or a tokenizer from a file."""
    if setting == "char":
        raise ConfigError('data.tokenizer = "char" has no token that ends a text: take "bpe:N", for instance bpe:2000.')
    size = default if setting == "auto" else bpe_size("data.tokenizer", setting)
    if not size:
        return Tokenizer.load(setting)
    say(f"Learning {size:,} tokens of byte-level BPE.")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.txt"
        file.write_text("\n".join(texts), "utf-8")
        return Tokenizer.train([file], size, special_tokens)


class TaskClass(Protocol):
    """What makes a task, and what is known of it before one is made."""

    kind: KindName
    data_config: type[Any]

    def __call__(self, config: RunConfig, folder: Path, say: Say) -> Task:
        """Read what there is to learn from, prepare it in `folder`, and tell `say` what a person wants to know."""
