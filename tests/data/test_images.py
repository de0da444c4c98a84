"""Sets of images: what they hold, and one sentence for every file that holds something else."""

import gzip
import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from checkpoints.hostile import refused
from glassformer.data.images import (
    ImageSet,
    list_folder,
    open_image,
    read_folder,
    read_idx,
    read_idx_set,
    read_npz_set,
)
from glassformer.errors import DataError
from glassformer.features.image_processor import ImageProcessor
from support.counts import count
from support.damage import damaged

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    shape = shape or array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + array.tobytes()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


# ---- IDX


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_an_idx_pair_is_read(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(pack(idx(PIXELS)))
    (tmp_path / "labels").write_bytes(pack(idx(np.arange(5, dtype=np.uint8))))
    found = read_idx_set(tmp_path / "images", tmp_path / "labels")
    assert found.pixels.shape == (5, 1, 4, 6)
    assert np.array_equal(found.pixels[:, 0].numpy(), PIXELS)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


def test_mnist_is_whole(data_dir: Path) -> None:
    folder = data_dir / "images" / "mnist"
    for name, n in (("train", 60_000), ("t10k", 10_000)):
        found = read_idx_set(folder / f"{name}-images-idx3-ubyte.gz", folder / f"{name}-labels-idx1-ubyte.gz")
        assert found.pixels.shape == (n, 1, 28, 28)
        assert found.labels.unique().tolist() == list(range(10))
        if name == "train":
            assert int(found.pixels.sum()) / found.pixels.numel() / 255 == pytest.approx(0.1307, abs=1e-4)


IDX_FILES: dict[str, bytes] = {
    "empty": b"",
    "three bytes": b"\0\0\x08",
    "text": b"hello, world",
    "floats": b"\0\0\x0d\x01" + struct.pack(">I", 1) + bytes(4),
    "no axes": b"\0\0\x08\0",
    "200 axes": b"\0\0\x08\xc8" + bytes(800),
    "cut in its header": b"\0\0\x08\x03\0\0",
    "cut in its data": idx(PIXELS)[:-1],
    "longer than declared": idx(PIXELS) + b"x",
    "4 GB declared": idx(PIXELS, (2**32 - 1,)),
    "2 to the 128 declared": idx(PIXELS, (2**32 - 1,) * 4),
    "a gzip cut short": gzip.compress(idx(PIXELS))[:-9],
    "a gzip with another sum": gzip.compress(idx(PIXELS))[:-8] + bytes(8),
    "not gzip": b"\x1f\x8bnonsense",
    "a bomb": gzip.compress(idx(np.zeros(30_000_000, dtype=np.uint8))),
    "a bomb that declares little": gzip.compress(idx(np.zeros(30_000_000, dtype=np.uint8), (3, 3))),
}


@pytest.mark.parametrize("content", IDX_FILES.values(), ids=IDX_FILES.keys())
def test_another_idx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    with refused(tmp_path / "images"):
        read_idx(tmp_path / "images")


# ---- npz


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1), (5, 4, 6, 3)])
def test_an_archive_of_arrays_is_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "set.npz").write_bytes(npz(x_train=pixels, y_train=np.arange(5)[:, None], x_test=pixels))
    found = read_npz_set(tmp_path / "set.npz")
    assert np.array_equal(found.pixels.movedim(1, -1).numpy().reshape(shape), pixels)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


def npz_with(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr("y_train.npy", npy(np.arange(5)))
    return buffer.getvalue()


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> bytes:
    """numpy's format, with a header that may lie."""
    header = f"{{'descr': {dtype or array.dtype.str!r}, 'fortran_order': False, 'shape': {shape or array.shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + array.tobytes()


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("executed", "w"))


NPZ_FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK\3\4 and nothing else",
    "no such array": lambda: npz(images=PIXELS),
    "floats": lambda: npz(x_train=PIXELS.astype(np.float32), y_train=np.arange(5)),
    "two axes": lambda: npz(x_train=PIXELS[0], y_train=np.arange(5)),
    "two channels": lambda: npz(x_train=np.zeros((5, 4, 6, 2), np.uint8), y_train=np.arange(5)),
    "too few labels": lambda: npz(x_train=PIXELS, y_train=np.arange(4)),
    "labels of floats": lambda: npz(x_train=PIXELS, y_train=np.arange(5) / 2),
    "no images": lambda: npz(x_train=PIXELS[:0], y_train=np.arange(0)),
    "a pickle": lambda: npz_with("x_train.npy", npy(np.zeros(0), dtype="|O") + pickle.dumps(Runs())),
    "a billion declared": lambda: npz_with("x_train.npy", npy(PIXELS, (10**9, 28, 28))),
    "a negative size": lambda: npz_with("x_train.npy", npy(PIXELS, (-5, 4, 6))),
    "more than declared": lambda: npz_with("x_train.npy", npy(PIXELS, (4, 4, 6))),
    "a header of code": lambda: npz_with("x_train.npy", npy(PIXELS, dtype="__import__('os').system('true')")),
    "cut in its header": lambda: npz_with("x_train.npy", npy(PIXELS)[:20]),
    "a bomb": lambda: npz(x_train=np.zeros((30_000, 28, 28), np.uint8), y_train=np.zeros(30_000, np.int64)),
    "cut short": lambda: npz(x_train=PIXELS, y_train=np.arange(5))[:-40],
}


