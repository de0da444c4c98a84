"""Sound in which nobody speaks, made by code: twenty kinds of noise and signals, and a few kinds of music.

Each kind is a function of numpy's generator, of the seconds at which to compute and of nothing else, so that it sounds
alike on every machine; `sound` scales it to a peak that a recording might have.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.features.log_mel import SAMPLE_RATE

Wave = npt.NDArray[np.float64]
Kind = Callable[[np.random.Generator, Wave], Wave]
PEAK = 0.5


def sound(kind: Kind, seconds: float, seed: int = 0) -> Tensor:
    """A waveform at 16 kHz."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = kind(np.random.default_rng(seed), time)
    return torch.from_numpy(PEAK * wave / max(float(np.abs(wave).max()), 1e-9)).float()


def coloured(exponent: float) -> Kind:
    """Noise whose power falls with frequency as 1 / f^exponent: white 0, pink 1, brown 2."""

    def noise(random: np.random.Generator, time: Wave) -> Wave:
        spectrum = np.fft.rfft(random.normal(size=len(time)))
        hz = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
        return np.fft.irfft(spectrum * np.maximum(hz, 20) ** (-exponent / 2), len(time))

    return noise


def band(random: np.random.Generator, time: Wave, low: float, high: float) -> Wave:
    """Noise between two frequencies in Hz."""
    spectrum = np.fft.rfft(random.normal(size=len(time)))
    hz = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    wave = np.fft.irfft(spectrum * ((hz >= low) & (hz <= high)), len(time))
    return np.asarray(wave / wave.std())


def phase(hz: Wave) -> Wave:
    """The phase of an oscillator whose frequency changes from sample to sample."""
    return np.asarray(2 * math.pi * np.cumsum(hz) / SAMPLE_RATE)


def tones(time: Wave, *hz: float) -> Wave:
    """Sines that sound together, the first as loud as the others."""
    return np.asarray(sum(np.sin(2 * math.pi * f * time) for f in hz))


def on_off(time: Wave, on: float, off: float) -> Wave:
    """1 for `on` seconds, 0 for `off`, and so on."""
    return np.asarray(time % (on + off) < on, dtype=np.float64)


def strokes(random: np.random.Generator, time: Wave, per_second: float, decay: float) -> Wave:
    """An envelope of strokes at random moments, of random strength, each of which dies away in `decay` seconds."""
    hits = (random.random(len(time)) < per_second / SAMPLE_RATE) * random.uniform(0.2, 1, len(time))
    return ringing(hits, np.exp(-np.arange(round(8 * decay * SAMPLE_RATE)) / (decay * SAMPLE_RATE)))


def ringing(hits: Wave, response: Wave) -> Wave:
    """Convolution with what follows each stroke."""
    n = len(hits) + len(response)
    return np.fft.irfft(np.fft.rfft(hits, n) * np.fft.rfft(response, n), n)[: len(hits)]


def applause(random: np.random.Generator, time: Wave) -> Wave:
    """Hundreds of claps a second, each a burst of noise of some milliseconds."""
    claps = strokes(random, time, 300, 0.005) * band(random, time, 600, 5000)
    return np.asarray(claps * (1 - np.exp(-time)))


def few_claps(random: np.random.Generator, time: Wave) -> Wave:
    """Some people who clap, each at a rhythm of their own."""
    hits = np.zeros(len(time))
    for _ in range(6):
        period = random.uniform(0.22, 0.34)
        moments = np.arange(random.uniform(0, period), time[-1], period)
        moments += random.normal(0, 0.01, len(moments))
        hits[np.clip((moments * SAMPLE_RATE).astype(int), 0, len(time) - 1)] += random.uniform(0.5, 1)
    return ringing(hits, np.exp(-np.arange(800) / 80)) * band(random, time, 600, 5000)


def rain(random: np.random.Generator, time: Wave) -> Wave:
    """A hiss, and drops."""
    return 0.1 * band(random, time, 1000, 8000) + strokes(random, time, 40, 0.002) * band(random, time, 1500, 8000)


def wind(random: np.random.Generator, time: Wave) -> Wave:
    """Low noise that swells and falls."""
    swell = 0.6 + 0.4 * np.sin(2 * math.pi * 0.13 * time) * np.sin(2 * math.pi * 0.31 * time + 1)
    return swell * band(random, time, 40, 500)


