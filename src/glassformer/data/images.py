"""Sets of labelled images: MNIST's IDX files, npz archives, and folders with one folder a class.

Files come from strangers: what a header declares is compared with the file before memory is spent on it, and of a
picture the number of pixels is looked at before it is decoded. Next to read: `augmentation.py`.
"""

import gzip
import importlib
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Num, UInt8
from torch import Tensor

from glassformer.compressed import inflation_limit
from glassformer.errors import DataError
from glassformer.features.image_processor import ImageProcessor

MAX_PIXELS = 64_000_000  # of one picture
MAX_FILE_BYTES = 256 << 20  # of one picture
FEW_SCANS = 16  # of a progressive JPEG of any size; encoders write about ten
MAX_SCANNED = 10 * MAX_PIXELS  # pixels times scans, since each scan goes over all of them
START_OF_SCAN = b"\xff\xda"  # JPEG's marker, which its compressed data cannot hold
ROWS = 256  # of 16 bits a pixel that are narrowed at once
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images of one size, the number of the class of each, and the classes' names where they have some."""

    pixels: UInt8[Tensor, "N K H W"]
    labels: Int[Tensor, " N"]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pixels) == 0:
            raise DataError("There must be at least one image.")
        if len(self.pixels) != len(self.labels):
            raise DataError(f"There are {len(self.pixels)} images, but {len(self.labels)} labels.")

    def __len__(self) -> int:
        return len(self.labels)

    def random_batch(
        self, batch_size: int, *, seed: int, step: int, micro_step: int = 0
    ) -> tuple[UInt8[Tensor, "B K H W"], Int[Tensor, " B"]]:
        """Images drawn with replacement: a pure function of seed, step and micro-step."""
        chosen = np.random.default_rng((seed, step, micro_step)).integers(len(self), size=batch_size)
        index = torch.from_numpy(chosen)
        return self.pixels[index], self.labels[index]


# ---- IDX


def read_idx_set(images: Path, labels: Path) -> ImageSet:
    """MNIST's pair of files, gzipped or not: images (N, height, width) and labels (N)."""
    pixels, numbers = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or numbers.ndim != 1:
        raise DataError(f"{images} must have 3 axes and {labels} one; they have {pixels.ndim} and {numbers.ndim}.")
    return ImageSet(pixels=torch.from_numpy(pixels)[:, None], labels=torch.from_numpy(numbers).long())


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """An IDX file of bytes: 0, 0, 8, the number of axes; their lengths as big-endian uint32; then the bytes."""
    size = _size(path)
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.open(raw) if zipped else raw as file:
                return _idx(file, path, inflation_limit(size) if zipped else size)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is broken: {error}.") from None


def _idx(file: BufferedIOBase, path: Path, most: int) -> UInt8[np.ndarray, "..."]:
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
        raise DataError(f"{path} is no IDX file of bytes: its first four bytes are {head.hex(' ') or 'missing'}.")
    lengths = file.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise DataError(f"{path} ends within its header.")
    shape = struct.unpack(f">{head[3]}I", lengths)
    n_bytes = math.prod(shape)
    if n_bytes > most:
        raise DataError(f"{path} declares {n_bytes:,} bytes, far more than a file of its size holds.")
    data = file.read(n_bytes + 1)
    if len(data) != n_bytes:
        raise DataError(f"{path} declares {n_bytes:,} bytes and has {'more' if len(data) > n_bytes else len(data)}.")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)


# ---- npz


def read_npz_set(path: Path, *, images: str = "x_train", labels: str = "y_train") -> ImageSet:
    """Images (N, height, width) or (N, height, width, channels) and labels, by their names in the archive."""
    pixels, numbers = read_npz(path, [images, labels])
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise DataError(
            f"{path}: {images} must be uint8 of (N, height, width) or (N, height, width, 1 or 3), not {pixels.dtype} "
            f"of {pixels.shape}."
        )
    if numbers.dtype.kind not in "iu" or numbers.size != len(pixels):
        raise DataError(f"{path}: {labels} must have a whole number for each of the {len(pixels)} images.")
    n_channels = 1 if pixels.ndim == 3 else pixels.shape[3]
    channels_last = torch.from_numpy(pixels.reshape(*pixels.shape[:3], n_channels))
    return ImageSet(
        pixels=channels_last.movedim(-1, 1).contiguous(), labels=torch.from_numpy(numbers.astype(np.int64)).reshape(-1)
    )


