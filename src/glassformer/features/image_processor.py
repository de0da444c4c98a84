"""From images to numbers that a model was trained on: resized, cropped, scaled to 0 … 1, normalised.

The settings are those of Hugging Face's preprocessor_config.json, and so are the results, to the last bit of the
pixels: Pillow resizes. Next to read: `patches.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from glassformer import files, strict_json
from glassformer.config import from_mapping
from glassformer.errors import ConfigError

FILE = "preprocessor_config.json"
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's filters, by their numbers
LARGEST = 1 << 13  # pixels of a side that a file may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProcessor:
    """What is done to an image, in this order; the defaults are ViT's. The number of means is that of the channels."""

    size: tuple[int, int] | None = (224, 224)  # (height, width) that it is resized to; None leaves it as it is
    shortest_edge: int = 0  # instead of `size`: the shorter side's pixels, the other in proportion
    resample: str = "bilinear"
    crop: tuple[int, int] | None = None  # (height, width) of the middle that is kept
    scale: float = 1 / 255  # what a pixel of 0 … 255 is multiplied by
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, or that no image can be given."""
        if self.size is not None and self.shortest_edge:
            raise ConfigError("An image is resized to a size or to a shortest_edge, not to both.")
        for name, pair in {"size": self.size, "crop": self.crop}.items():
            if pair is not None and not all(type(side) is int and 0 < side <= LARGEST for side in pair):
                raise ConfigError(f"{name} must be two whole numbers from 1 to {LARGEST}, not {pair}.")
        if type(self.shortest_edge) is not int or not 0 <= self.shortest_edge <= LARGEST:
            raise ConfigError(f"shortest_edge must be a whole number up to {LARGEST}, not {self.shortest_edge!r}.")
        if self.resample not in RESAMPLE:
            raise ConfigError(f"resample must be one of {', '.join(RESAMPLE)}, not {self.resample!r}.")
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise ConfigError(f"mean and std must both have 1 number or 3, not {len(self.mean)} and {len(self.std)}.")
        if not all(np.isfinite([self.scale, *self.mean, *self.std])) or min(self.std) <= 0:
            raise ConfigError(f"scale, mean and std must be finite, and std above 0, not {self.std}.")

    def __call__(self, images: Sequence[Any]) -> Float[Tensor, "B K H W"]:
        """Images, as Pillow opened them, as one batch; after resizing they must be of one size."""
        if not images:
            raise ConfigError("There must be at least one image.")
        pixels = [self.pixels(image) for image in images]
        sizes = {tuple(image.shape[1:]) for image in pixels}
        if len(sizes) > 1:
            raise ConfigError(f"The images have different sizes ({sorted(sizes)}), so they make no batch: set size.")
        return self.normalise(torch.stack(pixels))

    def normalise(self, pixels: UInt8[Tensor, "*B K H W"]) -> Float[Tensor, "*B K H W"]:
        """(scale · pixel − mean) / std, channel by channel."""
        if pixels.shape[-3] != len(self.mean):
            raise ConfigError(f"The images have {pixels.shape[-3]} channels; there are {len(self.mean)} means.")
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        scaled = (pixels.double() * self.scale).float()
        return (scaled - mean) / std

    def pixels(self, image: Any) -> UInt8[Tensor, "K H W"]:
        """One image's channels, resized and cropped."""
        from PIL.Image import Image

        if not isinstance(image, Image):
            raise ConfigError(f"An image must be one that Pillow opened, not a {type(image).__name__}.")
        image = image.convert("RGB" if len(self.mean) == 3 else "L")
        size = self._size_for(image.height, image.width)
        if size != (image.height, image.width):
            image = image.resize((size[1], size[0]), RESAMPLE.index(self.resample))
        array = np.array(image, dtype=np.uint8).reshape(image.height, image.width, -1)
        pixels = torch.from_numpy(array).permute(2, 0, 1)
        return pixels if self.crop is None else middle(pixels, self.crop)

    def _size_for(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing."""
        if self.size is not None:
            return self.size
        if self.shortest_edge == 0:
            return height, width
        edge = self.shortest_edge
        longer = int(edge * max(height, width) / min(height, width))
        if longer > LARGEST:
            raise ConfigError(f"An image of {height} x {width} would be {longer} pixels long; {LARGEST} are allowed.")
        return (edge, longer) if height <= width else (longer, edge)


def middle(pixels: UInt8[Tensor, "K H W"], crop: tuple[int, int]) -> UInt8[Tensor, "K h w"]:
    """The middle of an image; of an odd rest, the larger half is cut off at the bottom and at the right."""
    height, width = pixels.shape[1:]
    if crop[0] > height or crop[1] > width:
        raise ConfigError(f"An image of {height} x {width} is too small to crop {crop[0]} x {crop[1]} out of it.")
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    return pixels[:, top : top + crop[0], left : left + crop[1]]


# ---- preprocessor_config.json


def load(folder: Path) -> ImageProcessor:
    """What a folder's preprocessor_config.json says."""
    with files.errors_about(folder):
        return from_huggingface(strict_json.read(files.file_in(folder, FILE), 1 << 20))


def save(processor: ImageProcessor, folder: Path) -> Path:
    """Write preprocessor_config.json into a folder."""
    files.write_file(folder / FILE, (json.dumps(to_huggingface(processor), indent=2) + "\n").encode())
    return folder / FILE


def from_huggingface(config: Mapping[str, Any]) -> ImageProcessor:
    """Read the settings; a step that is not one of ours is refused."""
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
    for name, value in config.items():
        if name.startswith("do_") and value and name not in steps:
            raise ConfigError(f"{FILE}: {name} is not supported; {', '.join(steps)} are.")
    resize, crop = config.get("do_resize", True), config.get("do_center_crop", False)
    size = config.get("size", 224) if resize else None
    edge = 0
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        edge, size = size["shortest_edge"], None
    resample = config.get("resample", 2)
    if type(resample) is not int or not 0 <= resample < len(RESAMPLE):
        raise ConfigError(f"{FILE}: resample must be a number of Pillow's, 0 to {len(RESAMPLE) - 1}, not {resample!r}.")
    normalise = config.get("do_normalize", True)
    mean, std = config.get("image_mean", [0.5] * 3), config.get("image_std", [0.5] * 3)
    channels = len(mean) if isinstance(mean, list) else 3
    settings = {
        "size": _pair(size, "size"),
        "shortest_edge": edge,
        "resample": RESAMPLE[resample],
        "crop": _pair(config.get("crop_size"), "crop_size") if crop else None,
        "scale": config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
        "mean": mean if normalise else [0.0] * channels,
        "std": std if normalise else [1.0] * channels,
    }
    return from_mapping(ImageProcessor, settings)


def _pair(size: Any, name: str) -> Any:
    """(height, width) from {"height", "width"} or, in older files, one number."""
    if size is None or type(size) is int:
        return None if size is None else (size, size)
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return size["height"], size["width"]
    raise ConfigError(f"{FILE}: {name} must have height and width, or shortest_edge, not {str(size)[:80]}.")


def to_huggingface(processor: ImageProcessor) -> dict[str, Any]:
    """The preprocessor_config.json that `transformers` makes the same processor from."""
    crop = processor.crop
    size: dict[str, int] = {"height": 224, "width": 224}  # not used where nothing is resized
    if processor.size is not None:
        size = {"height": processor.size[0], "width": processor.size[1]}
    elif processor.shortest_edge:
        size = {"shortest_edge": processor.shortest_edge}
    return {
        "image_processor_type": "ViTImageProcessor" if crop is None else "DeiTImageProcessor",
        "do_resize": processor.size is not None or processor.shortest_edge > 0,
        "size": size,
        "resample": RESAMPLE.index(processor.resample),
        "do_center_crop": crop is not None,
        **({} if crop is None else {"crop_size": {"height": crop[0], "width": crop[1]}}),
        "do_rescale": True,
        "rescale_factor": processor.scale,
        "do_normalize": True,
        "image_mean": list(processor.mean),
        "image_std": list(processor.std),
    }
