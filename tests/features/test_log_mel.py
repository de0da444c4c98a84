"""Log-mel frames: the definition in numpy float64, transformers' extractor, and the reference on a real recording."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from glassformer.errors import DataError
from glassformer.features.log_mel import (
    HOP,
    WINDOW,
    cut,
    hz_of_mel,
    log_mel,
    log_mel_of_blocks,
    log_mel_of_frames,
    mel_filters,
    mel_of_hz,
)
from support.counts import count

TOLERANCE = 1e-4  # of numbers around 1; the log of a tiny power magnifies float32's rounding


def defined(waveform: np.ndarray, n_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """One frame, one frequency, one band at a time, as the paper's text says; and what float32's rounding may change.

    An amplitude of the spectrum is a sum of 400 products, exact to some units in the last place of them all together,
    however small it is itself.
    """
    padded = np.pad(waveform.astype(np.float64), WINDOW // 2, mode="reflect")
    n = np.arange(WINDOW)
    hann = np.sin(np.pi * n / WINDOW) ** 2
    filters = np.asarray(mel_filters(n_mels).double())
    columns, roundings = [], []
    for t in range(len(waveform) // HOP):
        frame = padded[t * HOP : t * HOP + WINDOW] * hann
        size = np.array([abs(np.sum(frame * np.exp(-2j * np.pi * k * n / WINDOW))) for k in range(WINDOW // 2 + 1)])
        mel = np.maximum(filters @ size**2, 1e-10)
        rounding = 2**-22 * np.abs(frame).sum()
        columns.append(np.log10(mel))
        roundings.append(np.log10(1 + filters @ (2 * size * rounding + rounding**2) / mel))
    found = np.array(columns).T
    return (np.maximum(found, found.max() - 8) + 4) / 4, 1e-5 + np.array(roundings).T / 4


def drawn(choose: random.Random) -> Tensor:
    """Noise, a tone, or silence with a click, of any length."""
    n = choose.choice([201, 359, 400, 401, choose.randint(201, 6_000)])
    t = torch.arange(n) / 16_000
    tone = (t * choose.uniform(50, 7_900) * 6.2832).sin()
    click = torch.zeros(n).index_fill_(0, torch.tensor([choose.randrange(n)]), 1.0)
    return choose.choice([torch.randn(n) * 0.1, tone * 0.5 + torch.randn(n) * 1e-3, click])


@pytest.mark.parametrize("n_mels", [80, 128])
def test_frames_are_what_the_definition_says(n_mels: int) -> None:
    for seed in range(count("waveforms against the definition")):
        torch.manual_seed(seed)
        waveform = drawn(random.Random(seed))
        expected, rounding = defined(waveform.numpy(), n_mels)
        assert (np.abs(expected - log_mel(waveform, n_mels).numpy()) <= rounding).all()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_frames_are_those_of_transformers(n_mels: int) -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    t = torch.arange(480_000) / 16_000
    chirp = (t * t * 800).sin() * 0.3 + torch.randn(480_000) * 0.01
    expected = extractor(chirp.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[0]
    torch.testing.assert_close(log_mel(chirp, n_mels), expected, atol=TOLERANCE, rtol=0)


def test_the_filters_are_those_of_transformers() -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils")
    for n_mels in (40, 80, 128):
        theirs = audio_utils.mel_filter_bank(201, n_mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(mel_filters(n_mels), theirs.T, atol=1e-7)


def test_the_mel_scale_and_its_inverse() -> None:
    hz = torch.tensor([0.0, 200.0, 999.0, 1000.0, 1001.0, 6400.0, 8000.0], dtype=torch.float64)
    torch.testing.assert_close(hz_of_mel(mel_of_hz(hz)), hz)
    torch.testing.assert_close(mel_of_hz(hz)[[0, 1, 3, 5]], torch.tensor([0.0, 3.0, 15.0, 42.0], dtype=torch.float64))


def test_a_waveform_in_pieces_gives_the_same_frames() -> None:
    for seed in range(count("waveforms in pieces")):
        choose = random.Random(seed)
        waveform = drawn(choose)
        cuts = sorted(choose.randint(0, len(waveform)) for _ in range(choose.randint(1, 9)))
        pieces = waveform.tensor_split(cuts)
        torch.testing.assert_close(log_mel_of_blocks(pieces), log_mel(waveform), atol=1e-6, rtol=0)


def test_hours_in_pieces_are_the_equation_over_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = torch.randn(200_000, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 1, 200_000)
    monkeypatch.setattr("glassformer.features.log_mel.CHUNK_BLOCKS", 2)
    expected = log_mel_of_frames([torch.cat(list(cut([waveform])))])
    torch.testing.assert_close(log_mel_of_blocks(waveform.split(9_999)), expected, atol=1e-6, rtol=0)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    tone = (torch.arange(16_000) / 16_000 * 440 * 2 * torch.pi).sin()
    filters = mel_filters(80)
    band = log_mel(tone).mean(-1).argmax()
    assert filters[band, 440 * WINDOW // 16_000] == filters[:, 440 * WINDOW // 16_000].max()


def test_silence_has_frames_that_are_all_alike() -> None:
    mel = log_mel(torch.zeros(16_000))
    assert mel.shape == (80, 100)
    assert (mel == mel[0, 0]).all()


@pytest.mark.parametrize("n", [0, 1, 200])
def test_less_than_half_a_frame_cannot_be_heard(n: int) -> None:
    with pytest.raises(DataError, match="too short"):
        log_mel(torch.zeros(n))


def test_a_real_recording_has_the_frames_of_the_reference(data_dir: Path) -> None:
    reference = json.loads((data_dir / "whisper" / "tiny.en.reference.json").read_text())
    samples, rate = soundfile.read(data_dir / reference["audio"], dtype="float32")
    assert rate == 16_000
    waveform = torch.zeros(480_000)
    waveform[: len(samples)] = torch.from_numpy(samples)
    mel = log_mel(waveform)
    assert list(mel.shape) == reference["mel_shape"]
    frames = torch.tensor(reference["mel_first_frames"])  # the five lowest bands of three frames
    torch.testing.assert_close(mel[:5, [0, 100, 500]].mT, frames, atol=TOLERANCE, rtol=0)
    assert abs(mel.mean() - reference["mel_mean"]) < TOLERANCE
    assert abs(mel.std() - reference["mel_std"]) < TOLERANCE


def test_ten_minutes_take_seconds() -> None:
    start = time.perf_counter()
    assert log_mel(torch.randn(600 * 16_000)).shape == (80, 60_000)
    assert time.perf_counter() - start < 10  # 0.6 s on a quiet core of 2020