@pytest.mark.parametrize("make", NPZ_FILES.values(), ids=NPZ_FILES.keys())
def test_another_archive_is_refused(make: Callable[[], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.npz").write_bytes(make())
    with refused(tmp_path / "set.npz"):
        read_npz_set(tmp_path / "set.npz")
    assert not (tmp_path / "executed").exists()


# ---- folders of pictures


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


COLOURS = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8))


def test_a_folder_a_class_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, colours in {"dog": ["red", "blue"], "cat": ["white"], ".hidden": []}.items():
        (tmp_path / name).mkdir()
        for colour in colours:
            Image.new("RGB", (5, 4), colour).save(tmp_path / name / f"{colour}.png")
        (tmp_path / name / "notes.txt").write_text("no picture")
    found = read_folder(tmp_path, ImageProcessor(size=(2, 3)))
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.pixels[:, :, 0, 0].tolist() == [[255, 255, 255], [0, 0, 255], [255, 0, 0]]
    assert [path.name for path in list_folder(tmp_path)[0]] == ["white.png", "blue.png", "red.png"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_of_any_kind_of_pixels_is_a_picture(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200)
    else:
        image = COLOURS.convert(mode)
    (tmp_path / "a.png").write_bytes(encoded(image))
    pixels = ImageProcessor(size=None).pixels(open_image(tmp_path / "a.png"))
    assert pixels.shape == (3, 6, 9)
    assert int(pixels.max()) > 200
    if mode == "RGB":
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(COLOURS))
    if mode == "I;16":
        assert torch.equal(pixels[0], torch.arange(54).reshape(6, 9).mul(1200).div(256).floor().byte())


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "GIF", "PPM"])
def test_other_formats_are_read(format: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encoded(COLOURS, format))
    assert open_image(tmp_path / "a").size == (9, 6)


def test_cmyk_and_the_cameras_rotation_are_understood(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    (tmp_path / "a.jpg").write_bytes(encoded(COLOURS.convert("CMYK"), "JPEG", exif=exif))
    upright = open_image(tmp_path / "a.jpg")
    assert upright.size == (6, 9)
    assert ImageProcessor(size=None).pixels(upright).shape == (3, 9, 6)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in range(200, 0, -1)]
    (tmp_path / "a.gif").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.array(open_image(tmp_path / "a.gif").convert("L")).tolist() == [[200] * 4] * 4


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"])
def test_a_damaged_picture_is_a_picture_or_a_data_error(format: str, tmp_path: Path) -> None:
    good = encoded(COLOURS, format)
    for seed in range(count("damaged pictures of a format")):
        (tmp_path / "a").write_bytes(damaged(good, random.Random(seed), header=40))
        with suppress(DataError):
            ImageProcessor(size=(8, 8)).pixels(open_image(tmp_path / "a"))


def test_folders_without_classes_or_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        list_folder(tmp_path / "none")
    with pytest.raises(DataError, match="has no folders"):
        list_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat has no pictures"):
        list_folder(tmp_path)
    with pytest.raises(DataError, match="There is no file"):
        open_image(tmp_path / "cat" / "a.png")
    for number, size in enumerate([(3, 4), (4, 3)]):
        Image.new("L", size).save(tmp_path / "cat" / f"{number}.png")
    with pytest.raises(DataError, match="different sizes"):
        read_folder(tmp_path, ImageProcessor(size=None))


# ---- batches


def test_a_batch_is_a_function_of_seed_step_and_micro_step() -> None:
    images = ImageSet(pixels=torch.from_numpy(PIXELS)[:, None], labels=torch.arange(5))
    first, labels = images.random_batch(64, seed=1, step=2)
    assert torch.equal(first, images.pixels[labels])
    assert labels.unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(images.random_batch(64, seed=1, step=2)[1], labels)
    for other in ({"seed": 2, "step": 2}, {"seed": 1, "step": 3}, {"seed": 1, "step": 2, "micro_step": 1}):
        assert not torch.equal(images.random_batch(64, **other)[1], labels)


@pytest.mark.usefixtures("unchecked")
def test_images_and_labels_must_be_as_many() -> None:
    with pytest.raises(DataError, match="5 images, but 4 labels"):
        ImageSet(pixels=torch.from_numpy(PIXELS)[:, None], labels=torch.arange(4))
