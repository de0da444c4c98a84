"""Sort six letters (`data/sort.py`): train on three quarters of the inputs, check all of them."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from glassformer.checkpoints.about import About
from glassformer.data import sort
from glassformer.errors import DataError
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.tokenizers import CharTokenizer
from glassformer.training.config import RunConfig
from glassformer.training.events import Figures
from glassformer.training.tasks.task import Batch, PredictionTask, Say, quietly
from glassformer.training.world import ALONE, World

ABOUT = About(en="It sorts six letters", zh="它把六个字母按字母顺序排好", input="CBABBC", output="ABBBCC")


@dataclass(frozen=True, slots=True, kw_only=True)
class SortingData:
    """Nothing to set: the task makes its own inputs, all there are."""

    path: str = ""  # of other tasks

    def __post_init__(self) -> None:
        if self.path:
            raise DataError("The sorting task makes its own data: leave out data.path, or train another preset on it.")

    @property
    def validation_fraction(self) -> float:
        """The quarter of all inputs that `data/sort.py` holds out."""
        return 0.25


class Sorting(PredictionTask):
    """The letters of an answer, each after those before it."""

    kind: ClassVar[KindName] = "language-model"
    data_config = SortingData

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.label_smoothing = config, config.label_smoothing
        tokenizer = CharTokenizer(sort.LETTERS)
        self.settings = {"vocab_size": tokenizer.vocab_size}
        self.extras = {"tokenizer": tokenizer, "about": ABOUT}
        self.inputs, _ = sort.split()

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Inputs drawn with replacement."""
        config, micro_batch = self.config, world.micro_batch(micro_step)
        tokens, targets = sort.random_batch(
            self.inputs, config.batch_size, seed=config.seed, step=step, micro_step=micro_batch
        )
        return Batch(inputs=(tokens,), targets=targets, count=config.batch_size * sort.LENGTH)

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """All inputs, once for each letter of an answer."""
        batches = math.ceil(sort.LENGTH * len(sort.LETTERS) ** sort.LENGTH / self.config.batch_size)
        return batches, batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Right answers over all inputs, and over those held out."""
        return asdict(sort_accuracy(module))
