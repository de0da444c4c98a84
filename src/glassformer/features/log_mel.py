"""A waveform as log-mel frames, which is what Whisper listens to: 100 frames a second of 80 or 128 loudnesses each.

Radford et al. 2022, §2.2 (arXiv:2212.04356). A frame is the power spectrum of 25 ms of sound, summed up in bands that
are equally wide to the ear (the mel scale of Slaney 1998, "Auditory Toolbox"), as a logarithm.
Next to read: `models/whisper.py`.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import DataError

SAMPLE_RATE = 16_000  # Hz
WINDOW = 400  # samples of a frame: 25 ms
HOP = 160  # samples from one frame to the next: 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
BLOCK_FRAMES = 256  # frames worked on at once: they stay in the processor's cache
CHUNK_BLOCKS = 512  # blocks that are kept together: over 40 MB, which a system's allocator gives back when it is freed


def log_mel(waveform: Float[Tensor, " N"], n_mels: int = 80) -> Float[Tensor, "M T"]:
    """A frame of `n_mels` loudnesses for every 10 ms of a waveform at 16 kHz, from about −1 to about 1.

    A second of a tone at 1000 Hz has a hundred frames, and is loudest in the band around that pitch:

    >>> seconds = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    >>> frames = log_mel(torch.sin(2 * torch.pi * 1000 * seconds))
    >>> frames.shape, int(frames[:, 50].argmax())
    (torch.Size([80, 100]), 26)
    """
    return log_mel_of_blocks([waveform], n_mels)


def log_mel_of_blocks(blocks: Iterable[Tensor], n_mels: int = 80) -> Float[Tensor, "M T"]:
    """The same of a waveform that comes in blocks: hours of it need the memory of the result, and little more."""
    filters, frames = mel_filters(n_mels), cut(blocks)
    chunks: list[Tensor] = []  # large ones: the system gets each back when it is copied
    while mels := [power_spectrum(some) @ filters.mT for some in islice(frames, CHUNK_BLOCKS)]:
        chunks.append(torch.cat(mels).clamp_(min=1e-10).log10_())
    loudest = torch.stack([chunk.amax() for chunk in chunks]).amax()
    whole, at = torch.empty(n_mels, sum(map(len, chunks))), 0
    while chunks:
        scaled = chunks.pop(0).clamp_(min=loudest - 8).add_(4).div_(4)
        whole[:, at : at + len(scaled)] = scaled.mT
        at += len(scaled)
    return whole


def log_mel_of_frames(frames: Iterable[Tensor], n_mels: int = 80) -> Float[Tensor, "M T"]:
    """The same of frames as `cut` makes them, all at once.

    (max(log₁₀ mel, m − 8) + 4) / 4, where m is the loudest of all frames: what is 80 dB below it counts as silence.
    """
    filters = mel_filters(n_mels)
    mel = torch.cat([power_spectrum(some) @ filters.mT for some in frames])
    log_mel = mel.clamp_(min=1e-10).log10_()
    loudest = log_mel.amax()
    clamped = log_mel.clamp_(min=loudest - 8)
    scaled = clamped.add_(4).div_(4)
    return scaled.mT.contiguous()


def power_spectrum(frames: Float[Tensor, "T 400"]) -> Float[Tensor, "T 201"]:
    """|FFT(frame · Hann window)|² at 0, 40, 80, … 8000 Hz."""
    windowed = frames * hann_window()
    spectrum = torch.fft.rfft(windowed)
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power


def cut(blocks: Iterable[Tensor]) -> Iterator[Float[Tensor, "t 400"]]:
    """The frames of a waveform, some at a time: the t-th is centred on sample 160 t, and both ends are mirrored."""
    half = WINDOW // 2
    rest, begun = torch.empty(0), False
    for block in blocks:
        rest = torch.cat([rest, block])
        if not begun and len(rest) > half:
            rest, begun = torch.cat([rest[1 : half + 1].flip(0), rest]), True
        if begun and len(rest) >= WINDOW:
            frames = rest.unfold(0, WINDOW, HOP)
            yield from torch.split(frames, BLOCK_FRAMES)
            rest = rest[len(frames) * HOP :]
    if not begun:
        raise DataError(f"{len(rest)} samples of sound are too short to hear: a frame needs {half + 1}.")
    rest = torch.cat([rest, rest[-half - 1 : -1].flip(0)])
    last = rest.unfold(0, WINDOW, HOP)[:-1]  # whole steps of 10 ms alone count
    if len(last):
        yield last


@cache
def hann_window() -> Float[Tensor, " 400"]:
    """½ − ½ cos(2π n / 400), which fades a frame in and out."""
    n = torch.arange(WINDOW, dtype=torch.float64)
    return (0.5 - 0.5 * torch.cos(2 * math.pi * n / WINDOW)).float()


@cache
def mel_filters(n_mels: int) -> Float[Tensor, "M 201"]:
    """Triangles over the spectrum's frequencies: each rises from the centre of the one before and falls to the next's.

    The centres are equally far apart in mel, and a triangle has the area 1 (Slaney's norm), so that wide ones are low.
    """
    frequencies = torch.arange(WINDOW // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / WINDOW
    highest = mel_of_hz(torch.tensor(SAMPLE_RATE / 2, dtype=torch.float64))
    edges = hz_of_mel(torch.arange(n_mels + 2, dtype=torch.float64) / (n_mels + 1) * highest)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (right - left)).float()


LINEAR_HZ_PER_MEL = 200 / 3
BEND_HZ = 1000.0  # the scale is linear up to here, then logarithmic
BEND_MEL = BEND_HZ / LINEAR_HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27  # 27 mel from 1000 Hz to 6400 Hz


def mel_of_hz(hz: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Slaney's mel scale: 3 f / 200 up to 1 kHz, then 15 + 27 log(f / 1000) / log 6.4."""
    logarithmic = BEND_MEL + (hz.clamp(min=BEND_HZ) / BEND_HZ).log() / LOG_STEP
    return torch.where(hz < BEND_HZ, hz / LINEAR_HZ_PER_MEL, logarithmic)


def hz_of_mel(mel: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The inverse of `mel_of_hz`."""
    exponential = BEND_HZ * ((mel - BEND_MEL).clamp(min=0) * LOG_STEP).exp()
    return torch.where(mel < BEND_MEL, mel * LINEAR_HZ_PER_MEL, exponential)
