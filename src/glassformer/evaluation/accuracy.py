"""How many pictures a model puts into their class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glassformer.data.image_files import ImageFiles
from glassformer.errors import DataError
from glassformer.evaluation.eval_mode import evaluating
from glassformer.features.image_processor import ImageProcessor
from glassformer.inference.classify import label


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAccuracy:
    """Of `total` pictures of one class, `correct` were put into it."""

    label: str
    correct: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Right answers; `classes` are those that there are pictures of."""

    correct: int
    total: int
    classes: tuple[ClassAccuracy, ...]

    @property
    def rate(self) -> float:
        """accuracy = correct / total"""
        return self.correct / self.total


def accuracy(
    module: nn.Module,
    image_files: ImageFiles,
    processor: ImageProcessor,
    *,
    batch_size: int = 32,
    limit: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Accuracy:
    """An answer is right when the likeliest class is the picture's. With `limit`, so many, spread evenly, are taken."""
    config: Any = module.config
    truth = torch.tensor(numbers_of(image_files, config))
    chosen = torch.arange(len(truth))
    if 0 < limit < len(truth):
        chosen = torch.linspace(0, len(truth) - 1, limit, dtype=torch.float64).round().long()
    answers = torch.empty_like(chosen)
    with evaluating(module) as device:
        for first in range(0, len(chosen), batch_size):
            rows = chosen[first : first + batch_size]
            images = processor([image_files.open(row) for row in rows.tolist()])
            answers[first : first + batch_size] = module(images.to(device)).argmax(-1).cpu()
            if progress is not None:
                progress(first + len(rows), len(chosen))
    right = (answers == truth[chosen]).long()
    totals = torch.bincount(truth[chosen], minlength=config.n_classes)
    corrects = torch.bincount(truth[chosen], weights=right, minlength=config.n_classes).long()
    return Accuracy(
        correct=int(right.sum()),
        total=len(chosen),
        classes=tuple(
            ClassAccuracy(label=label(config, number), correct=int(corrects[number]), total=int(totals[number]))
            for number in totals.nonzero().flatten().tolist()
        ),
    )


def numbers_of(image_files: ImageFiles, config: Any) -> Sequence[int]:
    """The model's own numbers of the pictures' classes: by their names, or in order where the model has no names."""
    names = [label(config, number) for number in range(config.n_classes)]
    if image_files.classes and (strange := set(image_files.classes) - set(names)) and config.labels:
        raise DataError(f"The model has no class {min(strange)!r}; it has {', '.join(names[:20])}.")
    if image_files.classes and not strange:
        return [names.index(image_files.classes[number]) for number in image_files.labels]
    if foreign := [number for number in image_files.labels if not 0 <= number < config.n_classes]:
        raise DataError(f"There is a picture of class {foreign[0]}, and the model's {config.n_classes} are from 0 on.")
    return image_files.labels
