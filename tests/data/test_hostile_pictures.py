"""Over a hundred pictures as strangers make them: each is a picture or one sentence, soon and in little memory."""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkpoints.hostile import bounded, refused
from glassformer.data.images import FORMATS, open_image
from glassformer.errors import DataError
from glassformer.features.image_processor import ImageProcessor
from support.counts import count

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
Make = Callable[[], bytes]


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with this header; without other data, all of its bytes are 0."""
    row = 1 + -(-width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) // 8)
    data = data or zlib.compress(bytes(min(row * height, 100_000_000)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_exif(content: bytes) -> bytes:
    return encoded(NOISE, "JPEG", exif=b"Exif\0\0" + content)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(NOISE, "JPEG", exif=exif)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header says so, whatever its data."""
    data = bytearray(encoded(NOISE, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(NOISE, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def many_scans(n: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last scan comes many times: two bytes a block would do."""
    data = encoded(Image.new("RGB", size), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * n + data[-2:]


def inflating(kind: bytes, before: bytes) -> bytes:
    """A PNG with a chunk of 50 kB that inflates to 50 MB."""
    return png(4, 4, extra=chunk(kind, before + zlib.compress(bytes(50_000_000))))


def animation(format: str, n_frames: int) -> bytes:
    frames = [Image.new("L", (4, 4), 200 + i % 2) for i in range(n_frames)]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:])


def wide(mode: str, **options: object) -> bytes:
    return encoded(NOISE.convert(mode), **options)


ODD: dict[str, tuple[tuple[int, int], Make]] = {  # pictures after all, with their width and height
    **{f"1 x 1, {format}": ((1, 1), lambda format=format: encoded(NOISE.resize((1, 1)), format)) for format in FORMATS},
    **{f"{format} named .png": ((90, 60), lambda format=format: encoded(NOISE, format)) for format in FORMATS},
    **{f"PNG of mode {m}": ((90, 60), lambda m=m: wide(m)) for m in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"JPEG of mode {m}": ((90, 60), lambda m=m: wide(m, format="JPEG")) for m in ("L", "CMYK", "YCbCr")},
    **{
        f"turned by {n}": ((60, 90) if n in range(5, 9) else (90, 60), lambda n=n: turned(n)) for n in (*range(10), 255)
    },
    "palette with a transparent colour": ((90, 60), lambda: encoded(NOISE.convert("P"), transparency=3)),
    "progressive JPEG": ((90, 60), lambda: encoded(NOISE, "JPEG", progressive=True)),
    "lossless WebP": ((90, 60), lambda: encoded(NOISE, "WEBP", lossless=True)),
    "interlaced GIF": ((90, 60), lambda: encoded(NOISE, "GIF", interlace=1)),
    "10,000 frames of GIF": ((4, 4), lambda: animation("GIF", 10_000)),
    "1,000 frames of PNG": ((4, 4), lambda: animation("PNG", 1_000)),
    "50 frames of WebP": ((4, 4), lambda: animation("WEBP", 50)),
    "60,000 wide": ((60_000, 1), lambda: png(60_000, 1)),
    "60,000 high": ((1, 60_000), lambda: png(1, 60_000)),
    "20 million pixels": ((5_000, 4_000), lambda: png(5_000, 4_000, depth=1)),
    "a BMP from top to bottom": ((90, 60), lambda: bmp_of_size(90, -60)),
    "EXIF that is no EXIF": ((90, 60), lambda: with_exif(b"nonsense" * 1_000)),
    "EXIF that points beyond its end": (
        (90, 60),
        lambda: with_exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\xff\xff\xff\x7f\xf0\xff\xff\xff"),
    ),
    "a colour profile of nonsense": ((90, 60), lambda: encoded(NOISE, icc_profile=b"nonsense" * 9_000)),
    "a colour profile in 25 pieces": ((90, 60), lambda: encoded(NOISE, "JPEG", icc_profile=b"nonsense" * 200_000)),
    "1,000 comments": ((4, 4), lambda: png(4, 4, extra=chunk(b"tEXt", b"a\0" + b"b" * 900) * 1_000)),
    "text after the picture": ((90, 60), lambda: encoded(NOISE) + b"hello" * 1_000),
    "16 bits of colour": ((4, 4), lambda: png(4, 4, depth=16, colour=2)),
    "20 million pixels of 16 bits": ((5_000, 4_000), lambda: png(5_000, 4_000, depth=16)),
    "a JPEG of many scans of few pixels": ((16, 16), lambda: many_scans(300, (16, 16))),
    "PPM in letters": ((2, 1), lambda: b"P3\n# a comment\n2 1\n255\n1 2 3 4 5 6\n"),
    "PGM of 16 bits": ((2, 1), lambda: b"P5 2 1 65535\n\0\1\2\3"),
}

EITHER: dict[str, Make] = {  # decoders may show what there is
    **{
        f"{format} cut at {part:.0%}": lambda format=format, part=part: (data := encoded(NOISE, format))[
            : int(len(data) * part)
        ]
        for format in FORMATS
        for part in (0.3, 0.7, 0.97)
    },
    "a palette that ends early": lambda: png(4, 4, colour=3, extra=chunk(b"PLTE", b"\1\2\3")),
    "a palette that is missing": lambda: png(4, 4, colour=3),
    "a chunk with a wrong sum": lambda: encoded(NOISE).replace(b"IEND", b"IENX"),
    "data for one row of a hundred": lambda: png(100, 100, data=zlib.compress(bytes(101))),
    "a colour profile of 1.6 MB": lambda: encoded(NOISE, icc_profile=b"nonsense" * 200_000),
    "two headers": lambda: png(4, 4, extra=chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))),
}

BROKEN: dict[str, Make] = {
    "empty": lambda: b"",
    **{
        f"{format} of {n} bytes": lambda format=format, n=n: encoded(NOISE, format)[:n]
        for format in FORMATS
        for n in (1, 4, 11)
    },
    **{
        f"{format}, then noise": lambda format=format: encoded(NOISE, format)[:8] + random.Random(0).randbytes(4_000)
        for format in FORMATS
    },
    **{
        f"a {format}": lambda format=format: encoded(NOISE, format)
        for format in ("TIFF", "ICO", "PCX", "TGA", "EPS", "PDF", "DDS", "SGI")
    },
    "a pickle": lambda: b"cbuiltins\nopen\n(Vexecuted\nVw\ntR.",
    "a script for a printer": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(executed) (w) file\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "HTML": lambda: b"<!doctype html><title>404</title>",
    "a picture that is gzipped": lambda: gzip.compress(encoded(NOISE)),
    "sound": lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    "no width": lambda: png(0, 4),
    "no height": lambda: png(4, 0),
    "a billion wide": lambda: png(10**9, 1, data=b"x"),
    "2^31 wide": lambda: png(2**31, 1, data=b"x"),
    "60,000 x 60,000 of 1 bit": lambda: png(60_000, 60_000, depth=1),
    "one row too many": lambda: png(8_000, 8_001, depth=1),
    "an impossible depth": lambda: png(4, 4, depth=3),
    "an impossible colour": lambda: png(4, 4, colour=5),
    "data that is no zlib": lambda: png(4, 4, data=b"nonsense"),
    "a comment that inflates": lambda: inflating(b"zTXt", b"a\0\0"),
    "a translation that inflates": lambda: inflating(b"iTXt", b"a\0\1\0\0\0"),
    "a GIF without a frame": lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";",
    "a GIF of 65,535 x 65,535": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
    "a JPEG of 65,535 x 65,535": lambda: jpeg_of_size(65_535, 65_535),
    "a JPEG of 20,000 scans": lambda: many_scans(20_000, (256, 256)),
    "a JPEG of 500 scans of many pixels": lambda: many_scans(500, (1_200, 1_100)),
    "a JPEG of no width": lambda: jpeg_of_size(0, 60),
    "a BMP of negative width": lambda: bmp_of_size(-90, 60),
    "a BMP of 2^31 - 1 rows": lambda: bmp_of_size(90, 2**31 - 1),
    "a PPM of 10^8 x 10^8": lambda: b"P6 100000000 100000000 255\n" + bytes(99),
    "a PPM of negative width": lambda: b"P6 -3 4 255\n" + bytes(99),
    "a PPM whose white is 0": lambda: b"P6 3 4 0\n" + bytes(99),
    "a PPM whose white is 70,000": lambda: b"P6 3 4 70000\n" + bytes(99),
    "a PPM with a number of 5,000 digits": lambda: b"P6 " + b"9" * 5_000 + b" 4 255\n",
    "a PPM of words": lambda: b"P6 three four 255\n" + bytes(99),
    "a WebP of 16,384 x 16,384": lambda: (
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * struct.pack("<I", 16_383)[:3]
    ),
}


ALL = [*ODD, *EITHER, *BROKEN]
CHOSEN = set(random.Random(0).sample(ALL, count("hostile pictures")))


def chosen(table: Iterable[str]) -> list[str]:
    return [name for name in table if name in CHOSEN]


@pytest.mark.parametrize("name", chosen(ODD))
def test_an_odd_picture_is_a_picture(name: str, tmp_path: Path) -> None:
    size, make = ODD[name]
    path = tmp_path / "a.png"
    path.write_bytes(make())
    with bounded(path):
        picture = open_image(path)
        assert picture.size == size
        assert ImageProcessor(size=(8, 8)).pixels(picture).shape == (3, 8, 8)


@pytest.mark.parametrize("name", chosen(EITHER))
def test_a_damaged_picture_is_a_picture_or_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(EITHER[name]())
    message = ""
    with bounded(path):
        try:
            assert ImageProcessor(size=(8, 8)).pixels(open_image(path)).shape == (3, 8, 8)
        except DataError as error:
            message = str(error)
    assert "\n" not in message
    assert message == "" or message.startswith(str(path))


@pytest.mark.parametrize("name", chosen(BROKEN))
def test_what_is_no_picture_is_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(BROKEN[name]())
    with refused(path):
        open_image(path)
