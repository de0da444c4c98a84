"""Sound from files: what is right is read exactly, whatever cuts and rates; what is wrong is one sentence."""

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from counts import count
from glassformer.data.audio import read_audio, stream_audio
from glassformer.errors import DataError

RATE = 16_000


def tone(rate: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_file_at_16_khz_is_read_as_it_is(subtype: str, tmp_path: Path) -> None:
    samples = tone(RATE, 0.3)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype=subtype)
    assert np.abs(read_audio(tmp_path / "x.wav").numpy() - samples).max() < 2**-15


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.mp3", "x.aiff", "wrong-extension.txt", "-x.wav", "http:x.wav"])
def test_the_format_is_found_in_the_file_and_not_in_its_name(name: str, tmp_path: Path) -> None:
    kind = {"flac": "FLAC", "ogg": "OGG", "mp3": "MP3", "aiff": "AIFF"}.get(name.rpartition(".")[2], "WAV")
    data = io.BytesIO()
    soundfile.write(data, tone(RATE, 1.0), RATE, format=kind)
    (tmp_path / name).write_bytes(data.getvalue())
    found = read_audio(tmp_path / name).numpy()
    spectrum = np.abs(np.fft.rfft(found[1_000:-1_000] * np.hanning(len(found) - 2_000)))
    assert abs(spectrum.argmax() * RATE / (len(found) - 2_000) - 440) < 2


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_are_resampled(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", tone(rate, 1.5), rate)
    found = read_audio(tmp_path / "x.wav").numpy()
    expected = tone(RATE, 1.5)
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(400, len(expected) - 400)  # the ends ring
    assert np.abs(found[middle] - expected[middle]).max() < 2e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(RATE, 0.1), tone(RATE, 0.1, 1_000)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav"), (left + right) / 2, atol=1e-6)


def test_blocks_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "x.wav", np.stack([tone(44_100, 1.0)] * 2, axis=1), 44_100)
    whole = read_audio(tmp_path / "x.wav")
    monkeypatch.setattr("glassformer.data.audio.BLOCK_NUMBERS", 2_002)
    blocks = list(stream_audio(tmp_path / "x.wav"))
    assert len(blocks) > 20
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-6, rtol=0)


# ---- what is wrong


def wav(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=options.get("format", "WAV"), subtype=options.get("subtype"))
    return data.getvalue()


@pytest.mark.parametrize("name", ["nothing.wav", "-", "http://example.org/x.wav", "concat:a.wav|b.wav", ""])
def test_a_name_is_a_file_or_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is none"):
        read_audio(Path(name))


def test_less_than_a_sample_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(wav(np.ones(1, np.float32), 48_000))
    with pytest.raises(DataError, match="holds no sound"):
        read_audio(tmp_path / "short.wav")


def test_the_longest_recording_is_a_setting(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", tone(8_000, 4.0), 8_000)
    with pytest.raises(DataError, match=r"longer than 0\.001 hours"):
        read_audio(tmp_path / "x.wav", max_hours=0.001)


def test_any_damage_is_sound_or_an_error(tmp_path: Path) -> None:
    choose = random.Random(0)
    whole = {kind: wav(tone(RATE, 0.2), format=kind) for kind in ("WAV", "FLAC", "OGG")}
    for trial in range(count("audio mutations")):
        data = bytearray(whole[choose.choice(sorted(whole))])
        for _ in range(choose.randint(1, 6)):
            data[choose.randrange(min(len(data), choose.choice([60, 10**9])))] = choose.randrange(256)
        path = tmp_path / f"{trial % 7}"
        path.write_bytes(data[: choose.choice([len(data), choose.randrange(len(data))])])
        try:
            found = read_audio(path)
        except DataError:
            continue
        assert found.isfinite().all()


DAY = """
import resource, sys, torch
from pathlib import Path
from glassformer.data.audio import stream_audio
from glassformer.tokenizers.log_mel import log_mel_of_blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    frames = log_mel_of_blocks(stream_audio(Path(sys.argv[1]), max_hours=float(sys.argv[2]))).shape[1]
except Exception as error:
    frames = type(error).__name__
print(frames, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("minutes", "hours", "expected", "most"),
    [
        (10, "4", "60000", 250),
        (40, "0.5", "DataError", 250),
        pytest.param(24 * 60, "4", "DataError", 1000, marks=pytest.mark.slow),
    ],
)
def test_long_recordings_take_little_memory(minutes: int, hours: str, expected: str, most: int, tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(minutes):
            file.write(np.zeros(8_000 * 60, np.int16))
    assert path.stat().st_size < 5 << 20
    done = subprocess.run([sys.executable, "-c", DAY, path, hours], capture_output=True, text=True, check=True)
    frames, megabytes = done.stdout.split()
    assert frames == expected
    assert int(megabytes) < most
