"""Right answers of a model whose answer is known: it reads the class off a picture's brightness."""

import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from glassformer.data.image_files import ImageFiles, open_image_files, to_pillow
from glassformer.errors import DataError
from glassformer.evaluation.accuracy import ClassAccuracy, accuracy
from glassformer.features.image_processor import ImageProcessor

GREY = ImageProcessor(size=(4, 4), mean=(0.0,), std=(1.0,))


class Brightness(nn.Module):
    """Class n for a picture whose brightness is n tenths."""

    def __init__(self, *labels: str, n_classes: int = 3) -> None:
        super().__init__()
        self.config = SimpleNamespace(n_classes=n_classes, labels=labels)
        self.tenth = nn.Parameter(torch.tensor(0.1))

    def forward(self, images: Tensor) -> Tensor:
        brightness = images.mean((1, 2, 3))
        return -(brightness[:, None] - torch.arange(self.config.n_classes) * self.tenth).abs()


def grey(tenths: float) -> Image.Image:
    return Image.fromarray(np.full((6, 5), round(25.5 * tenths), dtype=np.uint8))


def folder_of(folder: Path, **classes: list[float]) -> Path:
    for name, pictures in classes.items():
        (folder / name).mkdir(parents=True)
        for number, tenths in enumerate(pictures):
            grey(tenths).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_right_answers_are_counted_for_all_and_for_each_class(batch_size: int, tmp_path: Path) -> None:
    told = []
    found = accuracy(
        Brightness("dark", "dim", "none"),
        open_image_files(folder_of(tmp_path, dark=[0, 0, 1], dim=[1, 0])),
        GREY,
        batch_size=batch_size,
        progress=lambda done, all: told.append((done, all)),
    )
    assert (found.correct, found.total, found.rate) == (3, 5, 0.6)
    assert found.classes == (
        ClassAccuracy(label="dark", correct=2, total=3),
        ClassAccuracy(label="dim", correct=1, total=2),
    )
    assert told[-1] == (5, 5)


def test_names_say_which_class_is_which(tmp_path: Path) -> None:
    """In the order of names "a" is before "b", and in the model's after it; "10" is before "2", and 10 after 2."""
    pictures = open_image_files(folder_of(tmp_path / "letters", a=[1], b=[0]))
    assert accuracy(Brightness("b", "a", "c"), pictures, GREY).rate == 1
    assert accuracy(Brightness(n_classes=2), pictures, GREY).rate == 0  # without names there is the order alone
    numbers = folder_of(tmp_path / "numbers", **{str(n): [n] for n in (0, 2, 10)})
    assert accuracy(Brightness(n_classes=11), open_image_files(numbers), GREY).rate == 1
    with pytest.raises(DataError, match="no class 'a'; it has cat, dog, gnu"):
        accuracy(Brightness("cat", "dog", "gnu"), pictures, GREY)


def test_a_limit_takes_pictures_of_all_classes() -> None:
    pictures = ImageFiles(open=lambda i: grey(i // 10), labels=[i // 10 for i in range(30)])
    found = accuracy(Brightness(), pictures, GREY, limit=7)
    assert (found.total, found.rate) == (7, 1)
    assert [one.total for one in found.classes] == [2, 3, 2]


def test_mnists_files_and_archives_are_read(tmp_path: Path) -> None:
    pixels, labels = np.stack([np.full((6, 5), 25 * n, dtype=np.uint8) for n in (2, 0, 1)]), np.array([2, 0, 2])
    for name, array in {"t10k-images-idx3-ubyte": pixels, "t10k-labels-idx1-ubyte": labels.astype(np.uint8)}.items():
        (tmp_path / name).write_bytes(
            struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        )
    np.savez(tmp_path / "set.npz", x_test=pixels, y_test=labels)
    images = tmp_path / "t10k-images-idx3-ubyte"
    named = open_image_files(images, tmp_path / "t10k-labels-idx1-ubyte")
    for pictures in (open_image_files(images), named, open_image_files(tmp_path / "set.npz")):
        assert accuracy(Brightness(), pictures, GREY).correct == 2
    colours = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    assert np.array_equal(np.asarray(to_pillow(colours)), colours.permute(1, 2, 0).numpy())


def test_what_is_no_set_of_pictures_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        open_image_files(tmp_path / "nowhere")
    (tmp_path / "images.txt").write_text("no picture")
    with pytest.raises(DataError, match="name the labels too"):
        open_image_files(tmp_path / "images.txt")
    (folder_of(tmp_path / "some", dark=[0, 0]) / "dark" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png is no picture"):
        accuracy(Brightness("dark", "dim", "none"), open_image_files(tmp_path / "some"), GREY)
    for label in (-1, 3):
        with pytest.raises(DataError, match=f"a picture of class {label}, and the model's 3"):
            accuracy(Brightness(), ImageFiles(open=lambda i: grey(0), labels=[0, label]), GREY)
