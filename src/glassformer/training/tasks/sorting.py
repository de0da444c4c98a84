"""Sort six letters (`data/sort.py`): train on three quarters of the inputs, check all of them."""

import math
from dataclasses import asdict
from pathlib import Path

from torch import nn

from glassformer.data import sort
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.tokenizers import CharTokenizer
from glassformer.training.config import RunConfig
from glassformer.training.events import Figures
from glassformer.training.tasks.task import Batch, Predicts, Progress, Say, quietly
from glassformer.training.world import ALONE, World


class Sorting(Predicts):
    """See above."""

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.label_smoothing = config, config.label_smoothing
        tokenizer = CharTokenizer(sort.LETTERS)
        self.settings = {"vocab_size": tokenizer.vocab_size}
        self.belongings = {"tokenizer": tokenizer}
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
