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

from data.sounds import by_ffmpeg, sound, speechlike
from glassformer.data.audio import BLOCK_NUMBERS, Recording, gathered, open_audio, read_audio, seconds_of
from glassformer.errors import DataError
from support.counts import count

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
    blocks = list(Recording(tmp_path / "x.wav").blocks())
    assert len(blocks) > 20
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-6, rtol=0)


def test_frames_without_samples_end_nothing() -> None:
    sizes = [0, 3, 0, BLOCK_NUMBERS, 0]
    blocks = list(gathered(torch.zeros(size, 1) for size in sizes))
    assert [len(block) for block in blocks] == [3 + BLOCK_NUMBERS]
    assert list(gathered(torch.zeros(0, 1) for _ in range(2))) == []


@pytest.mark.parametrize("name", ["WAV of libsndfile", "MP3", "webm", "AMR", "MP3 without Xing"])
def test_a_recording_is_as_long_as_what_is_read_of_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(sound(name))
    assert seconds_of(tmp_path / "x") == pytest.approx(len(read_audio(tmp_path / "x")) / RATE, abs=1e-3)


def test_a_rate_that_changes_on_the_way_is_followed(tmp_path: Path) -> None:
    slow, fast = (by_ffmpeg("adts", "aac", speechlike(rate, rate), rate) for rate in (16_000, 48_000))
    (tmp_path / "x.aac").write_bytes(slow + fast)
    assert len(read_audio(tmp_path / "x.aac")) / RATE == pytest.approx(2, abs=0.2)


# ---- what is said of a recording


@pytest.mark.parametrize("levels", [(1, -1), (1, -0.9), (1, -1, 0), (1, -1, 1, -1)])
def test_channels_in_opposite_phase_are_no_silence(levels: tuple[float, ...], tmp_path: Path) -> None:
    samples = tone(RATE, 0.5)[:, None] * np.array(levels, dtype=np.float32)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    recording = open_audio(tmp_path / "x.wav")
    np.testing.assert_array_equal(torch.cat(list(recording.blocks())), samples[:, 0])
    assert not recording.truncated
    assert "cancel each other out" in recording.remarks[0]


@pytest.mark.parametrize("levels", [(1, 1), (1, 0), (0, 1), (1, -0.5), (0, 0), (0, 1, 0, 0, 0, 0)])
def test_other_channels_are_averaged_and_nothing_is_said(levels: tuple[float, ...], tmp_path: Path) -> None:
    samples = tone(RATE, 0.5)[:, None] * np.array(levels, dtype=np.float32)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    recording = open_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(torch.cat(list(recording.blocks())), samples.mean(1), atol=1e-6)
    assert recording.remarks == []


def test_unrelated_channels_do_not_cancel(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4_000, 64))
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    recording = open_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(torch.cat(list(recording.blocks())), samples.mean(1), atol=1e-6)
    assert recording.remarks == []


def test_of_a_file_that_ends_early_one_sentence_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(sound("FLAC")[:-9_000])
    recording = open_audio(tmp_path / "x.flac")
    for _ in range(2):  # a second reading says it once more, not twice
        assert sum(map(len, recording.blocks())) > 10_000
        assert recording.truncated
        assert len(recording.remarks) == 1
        assert recording.remarks[0].startswith(f"{tmp_path / 'x.flac'} is damaged")


def test_a_refusal_names_the_file_and_no_object_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.m4a").write_bytes(sound("m4a")[:5_000])
    for module in ("av", "none"):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(DataError) as caught:
            open_audio(tmp_path / "x.m4a")
        assert str(caught.value).startswith(f"{tmp_path / 'x.m4a'} is not sound that can be read here")
        assert "is cut short" in str(caught.value)
        assert "<" not in str(caught.value)
        monkeypatch.undo()


# ---- what is wrong


def wav(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=options.get("format", "WAV"), subtype=options.get("subtype"))
    return data.getvalue()


@pytest.mark.parametrize("name", ["nothing.wav", "-", "http://example.org/x.wav", "concat:a.wav|b.wav", ""])
def test_a_name_is_a_file_or_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is none|is a folder"):
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
from glassformer.data.audio import Recording
from glassformer.features.log_mel import log_mel_of_blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    frames = log_mel_of_blocks(Recording(Path(sys.argv[1]), float(sys.argv[2])).blocks()).shape[1]
except Exception as error:
    frames = type(error).__name__
print(frames, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("minutes", "hours", "expected", "most"),
    [
        (10, "4", "60000", 250),
        (40, "0.5", "DataError", 250),
        pytest.param(239, "4", "1434000", 800, marks=pytest.mark.slow),
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
