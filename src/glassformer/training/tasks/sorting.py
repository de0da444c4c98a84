"""Sort six letters (`data/sort.py`): train on three quarters of the inputs, check all of them."""

from dataclasses import asdict
from pathlib import Path

from torch import nn

from glassformer.data import sort
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.tokenizers import CharTokenizer
from glassformer.training.config import RunConfig
from glassformer.training.events import Figures
from glassformer.training.tasks.task import Batch, Predicts, Say


class Sorting(Predicts):
    """See above."""

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.label_smoothing = config, config.label_smoothing
        tokenizer = CharTokenizer(sort.LETTERS)
        self.settings = {"vocab_size": tokenizer.vocab_size}
        self.belongings = {"tokenizer": tokenizer}
        self.inputs, _ = sort.split()

    def batch(self, step: int, micro_step: int) -> Batch:
        """Inputs drawn with replacement."""
        config = self.config
        tokens, targets = sort.random_batch(
            self.inputs, config.batch_size, seed=config.seed, step=step, micro_step=micro_step
        )
        return Batch(inputs=(tokens,), targets=targets, count=tokens.numel())

    def evaluate(self, module: nn.Module) -> Figures:
        """Right answers over all inputs, and over those held out."""
        return asdict(sort_accuracy(module))
