"""Image classifiers: they see a picture, brought to their size by a processor."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch

from glassformer.checkpoints.about import About
from glassformer.data.image_files import open_image_files
from glassformer.data.images import open_image
from glassformer.evaluation.accuracy import accuracy
from glassformer.features import image_processor
from glassformer.features.image_processor import ImageProcessor
from glassformer.inference.classify import check_head, check_processor, processor_for
from glassformer.inference.recorded_call import call_of
from glassformer.kinds.kind import Inputs, Kind, Metrics, ModelLike, Pass, Progress

logger = logging.getLogger(__name__)

# By the number of channels: how the pictures of the best known data are scaled.
SCALES = {
    1: ("for MNIST's digits it says", [0.1307], [0.3081]),
    3: ("for ImageNet's photographs it says", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def processor_of(model: ModelLike) -> ImageProcessor:
    """The model's own, or one that fits its pictures."""
    own = model.processor if isinstance(model.processor, ImageProcessor) else processor_for(model.config)
    return check_processor(own, model.config)


def chosen_processor(model: ModelLike, folder: Path | None) -> ImageProcessor:
    """The one of a folder, or the model's own; where neither is there, one that fits its pictures, which is logged."""
    if folder is not None:
        return check_processor(image_processor.load(folder), model.config)
    if model.processor is None:
        height, width = model.config.image_size
        data, mean, std = SCALES[model.config.n_channels]
        example = {"size": {"height": height, "width": width}, "image_mean": mean, "image_std": std}
        logger.warning(
            "The model came without a %s: pictures are resized to %d x %d pixels from -1 to 1. If it was trained on "
            "others, put such a file into a folder and name that with --processor; %s: %s",
            image_processor.FILE,
            height,
            width,
            data,
            json.dumps(example),
        )
    return processor_of(model)


def of_file(model: ModelLike, path: Path) -> Inputs:
    """A picture from a file that Pillow reads, brought to the size that the model was trained on."""
    guessed = "No preprocessor_config.json says how its pictures are scaled: this one is, to −1 … 1"
    image = processor_of(model)([open_image(path)])
    return Inputs(image=image, label=path.name, note="" if model.processor else guessed)


def call(model: ModelLike, inputs: Inputs) -> Pass:
    """One pass over the picture."""
    return call_of(model.module), () if inputs.image is None else (inputs.image,)


def made_up(model: ModelLike) -> Inputs:
    """Noise."""
    config = model.config
    image = torch.rand(1, config.n_channels, *config.image_size, generator=torch.Generator().manual_seed(0))
    return Inputs(image=2 * image - 1, label="noise", note="The picture is noise: give it one with --input FILE")


def measure(
    model: ModelLike,
    data: str,
    *,
    progress: Progress,
    target: Path | None = None,
    limit: int = 0,
    batch_size: int = 32,
    processor: Path | None = None,
) -> Metrics:
    """Accuracy on a folder with one folder a class, an .npz, or MNIST's images with their labels as `target`."""
    check_head(model.config)
    images = open_image_files(Path(data), target)
    prepare = chosen_processor(model, processor)
    measured = accuracy(model.module, images, prepare, batch_size=batch_size, limit=limit, progress=progress)
    return {"accuracy": measured.rate, **asdict(measured), "classes": [asdict(each) for each in measured.classes]}


KIND = Kind(
    name="image-classifier",
    verb="classify",
    about=About(
        en="It looks at a picture, patch by patch, and says what it sees",
        zh="它把图片分成小块来看，说出看到了什么",
    ),
    of_file=of_file,
    call=call,
    made_up=made_up,
    measure=measure,
    reads="a picture",
)