def waves(random: np.random.Generator, time: Wave) -> Wave:
    """The sea: noise that rises and breaks every seven seconds."""
    return (0.1 + np.sin(math.pi * time / 7) ** 8) * coloured(1)(random, time)


def hum(random: np.random.Generator, time: Wave) -> Wave:
    """The mains, with harmonics."""
    return np.asarray(sum(np.sin(2 * math.pi * 50 * k * time) / k for k in (1, 2, 3, 5, 7)))


def engine(random: np.random.Generator, time: Wave) -> Wave:
    """A motor whose speed changes."""
    turns = phase(30 + 12 * np.sin(2 * math.pi * 0.1 * time))
    return np.asarray(sum(np.sin(k * turns) / k for k in range(1, 12))) + 0.3 * band(random, time, 100, 1000)


def clicks(random: np.random.Generator, time: Wave) -> Wave:
    """A metronome."""
    return on_off(time, 0.003, 0.497) * np.sin(2 * math.pi * 2000 * time)


def crackle(random: np.random.Generator, time: Wave) -> Wave:
    """The surface of an old record."""
    return strokes(random, time, 12, 0.0008) * random.normal(size=len(time)) + 0.01 * coloured(1)(random, time)


def static_bursts(random: np.random.Generator, time: Wave) -> Wave:
    """A radio between stations: noise that comes and goes in steps of random length."""
    level = np.repeat(random.choice([0.0, 0.2, 1.0], size=len(time) // 4000 + 1), 4000)[: len(time)]
    return level * band(random, time, 300, 6000)


def sweep(random: np.random.Generator, time: Wave) -> Wave:
    """From 100 Hz to 6000 Hz in ten seconds, again and again."""
    return np.sin(phase(100 * 60 ** (time % 10 / 10)))


def chirps(random: np.random.Generator, time: Wave) -> Wave:
    """Birds: calls of a tenth of a second that rise or fall."""
    call = time % 0.4 / 0.1
    start = np.repeat(random.uniform(2000, 5000, len(time) // 6400 + 1), 6400)[: len(time)]
    slope = np.repeat(random.uniform(-1500, 1500, len(time) // 6400 + 1), 6400)[: len(time)]
    rise = np.minimum(call, 1)
    return np.asarray(np.sin(phase(start + slope * rise)) * np.sin(math.pi * rise) ** 2)


def ringing_tone(random: np.random.Generator, time: Wave) -> Wave:
    """What a caller hears: 440 and 480 Hz for two seconds of every six."""
    return tones(time, 440, 480) * on_off(time, 2, 4)


def busy_tone(random: np.random.Generator, time: Wave) -> Wave:
    """480 and 620 Hz, half a second on and half a second off."""
    return tones(time, 480, 620) * on_off(time, 0.5, 0.5)


def bell(random: np.random.Generator, time: Wave) -> Wave:
    """A telephone of old: a bell struck twenty times a second, for two seconds of every four."""
    hits = on_off(time, 1 / SAMPLE_RATE, 0.05 - 1 / SAMPLE_RATE) * on_off(time, 2, 2)
    after = np.arange(8000) / SAMPLE_RATE
    return ringing(hits, np.exp(-after / 0.1) * tones(after, 1200, 1630, 2740))


def siren(random: np.random.Generator, time: Wave) -> Wave:
    """A horn that wails between 500 and 1400 Hz, with harmonics."""
    turns = phase(950 - 450 * np.cos(2 * math.pi * 0.25 * time))
    return np.sin(turns) + 0.4 * np.sin(2 * turns) + 0.2 * np.sin(3 * turns)


def alarm(random: np.random.Generator, time: Wave) -> Wave:
    """Two tones in turn, square waves."""
    return np.sign(np.sin(phase(np.where(time % 1 < 0.5, 800.0, 1000.0))))


def morse(random: np.random.Generator, time: Wave) -> Wave:
    """Dots and dashes at 700 Hz."""
    marks = np.concatenate(
        [[1.0] * random.choice([1, 3]) + [0.0] * random.choice([1, 1, 3]) for _ in range(round(time[-1] * 10) + 9)]
    )
    return np.repeat(marks, 1280)[: len(time)] * np.sin(2 * math.pi * 700 * time)


def warble(random: np.random.Generator, time: Wave) -> Wave:
    """A tone whose loudness pulses five times a second."""
    return (1 + np.sin(2 * math.pi * 5 * time)) * np.sin(2 * math.pi * 900 * time)


def vibrato(random: np.random.Generator, time: Wave) -> Wave:
    """A tone whose pitch swings four times a second."""
    return np.sin(phase(1000 + 300 * np.sin(2 * math.pi * 4 * time)))


def beats(random: np.random.Generator, time: Wave) -> Wave:
    """Two tones so near that together they throb."""
    return tones(time, 400, 403)


NOISES: dict[str, Kind] = {  # the first ones are those on which a Whisper likes to write
    "chirps": chirps,
    "few claps": few_claps,
    "wind": wind,
    "ringing tone": ringing_tone,
    "applause": applause,
    "clicks": clicks,
    "morse": morse,
    "sweep": sweep,
    "siren": siren,
    "alarm": alarm,
    "bell": bell,
    "busy tone": busy_tone,
    "warble": warble,
    "vibrato": vibrato,
    "rain": rain,
    "waves": waves,
    "static bursts": static_bursts,
    "crackle": crackle,
    "engine": engine,
    "hum": hum,
    "beats": beats,
    "white noise": coloured(0),
    "pink noise": coloured(1),
    "brown noise": coloured(2),
}


def note(pitch: int) -> float:
    """Hz of a key of the piano, by its number in MIDI; 69 is 440 Hz."""
    return float(440 * 2 ** ((pitch - 69) / 12))


def plucked(time: Wave, starts: Wave, pitches: list[int], decay: float) -> Wave:
    """Strings with five harmonics, each plucked at its moment."""
    wave = np.zeros(len(time))
    after = np.arange(round(6 * decay * SAMPLE_RATE)) / SAMPLE_RATE
    for start, pitch in zip(starts, pitches, strict=True):
        string = np.exp(-after / decay) * sum(np.sin(2 * math.pi * k * note(pitch) * after) / k for k in range(1, 6))
        first = round(start * SAMPLE_RATE)
        n = min(len(string), len(wave) - first)
        wave[first : first + n] += string[:n]
    return wave


def melody(random: np.random.Generator, time: Wave) -> Wave:
    """Notes of a scale, two a second."""
    starts = np.arange(0, time[-1], 0.5)
    return plucked(time, starts, random.choice([60, 62, 64, 65, 67, 69, 71, 72], len(starts)).tolist(), 0.3)


def arpeggios(random: np.random.Generator, time: Wave) -> Wave:
    """Broken chords, eight notes a second."""
    starts = np.arange(0, time[-1], 0.125)
    chords = ([48, 55, 60, 64], [45, 52, 57, 60], [41, 48, 53, 57], [43, 50, 55, 59])
    pitches = [chords[int(start // 2) % 4][int(start / 0.125) % 4] for start in starts]
    return plucked(time, starts, pitches, 0.4)


def chords(random: np.random.Generator, time: Wave) -> Wave:
    """An organ: a chord every two seconds."""
    wave = np.zeros(len(time))
    for i, chord in enumerate(([60, 64, 67], [57, 60, 64], [53, 57, 60], [55, 59, 62])):
        sounding = (time // 2 % 4 == i) * np.minimum(1, 20 * np.minimum(time % 2, 2 - time % 2))
        wave += sounding * sum(tones(time, note(p), 2 * note(p), 3 * note(p)) for p in chord)
    return wave


def drums(random: np.random.Generator, time: Wave) -> Wave:
    """Four beats to the bar: a bass drum, a snare, a cymbal."""
    beat = time % 0.5
    kick = (time % 1 < 0.5) * np.exp(-beat / 0.1) * np.sin(2 * math.pi * 60 * beat)
    snare = (time % 1 >= 0.5) * np.exp(-beat / 0.06) * band(random, time, 500, 6000) / 3
    return kick + snare + np.exp(-(time % 0.25) / 0.02) * band(random, time, 6000, 8000) / 6


def band_plays(random: np.random.Generator, time: Wave) -> Wave:
    """Melody, broken chords and drums together."""
    return melody(random, time) + 0.7 * arpeggios(random, time) + drums(random, time)


MUSIC: dict[str, Kind] = {
    "melody": melody,
    "arpeggios": arpeggios,
    "chords": chords,
    "drums": drums,
    "a band": band_plays,
}
