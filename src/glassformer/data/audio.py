"""Sound from files, as Whisper wants it: one channel, 16,000 numbers a second.

Any format that libsndfile reads (WAV, FLAC, Ogg, MP3 and more), resampled by soxr. Files come from strangers: they are
read in blocks, so that memory does not follow what a header promises, and hours of sound never stand in memory whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import DataError
from glassformer.tokenizers.log_mel import SAMPLE_RATE

BLOCK_NUMBERS = 1 << 20  # read at once, over all channels
MAX_HOURS = 4.0
MAX_CHANNELS = 256
RATES = (1_000, 768_000)  # Hz: from telephones' worst to studios' best
UNSAID = (1 << 63) - 1  # samples of a file that does not say how many it has, as libsndfile puts it


def read_audio(path: Path, *, max_hours: float = MAX_HOURS) -> Float[Tensor, " N"]:
    """The whole of a recording: its channels' mean at 16 kHz, loudest at ±1."""
    return torch.cat(list(stream_audio(path, max_hours=max_hours)))


def stream_audio(path: Path, *, max_hours: float = MAX_HOURS) -> Iterator[Float[Tensor, " n"]]:
    """The same block by block; all blocks together have at least one sample."""
    with _opened(path) as sound:
        channels, rate = sound.channels, sound.samplerate
        if not 1 <= channels <= MAX_CHANNELS or not RATES[0] <= rate <= RATES[1]:
            raise DataError(
                f"{path} has {channels} channels at {rate} Hz; up to {MAX_CHANNELS} channels and rates from {RATES[0]} "
                f"to {RATES[1]} Hz can be heard."
            )
        resampled = _resampler(rate)
        n_read, n_heard, last = 0, 0, False
        most = max(BLOCK_NUMBERS // channels, 1)
        while not last:
            ahead = most if sound.frames == UNSAID else min(most, sound.frames - n_read)  # not into what comes after
            block = sound.read(ahead, dtype="float32", always_2d=True)
            n_read += len(block)
            last = len(block) == 0
            if n_read > max_hours * 3600 * rate:
                raise DataError(f"{path} is longer than {max_hours:g} hours: cut it into parts (or raise max_hours).")
            mono = torch.from_numpy(block).mean(-1)
            if not mono.isfinite().all():
                raise DataError(f"{path} holds samples that are infinite or no numbers (NaN), so it is broken.")
            out = resampled(mono, last)
            n_heard += len(out)
            if len(out):
                yield out
        if n_heard == 0:
            raise DataError(f"{path} holds no sound: it has no sample at 16 kHz.")
        if n_read < sound.frames != UNSAID:
            raise DataError(
                f"{path} is cut short: it promises {sound.frames / rate:.2f} seconds and has {n_read / rate:.2f}."
            )


def seconds_of(path: Path) -> float:
    """How long a recording is, as its header has it."""
    with _opened(path) as sound:
        return float(sound.frames / max(sound.samplerate, 1))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file. A name is never an address, a device or an option: only a regular file is opened."""
    import soundfile  # type: ignore[import-untyped]

    if not path.is_file():
        raise DataError(f"{path}: expected a file with sound, and there is none.")
    try:
        with path.open("rb") as file, soundfile.SoundFile(file) as sound:
            sound.seekable = lambda: False  # else every read seeks, which fails where the length is unsaid
            yield sound
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).partition("): ")[2] or str(error)
        raise DataError(
            f"{path} is not sound that can be read here ({reason.strip()[:100]}); WAV, FLAC, Ogg and MP3 can."
        ) from None


def _resampler(rate: int) -> Callable[[Tensor, bool], Tensor]:
    """A function that takes block after block at `rate` and returns what is ready at 16 kHz."""
    if rate == SAMPLE_RATE:
        return lambda block, last: block
    import soxr  # type: ignore[import-untyped]

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, num_channels=1, dtype="float32")
    return lambda block, last: torch.from_numpy(stream.resample_chunk(block.numpy(), last=last))
