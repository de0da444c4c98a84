"""Over a hundred sound files as strangers make them: each is sound, or one sentence, soon and in little memory."""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from checkpoints.hostile import bounded, refused
from glassformer.data.audio import Recording, read_audio
from glassformer.errors import DataError
from support.counts import count

RATE = 16_000
Make = Callable[[], bytes]


def samples(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def encoded(sound: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, sound, rate, format=format, subtype=subtype)
    return data.getvalue()


def wav(
    size: int = 3_200,
    promised: int | None = None,
    *,
    code: int = 1,
    channels: int = 1,
    rate: int = RATE,
    align: int | None = None,
    bits: int = 16,
    form_size: int = 16,
    before: bytes = b"",
) -> bytes:
    """A WAV with this header, and `size` bytes of silence."""
    promised = size if promised is None else promised
    align = channels * bits // 8 if align is None else align
    form = struct.pack("<HHIIHH", code, channels, rate, rate * align % 2**32, align % 2**16, bits)
    head = b"RIFF" + struct.pack("<I", (36 + promised) % 2**32) + b"WAVE" + before
    return head + b"fmt " + struct.pack("<I", form_size) + form + b"data" + struct.pack("<I", promised) + bytes(size)


def with_samples(*values: float, subtype: str = "FLOAT") -> bytes:
    """A second of noise, in the middle of which these stand."""
    sound = samples(RATE).astype(np.float64)
    sound[8_000 : 8_000 + len(values), 0] = values
    return encoded(sound, subtype=subtype)


def flac_of_unknown_length() -> bytes:
    """As a program writes it that cannot go back to its beginning: 36 bits of the header are 0."""
    data = bytearray(encoded(samples(RATE), format="FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.wav", data)
    return buffer.getvalue()


WAVS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")
RATES = (1_000, 7_999, 8_000, 11_025, 12_000, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000, 768_000)

ODD: dict[str, tuple[float, Make]] = {  # sound after all, of so many seconds
    **{f"WAV of {kind}": (1.0, lambda kind=kind: encoded(samples(RATE), subtype=kind)) for kind in WAVS},
    **{f"{kind}": (1.0, lambda kind=kind: encoded(samples(RATE), format=kind)) for kind in CONTAINERS},
    **{f"{rate} Hz": (1.0, lambda rate=rate: encoded(samples(rate), rate)) for rate in RATES},
    **{f"{n} channels": (0.1, lambda n=n: encoded(samples(1_600, n))) for n in (2, 3, 6, 8, 33, 256)},
    **{f"{n} samples": (n / RATE, lambda n=n: encoded(samples(n))) for n in (1, 2, 199, 200, 201, 15_999)},
    "one sample at 1,000 Hz": (0.001, lambda: encoded(samples(1), 1_000)),
    "FLAC of 24 bits": (1.0, lambda: encoded(samples(RATE), format="FLAC", subtype="PCM_24")),
    "AIFF of 8 bits": (1.0, lambda: encoded(samples(RATE), format="AIFF", subtype="PCM_S8")),
    "Opus": (1.0, lambda: encoded(samples(48_000), 48_000, format="OGG", subtype="OPUS")),
    "far too loud": (1.0, lambda: with_samples(1e30)),
    "tiny numbers": (1.0, lambda: with_samples(1e-310, subtype="DOUBLE")),
    "silence": (0.1, wav),
    "4 GB promised": (0.1, lambda: wav(promised=2**32 - 40)),
    "nothing promised to come": (0.1, lambda: wav(before=b"LIST" + struct.pack("<I", 4) + b"INFO")),
    "a wrong number of bytes a second": (0.1, lambda: wav(align=7)),
    "as a pipe writes it, promising all": (0.1, lambda: wav(promised=2**32 - 1)),
    "FLAC that does not say how long it is": (1.0, flac_of_unknown_length),
    "noise after its end": (1.0, lambda: encoded(samples(RATE), format="FLAC") + bytes(3_000)),
}

EITHER: dict[str, Make] = {  # libsndfile may hear what there is
    **{
        f"{kind} cut at {part:.0%}": lambda kind=kind, part=part: (data := encoded(samples(RATE), format=kind))[
            : int(len(data) * part)
        ]
        for kind in CONTAINERS
        for part in (0.02, 0.5, 0.97)
    },
    "FLAC cut before its end": lambda: encoded(samples(RATE), format="FLAC")[:-3_000],
    "half a sample more": lambda: wav(3_201),
    "13 bits": lambda: wav(bits=13, align=2),
    "a format of 2 GB": lambda: wav(form_size=2**31),
    "two formats": lambda: wav(before=wav()[12:36]),
    "a list of 4 GB before it": lambda: wav(before=b"LIST" + struct.pack("<I", 2**32 - 1)),
    "MP3 with a tag of 256 MB": lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + encoded(samples(RATE), format="MP3"),
    "MP3 that begins in noise": lambda: random.Random(0).randbytes(999) + encoded(samples(RATE), format="MP3"),
}

BROKEN: dict[str, Make] = {
    "empty": lambda: b"",
    **{
        f"{kind} of {n} bytes": lambda kind=kind, n=n: encoded(samples(RATE), format=kind)[:n]
        for kind in CONTAINERS
        for n in (1, 4, 11)
    },
    **{
        f"{kind} with no samples": lambda kind=kind: encoded(samples(0), format=kind)
        for kind in ("WAV", "AIFF", "AU", "CAF")
    },
    **{
        f"{kind}, then noise": lambda kind=kind: (
            encoded(samples(9), format=kind)[:12] + random.Random(0).randbytes(4_000)
        )
        for kind in ("WAV", "FLAC", "OGG", "AIFF", "CAF")
    },
    **{f"{rate} Hz": lambda rate=rate: wav(rate=rate) for rate in (0, 1, 999, 768_001, 1_000_000, 2**32 - 1)},
    **{f"{n} channels": lambda n=n: wav(n * 20, channels=n) for n in (0, 257, 1_000, 65_535)},
    "not a number": lambda: with_samples(np.nan),
    "infinite": lambda: with_samples(np.inf),
    "minus infinite, at last": lambda: encoded(np.append(samples(RATE), -np.inf), subtype="FLOAT"),
    "a double no float can hold": lambda: with_samples(1e300, subtype="DOUBLE"),
    "an unknown code": lambda: wav(code=0x7777),
    "no bits": lambda: wav(bits=0),
    "samples without a header": lambda: bytes(1_000),
    "text": lambda: b"hello " * 99,
    "HTML": lambda: b"<!doctype html><title>404</title>",
    "a playlist": lambda: b"#EXTM3U\nhttp://example.org/x.mp3\n",
    "a list for concat": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "a zip with a WAV": lambda: zipped(wav()),
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(1_000),
    "an MP4 without sound": lambda: b"\0\0\0\x18ftypmp42" + bytes(1_000),
    "a Matroska without sound": lambda: b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska" + bytes(1_000),
    "an AVI without sound": lambda: b"RIFF\xe8\3\0\0AVI LIST" + bytes(1_000),
    "MIDI": lambda: b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
}


ALL = [*ODD, *EITHER, *BROKEN]
CHOSEN = set(random.Random(0).sample(ALL, count("hostile sounds")))


def chosen(table: Iterable[str]) -> list[str]:
    return [name for name in table if name in CHOSEN]


@pytest.mark.parametrize("name", chosen(ODD))
def test_an_odd_file_is_sound(name: str, tmp_path: Path) -> None:
    seconds, make = ODD[name]
    path = tmp_path / "x.wav"
    path.write_bytes(make())
    with bounded(path):
        found = read_audio(path)
    assert found.isfinite().all()
    slack = (
        0.08 if name in ("MP3", "WAV of GSM610", "WAV of IMA_ADPCM", "WAV of MS_ADPCM") else 2 / RATE
    )  # whole blocks
    assert abs(len(found) / RATE - seconds) <= slack


@pytest.mark.parametrize("name", chosen(EITHER))
def test_a_damaged_file_is_sound_or_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(EITHER[name]())
    recording, message = Recording(path), ""
    with bounded(path):
        try:
            waveform = torch.cat(list(recording.blocks()))
            assert waveform.isfinite().all()
            assert 0 < len(waveform) <= 1.2 * RATE
            assert recording.truncated or "cut" not in name
        except DataError as error:
            message = str(error)
    assert "\n" not in message
    assert message == "" or message.startswith(str(path))


@pytest.mark.parametrize("name", chosen(BROKEN))
def test_what_is_no_sound_is_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(BROKEN[name]())
    with refused(path):
        read_audio(path)
