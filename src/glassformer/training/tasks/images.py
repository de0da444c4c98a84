"""Put images into classes. A run's images are all in memory, a byte for each number in them."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from glassformer import files
from glassformer.data import augmentation
from glassformer.data.images import ImageSet, list_folder, read_folder, read_idx_set, read_npz_set
from glassformer.errors import ConfigError, DataError
from glassformer.evaluation.eval_mode import evaluating
from glassformer.features.image_processor import ImageProcessor, middle
from glassformer.inference.classify import check_head
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.nn import functional as F
from glassformer.training.config import RunConfig, paths_of, within
from glassformer.training.events import Figures
from glassformer.training.tasks.task import (
    Batch,
    PredictionTask,
    Say,
    check_same_data,
    evenly,
    held_out,
    quietly,
)
from glassformer.training.world import ALONE, World


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageData:
    """Images with their classes, and how they are changed while they are learned."""

    path: str = ""  # a folder with one folder a class, an .npz, or two IDX files with a comma between
    validation_path: str = ""  # the same for validation; empty: a part of `path` is held out
    validation_fraction: float = 0.1  # how much of `path` that is
    shift: int = 0  # pixels by which images are moved at most
    flip: bool = False  # mirror every other image
    crop: int = 0  # pixels by which images are larger than what the model sees of them: a window anywhere

    def __post_init__(self) -> None:
        within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        within("data.shift", self.shift, 0, 2**12)
        within("data.crop", self.crop, 0, 2**12)


class ImageClassification(PredictionTask):
    """The class of an image.

    Images in folders are brought to the model's size (and `data.crop`); those in one file decide the model's size.
    """

    kind: ClassVar[KindName] = "image-classifier"
    data_config = ImageData
    unit = "images"

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        assert isinstance(config.data, ImageData)
        self.config, self.data, self.label_smoothing = config, config.data, config.label_smoothing
        model: Any = config.model_config()
        check_head(model)
        wide = tuple(side + self.data.crop for side in model.image_size)
        images, validation = read_sets(self.data, of_size(wide, model.n_channels))
        check_same_data(folder, self.data.path, facts_of(self.data.path))
        if validation is not None:
            path = self.data.validation_path
            check_same_data(folder / "validation", path, facts_of(path))
        self.training, self.validation = (images, validation) if validation is not None else split(config, images)
        n_channels, height, width = self.training.pixels.shape[1:]
        size = (height - self.data.crop, width - self.data.crop)
        if min(size) < 1:
            raise ConfigError(f"data.crop is {self.data.crop}, and the pictures have {height} x {width} pixels.")
        crop = size if self.data.crop else None
        self.processor = of_size((height, width), n_channels, crop)
        self.settings = {
            "image_size": size,
            "n_channels": n_channels,
            "n_classes": n_classes(self.training, self.validation),
            "labels": self.training.classes,
        }
        if hasattr(model, "problem_type"):  # a picture of the data has one class
            self.settings["problem_type"] = "single-label"
        self.extras = {"processor": self.processor}

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Images drawn with replacement, and changed as the settings say."""
        config, data, micro_batch = self.config, self.data, world.micro_batch(micro_step)
        pixels, labels = self.training.random_batch(
            config.batch_size, seed=config.seed, step=step, micro_step=micro_batch
        )
        generator = np.random.default_rng((config.seed, step, micro_batch, 1))  # 0 drew the images
        if data.flip:
            pixels = augmentation.flip(pixels, generator)
        if data.shift:
            pixels = augmentation.shift(pixels, data.shift, generator)
        if self.processor.crop is not None:
            pixels = augmentation.crop(pixels, self.processor.crop, generator)
        return self.of(pixels, labels)

    def of(self, pixels: UInt8[Tensor, "B K H W"], labels: Tensor) -> Batch:
        """A batch of these images, of the model's size."""
        return Batch(inputs=(self.processor.normalise(pixels),), targets=labels, count=len(labels))

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """Batches of validation images: those of an evaluation, and all."""
        batches = math.ceil(len(self.validation) / self.config.batch_size) if self.validation else 0
        return min(self.config.eval_batches or batches, batches), batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Accuracy and loss on the validation images, where there are some; of cropped ones, on their middle."""
        images, config = self.validation, self.config
        if images is None:
            return {}
        rows = torch.from_numpy(evenly(len(images), config.eval_batches * config.batch_size))
        right, loss, done = 0, 0.0, 0
        with evaluating(module) as device:
            for chosen in torch.split(rows, config.batch_size):
                pixels = images.pixels[chosen]
                if self.processor.crop is not None:
                    pixels = torch.stack([middle(image, self.processor.crop) for image in pixels])
                batch = self.of(pixels, images.labels[chosen]).to(device)
                logits = self.logits(module, batch).float()
                right += int((logits.argmax(-1) == batch.targets).sum())
                loss += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
                done += len(chosen)
                progress(done, len(rows))
        return {"accuracy": right / len(rows), "loss": loss / len(rows)}


def of_size(size: tuple[int, ...], n_channels: int, crop: tuple[int, int] | None = None) -> ImageProcessor:
    """A processor that brings images to a size, and their numbers to −1 … 1."""
    return ImageProcessor(size=(size[0], size[1]), crop=crop, mean=(0.5,) * n_channels, std=(0.5,) * n_channels)


def read_sets(data: ImageData, processor: ImageProcessor) -> tuple[ImageSet, ImageSet | None]:
    """The images of the settings, and those to validate on where they are named."""
    images = read(data.path, processor, "train")
    if not data.validation_path:
        return images, None
    validation = read(data.validation_path, processor, "test")
    for what, ours, theirs in (
        ("classes", images.classes, validation.classes),
        ("channels and sizes", tuple(images.pixels.shape[1:]), tuple(validation.pixels.shape[1:])),
    ):
        if ours != theirs:
            raise DataError(f"{data.path} and {data.validation_path} have different {what}, {ours} and {theirs}.")
    return images, validation


def split(config: RunConfig, images: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    """The images to train on and those held out."""
    out = torch.from_numpy(held_out(len(images), config))
    return where(images, ~out), where(images, out) if out.any() else None


def facts_of(setting: str) -> dict[str, str | int]:
    """What tells one set of images from another: a folder's names and sizes, the bytes of other files."""
    paths = paths_of(setting)
    if paths[0].is_dir():
        images, _, _ = list_folder(paths[0])
        lines = [f"{path.relative_to(paths[0])}\t{path.stat().st_size}\n" for path in images]
        return {"images": len(images), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    return {f"sha256 of {path.name}": files.sha256(path) for path in paths}


def where(images: ImageSet, chosen: Tensor) -> ImageSet:
    """The images that are chosen, by a boolean for each or by their indices."""
    return ImageSet(pixels=images.pixels[chosen], labels=images.labels[chosen], classes=images.classes)


def read(setting: str, processor: ImageProcessor, part: str) -> ImageSet:
    """Images of one folder a class, of an archive's x_`part` and y_`part`, or of two IDX files."""
    first, *others = paths_of(setting)
    if len(others) == 1:
        return read_idx_set(first, others[0])
    if not others and first.is_dir():
        return read_folder(first, processor)
    if not others and first.suffix == ".npz":
        return read_npz_set(first, images=f"x_{part}", labels=f"y_{part}")
    raise DataError(
        f"{setting} is no set of pictures: name a folder with one folder a class, an .npz, or two IDX files, pictures "
        f"and labels, with a comma between."
    )


def n_classes(training: ImageSet, validation: ImageSet | None) -> int:
    """The number of classes; where they have no names, the highest number says it."""
    if training.classes:
        return len(training.classes)
    labels = training.labels if validation is None else torch.cat([training.labels, validation.labels])
    if int(labels.min()) < 0 or int(labels.max()) >= len(labels):
        raise DataError(
            f"The {len(labels):,} pictures have classes from {labels.min()} to {labels.max()}: number them from 0 on."
        )
    return int(labels.max()) + 1
