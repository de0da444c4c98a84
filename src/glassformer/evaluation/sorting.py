"""How many of the 729 inputs of the sorting task a model sorts (`data/sort.py`)."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from glassformer.data import sort
from glassformer.evaluation.eval_mode import evaluating
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.spec import CausalModel


@dataclass(frozen=True, slots=True, kw_only=True)
class SortAccuracy:
    """Right answers: over all inputs, and over those that were held out of training."""

    correct: int
    total: int
    held_out_correct: int
    held_out_total: int


def sort_accuracy(module: nn.Module, *, seed: int = 0) -> SortAccuracy:
    """Let the model sort every input; an answer is right when all its six letters are. `seed` is that of the split."""
    trained, held_out = (_right(module, inputs) for inputs in sort.split(seed))
    return SortAccuracy(
        correct=int(trained.sum() + held_out.sum()),
        total=len(trained) + len(held_out),
        held_out_correct=int(held_out.sum()),
        held_out_total=len(held_out),
    )


def _right(module: nn.Module, inputs: Int[Tensor, "B 6"]) -> Bool[Tensor, " B"]:
    """Whether the most likely letter, taken six times and read back each time, gives the sorted input."""
    answers: list[list[int]] = [[] for _ in inputs]
    with evaluating(module):
        greedy = Sampling(temperature=0.0)
        for new in generate(cast(CausalModel, module), inputs.tolist(), max_new_tokens=sort.LENGTH, sampling=greedy):
            answers[new.sequence].append(new.token)
    return (torch.tensor(answers) == inputs.sort(-1).values).all(-1)