def read_npz(path: Path, names: Sequence[str]) -> list[Num[np.ndarray, "..."]]:
    """Arrays of numbers from an archive; pickled ones are refused."""
    size = _size(path)
    arrays = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            for name in names:
                if f"{name}.npy" not in members:
                    array_names = ", ".join(other.removesuffix(".npy")[:40] for other in members[:10])
                    raise DataError(f"{path} has no array {name!r}; it has {array_names or 'none'}.")
                info = archive.getinfo(f"{name}.npy")
                if info.file_size > inflation_limit(size):
                    raise DataError(f"{path}: {name} would inflate to {info.file_size:,} bytes.")
                with archive.open(info) as file:
                    _check_npy(file, info.file_size, f"{path}: {name}")  # type: ignore[arg-type]
                with archive.open(info) as file:
                    arrays.append(np.lib.format.read_array(file, allow_pickle=False))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no archive of arrays: {error}.") from None
    return arrays


def _check_npy(file: BufferedIOBase, n_bytes: int, where: str) -> None:
    """Raise unless the array has exactly the bytes that its header declares."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{where} has version {version} of numpy's format; 1 and 2 are read.")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if dtype.kind not in "buif":
        raise DataError(f"{where} holds {dtype}, which is no plain number.")
    if math.prod(shape) * dtype.itemsize != n_bytes - file.tell():
        raise DataError(f"{where} declares {shape} of {dtype}, but has {n_bytes - file.tell():,} bytes.")


# ---- folders of pictures


def read_folder(folder: Path, processor: ImageProcessor) -> ImageSet:
    """Pictures in one folder a class, brought to one size; the classes are in the order of their names."""
    paths, labels, classes = list_folder(folder)
    pixels = [processor.pixels(open_image(path)) for path in paths]
    if len({image.shape for image in pixels}) > 1:
        raise DataError(f"The pictures in {folder} have different sizes: give the processor one to bring them to.")
    return ImageSet(pixels=torch.stack(pixels), labels=torch.tensor(labels), classes=tuple(classes))


def list_folder(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """The pictures, the number of the class of each, and the classes: the names of the folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; it must have one folder a class, with that class's pictures.")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        image_paths = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not image_paths:
            raise DataError(f"{folder / name} has no pictures ({' '.join(SUFFIXES)}).")
        paths += image_paths
        labels += [label] * len(image_paths)
    if not paths:
        raise DataError(f"{folder} has no folders, of which each would be a class.")
    return paths, labels, classes


def open_image(path: Path) -> Any:
    """A picture, decoded by Pillow, upright as its camera says; of an animation the first frame."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if _size(path) > MAX_FILE_BYTES:
        raise DataError(f"{path} has {_size(path):,} bytes; a picture may have {MAX_FILE_BYTES:,}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about what is refused or harmless here
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path} has {image.width:,} x {image.height:,} pixels; {MAX_PIXELS:,} are allowed."
                    )
                scans = _count(path, START_OF_SCAN) if image.format in ("JPEG", "MPO") else 1
                if scans > FEW_SCANS and scans * image.width * image.height > MAX_SCANNED:
                    raise DataError(
                        f"{path} has {scans:,} scans of {image.width:,} x {image.height:,} pixels; save it anew, with "
                        f"at most {FEW_SCANS}."
                    )
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _bytes_a_pixel(image, path)
        except DataError:
            raise
        except Exception as error:  # whatever a hostile file makes a decoder say
            if isinstance(error, UnidentifiedImageError):
                raise DataError(f"{path} is no picture that can be read: it has no format known here.") from None
            reason = str(error).split("\n")[0][:200].replace(str(path), "it")
            raise DataError(f"{path} is no picture that can be read: {reason or type(error).__name__}.") from None


def _bytes_a_pixel(image: Any, path: Path) -> Any:
    """Pictures of 16 bits a pixel in 8, which Pillow's own conversion would cut off instead of scaling."""
    if image.mode == "F":
        raise DataError(f"{path} holds floating point numbers of unknown range: save it as 8 or 16 bits a channel.")
    if not image.mode.startswith("I"):
        return image
    wide = np.asarray(image)
    narrow = np.empty(wide.shape, np.uint8)
    for row in range(0, len(wide), ROWS):
        narrow[row : row + ROWS] = wide[row : row + ROWS].clip(0, 65535) >> 8
    return importlib.import_module("PIL.Image").fromarray(narrow)


def _count(path: Path, marker: bytes) -> int:
    """How often two bytes stand in a file."""
    n, last = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            n += (last + chunk).count(marker)
            last = chunk[-1:]
    return n


def _size(path: Path) -> int:
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the pictures in it.")
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    return path.stat().st_size
