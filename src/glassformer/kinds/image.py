"""Image classifiers: they see a picture, brought to their size by a processor."""

from pathlib import Path

import torch

from glassformer.data.images import open_image
from glassformer.features.image_processor import ImageProcessor
from glassformer.inference.classify import check_processor, processor_for
from glassformer.kinds.kind import Call, Inputs, Kind, Model


def processor_of(model: Model) -> ImageProcessor:
    """The model's own, or one that fits its pictures."""
    own = model.processor if isinstance(model.processor, ImageProcessor) else processor_for(model.config)
    return check_processor(own, model.config)


def of_file(model: Model, path: Path) -> Inputs:
    """A picture from a file that Pillow reads, brought to the size that the model was trained on."""
    guessed = "No preprocessor_config.json says how its pictures are scaled: this one is, to −1 … 1"
    image = processor_of(model)([open_image(path)])
    return Inputs(image=image, label=path.name, note="" if model.processor else guessed)


def call(model: Model, inputs: Inputs) -> Call:
    """One pass over the picture."""
    return model.whole, () if inputs.image is None else (inputs.image,)


def made_up(model: Model) -> Inputs:
    """Noise."""
    config = model.config
    image = torch.rand(1, config.n_channels, *config.image_size, generator=torch.Generator().manual_seed(0))
    return Inputs(image=2 * image - 1, label="noise", note="The picture is noise: give it one with --input FILE")


KIND = Kind(name="image-classifier", verb="classify", of_file=of_file, call=call, made_up=made_up, reads="a picture")
