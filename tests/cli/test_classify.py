"""`glassformer classify`: real digits by a real model, how they are cut, and a broken picture beside good ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glassformer as gf
from glassformer.cli.patches import LINE, Grid
from glassformer.data.images import read_idx_set
from glassformer.features import image_processor
from glassformer.features.image_processor import ImageProcessor
from support.commands import run
from support.published import MNIST_VIT_FLAGS

DIGITS = [7, 2, 1, 0]  # the first of MNIST's test images


@pytest.fixture(scope="module")
def digits(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some digits, what the real model's pixels are scaled by, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("digits")
    mnist = data_dir / "images" / "mnist"
    found = read_idx_set(mnist / "t10k-images-idx3-ubyte.gz", mnist / "t10k-labels-idx1-ubyte.gz")
    assert found.labels[: len(DIGITS)].tolist() == DIGITS
    for digit, pixels in zip(DIGITS, found.pixels, strict=False):
        Image.fromarray(pixels[0].numpy()).save(folder / f"{digit}.png")
    image_processor.save(ImageProcessor(size=(28, 28), mean=(0.1307,), std=(0.3081,)), folder)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def model(data_dir: Path, digits: Path) -> list[str]:
    return [
        str(data_dir / "vit" / "vit_mnist.pth"),
        "--from-pickle",
        *MNIST_VIT_FLAGS,
        "--processor",
        str(digits),
    ]


def test_real_digits_are_recognised_and_a_broken_file_stops_nothing(model: list[str], digits: Path) -> None:
    names = ["7.png", "2.png", "broken.png", "1.png", "0.png"]
    done = run("classify", *model, *(str(digits / name) for name in names), "--json", "--batch-size", "2")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "broken.png is no picture that can be read: it has no format known here." in done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == 1
    assert [Path(picture["file"]).stem for picture in found["pictures"]] == ["7", "2", "1", "0"]
    for picture in found["pictures"]:
        best, *others = picture["classes"]
        assert best["label"] == Path(picture["file"]).stem
        assert best["probability"] > 0.9
        assert len(others) == 4
        assert sum(guess["probability"] for guess in picture["classes"]) == pytest.approx(1, abs=0.05)


def test_lines_for_people_with_the_patches(model: list[str], digits: Path) -> None:
    done = run("classify", *model, str(digits / "7.png"), "--top-k", "1", "--patches")
    assert (done.returncode, done.stderr) == (0, "")
    name, grid, guess = done.stdout.splitlines()
    assert name.endswith("7.png")
    assert grid.strip() == "28 x 28 pixels in 4 x 4 patches of 7 x 7: 17 tokens"
    assert re.fullmatch(r"  +\d+\.\d\d%  7", guess)


def test_a_model_without_a_processor_works_and_says_so(tmp_path: Path) -> None:
    gf.save(gf.build("vit", image_size=(8, 8), patch_size=(4, 4), d_model=8, n_layers=1, n_heads=2), tmp_path / "vit")
    Image.new("L", (9, 5)).save(tmp_path / "grey.png")
    done = run("classify", str(tmp_path / "vit"), str(tmp_path / "grey.png"), "--patches", "--json")
    assert done.returncode == 0
    assert "resized to 8 x 8 pixels from -1 to 1" in done.stderr
    (picture,) = json.loads(done.stdout)["pictures"]
    assert (picture["pixels"], picture["patch"], picture["patches"]) == ([8, 8], [4, 4], [2, 2])


def test_a_picture_that_is_too_small_stops_no_other(tmp_path: Path) -> None:
    for name, side in (("tiny", 4), ("whole", 28)):
        Image.new("L", (side, side)).save(tmp_path / f"{name}.png")
    image_processor.save(ImageProcessor(size=None, mean=(0.5,), std=(0.5,)), tmp_path)
    pictures = [str(tmp_path / "tiny.png"), str(tmp_path / "whole.png")]
    done = run("classify", "preset:vit-mnist", *pictures, "--processor", str(tmp_path), "--json")
    assert done.returncode == 2
    assert "tiny.png: a picture of 4 x 4 pixels has no patch of 7 x 7" in done.stderr
    assert [Path(one["file"]).name for one in json.loads(done.stdout)["pictures"]] == ["whole.png"]


def test_a_processor_of_other_colours_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28)).save(tmp_path / "colour.png")
    image_processor.save(ImageProcessor(size=(28, 28), mean=(0.5,) * 3, std=(0.5,) * 3), tmp_path)
    done = run("classify", "preset:vit-mnist", str(tmp_path / "colour.png"), "--processor", str(tmp_path))
    assert done.returncode == 2
    assert "have 1 channels, but its preprocessor_config.json makes 3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset:vit-mnist"], "Name at least one picture"),
        (["preset:vit-mnist", "x.png", "--top-k", "0"], "--top-k must be at least 1"),
        (["preset:vit-mnist", "x.png", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["nano-sort", "x.png"], "takes an image classifier or an encoder, and the model is a language model"),
        (["nowhere", "x.png"], "nothing at nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments: list[str], message: str) -> None:
    done = run("classify", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("width", [200, 40, 5])
def test_a_drawn_picture_has_its_patches_with_lines_between(width: int) -> None:
    """Every patch has a colour of its own, which all its pixels keep, however small it is drawn."""
    colours = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pixels = np.repeat(np.repeat(colours, 8, 0), 8, 1)[..., None].repeat(3, 2)
    grid = Grid(pixels=pixels, patch=(8, 8), n_extra=1)
    assert (grid.size, grid.patches) == ((16, 24), (2, 3))
    drawn = grid.drawn(width)
    assert len(drawn) % 2 == 0
    assert drawn.shape[1] <= max(width, 6)
    inside = [[pixel for pixel in row if tuple(pixel) != LINE] for row in drawn.tolist()]
    rows = [row for row in inside if row]
    assert {row[0][0] for row in rows} == {0, 3}
    assert all(list(dict.fromkeys(pixel[0] for pixel in row)) == ([0, 1, 2], [3, 4, 5])[row[0][0] > 0] for row in rows)
