"""Images as transformers' processors make them (Pillow's, without torchvision), and their settings both ways."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.errors import ConfigError
from glassformer.features.image_processor import (
    FILE,
    RESAMPLE,
    ImageProcessor,
    from_huggingface,
    load,
    save,
    to_huggingface,
)


def picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    depth = {"RGB": 3, "L": 1, "RGBA": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, depth), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels)


def theirs(processor: ImageProcessor, folder: Path) -> Any:
    """What transformers makes of the file that we write."""
    module = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    cropping = pytest.importorskip("transformers.models.deit.image_processing_pil_deit")
    save(processor, folder)
    kind = module.ViTImageProcessorPil if processor.crop is None else cropping.DeiTImageProcessorPil
    return kind.from_pretrained(folder)


def draw_processor(choose: random.Random) -> ImageProcessor:
    edge = choose.choice([0, 0, 24, 31])
    size = None if edge else (choose.choice([16, 24, 33]), choose.choice([16, 24, 40]))
    crop = None
    if choose.random() < 0.4:
        least = edge or min(size or (0,))
        crop = (choose.randint(1, least), choose.randint(1, least))
    return ImageProcessor(
        size=size,
        shortest_edge=edge,
        crop=crop,
        resample=choose.choice(RESAMPLE),
        scale=choose.choice([1 / 255, 0.01]),
        mean=tuple(choose.uniform(0, 1) for _ in range(3)),
        std=tuple(choose.uniform(0.1, 1) for _ in range(3)),
    )


def test_pixels_are_those_of_transformers(tmp_path: Path) -> None:
    for seed in range(40):
        choose = random.Random(seed)
        processor = draw_processor(choose)
        image = picture(choose.randint(20, 70), choose.randint(20, 70), seed=seed)
        folder = tmp_path / str(seed)
        expected = theirs(processor, folder)(image, return_tensors="pt").pixel_values
        torch.testing.assert_close(processor([image]), expected, rtol=0, atol=1e-6, msg=f"{seed}: {processor}")
        assert load(folder) == processor


def test_the_defaults_are_those_of_vit() -> None:
    module = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    image = picture(30, 50)
    expected = module.ViTImageProcessorPil()(image, return_tensors="pt").pixel_values
    torch.testing.assert_close(ImageProcessor()([image]), expected, rtol=0, atol=1e-6)
    assert from_huggingface({}) == ImageProcessor()
    assert from_huggingface({"size": 224, "feature_extractor_type": "ViTFeatureExtractor"}) == ImageProcessor()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_gets_as_many_channels_as_there_are_means(mode: str, channels: int) -> None:
    processor = ImageProcessor(size=(8, 9), mean=(0.5,) * channels, std=(0.5,) * channels)
    pixels = processor([picture(12, 10, mode), picture(5, 20, mode)])
    assert pixels.shape == (2, channels, 8, 9)
    assert -1 <= float(pixels.min()) < -0.2 < 0.2 < float(pixels.max()) <= 1


def test_steps_that_are_off_are_left_out() -> None:
    config = {"do_resize": False, "do_rescale": False, "do_normalize": False}
    image = picture(7, 5)
    pixels = from_huggingface(config)([image])
    assert torch.equal(pixels[0].permute(1, 2, 0), torch.from_numpy(np.array(image)).float())


def test_one_channel_is_normalised_from_bytes_as_they_are() -> None:
    processor = ImageProcessor(size=None, mean=(0.1307,), std=(0.3081,))
    pixels = processor.normalise(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    torch.testing.assert_close(pixels, torch.tensor([[[-0.1307 / 0.3081, (1 - 0.1307) / 0.3081]]]))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"do_pad": True}, "do_pad is not supported"),
        ({"size": {"longest_edge": 3}}, "size must have height and width"),
        ({"size": {"height": 10**9, "width": 4}}, "size must be two whole numbers from 1 to 8192"),
        ({"size": {"shortest_edge": -4}}, "shortest_edge must be a whole number"),
        ({"size": {"height": "a", "width": 4}}, "size must be a whole number"),
        ({"resample": 9}, "resample must be a number of Pillow's"),
        ({"resample": "bicubic"}, "resample must be a number of Pillow's"),
        ({"image_std": [0.0, 1.0, 1.0]}, "std above 0"),
        ({"image_mean": [0.5]}, "mean and std must both have"),
        ({"image_mean": "half"}, "mean must be a list"),
        ({"rescale_factor": "1/255"}, "scale must be a number"),
        ({"do_center_crop": True, "crop_size": [3]}, "crop_size must have height and width"),
    ],
)
def test_settings_that_we_cannot_follow_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_huggingface(config)


def test_a_file_on_disk_is_read_strictly(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(to_huggingface(ImageProcessor(shortest_edge=9, size=None))))
    assert load(tmp_path).shortest_edge == 9
    (tmp_path / FILE).write_text('{"resample": 3, "resample": 2}')
    with pytest.raises(ValueError, match="comes twice"):
        load(tmp_path)


def test_images_that_make_no_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one image"):
        ImageProcessor()([])
    with pytest.raises(ConfigError, match="different sizes"):
        ImageProcessor(size=None)([picture(4, 5), picture(5, 4)])
    with pytest.raises(ConfigError, match="too small to crop 9 x 9"):
        ImageProcessor(size=None, crop=(9, 9))([picture(4, 5)])
    with pytest.raises(ConfigError, match="would be 250000 pixels long"):
        ImageProcessor(size=None, shortest_edge=100)([picture(1, 2500)])
    with pytest.raises(ConfigError, match="must be one that Pillow opened"):
        ImageProcessor()(["cat.png"])
