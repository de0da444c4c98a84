"""Recordings, as Whisper wants them: one channel, 16,000 numbers a second.

    recording = open_audio(path)
    for block in recording.blocks(): …    # hours never stand in memory whole
    recording.truncated, recording.remarks

`decoders.py` reads files, soxr resamples. Files come from strangers: they are read in blocks, so that memory does not
follow what a header promises, and what was recorded and is not there is said.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.data.containers import Unreadable
from glassformer.data.decoders import SampleBlock, decoded, header_seconds
from glassformer.errors import DataError
from glassformer.features.log_mel import SAMPLE_RATE

BLOCK_NUMBERS = 1 << 20  # worked on at once, over all channels
MAX_HOURS = 4.0
MAX_CHANNELS = 256
RATES = (1_000, 768_000)  # Hz: from telephones' worst to studios' best
CANCELLED = 0.02  # of the energy that the mean of unrelated channels would have


@dataclass(slots=True)
class Recording:
    """A file with sound. What is to be said of it is known once its blocks have been read."""

    path: Path
    max_hours: float = MAX_HOURS
    truncated: bool = field(default=False, init=False)  # more was recorded than can be read
    remarks: list[str] = field(default_factory=list, init=False)  # sentences

    def blocks(self) -> Iterator[Float[Tensor, " n"]]:
        """The mean of the channels at 16 kHz, loudest at ±1; all blocks together have at least one sample."""
        self.truncated, self.remarks = False, []
        seconds, n_samples = 0.0, 0
        for (channels, rate), alike in groupby(self._decoded(), key=lambda block: (block[0].shape[1], block[1])):
            if not 1 <= channels <= MAX_CHANNELS or not RATES[0] <= rate <= RATES[1]:
                raise DataError(
                    f"{self.path} has {channels} channels at {rate} Hz; up to {MAX_CHANNELS} channels and rates from "
                    f"{RATES[0]} to {RATES[1]} Hz can be heard."
                )
            resampled = _resampler(rate)
            for block in chain(gathered(samples for samples, _ in alike), [torch.empty(0, channels)]):
                seconds += len(block) / rate
                if seconds > self.max_hours * 3600:
                    raise DataError(
                        f"{self.path} is longer than {self.max_hours:g} hours: cut it into parts.",
                        python="Or raise max_hours.",
                    )
                if not block.isfinite().all():
                    raise DataError(
                        f"{self.path} holds samples that are infinite or no numbers (NaN), so it is broken."
                    )
                out = resampled(self._mono(block), not len(block))
                n_samples += len(out)
                if len(out):
                    yield out
        if n_samples == 0:
            raise DataError(" ".join([f"{self.path} holds no sound: it has no sample at 16 kHz.", *self.remarks]))

    def _decoded(self) -> Iterator[SampleBlock]:
        """A name is never an address, a device or an option: only a regular file is opened."""
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder: name the recordings in it.")
        if not self.path.is_file():
            raise DataError(f"{self.path}: expected a file with sound, and there is none.")
        try:
            with self.path.open("rb") as file:
                yield from decoded(file, self._short)
        except Unreadable as error:
            reasons = [f"{self.path} is not sound that can be read here ({error}).", *self.remarks]
            raise DataError(" ".join(reasons)) from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from None

    def _short(self, reason: str) -> None:
        if not self.truncated:
            self.truncated = True
            self.remarks.append(f"{self.path} {reason}.")

    def _mono(self, block: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        """The mean of the channels; where they cancel each other out, as in opposite phase, a loud one of them."""
        mean, energies = block.mean(-1), block.square().mean(0)
        if mean.square().mean() >= CANCELLED / len(energies) * energies.mean() or not len(block):
            return mean
        remark = f"{self.path} has channels that cancel each other out (opposite phase): one is read, not their mean."
        if remark not in self.remarks:
            self.remarks.append(remark)
        return block[:, int((energies >= energies.amax() / 2).int().argmax())].contiguous()


def open_audio(path: Path, *, max_hours: float = MAX_HOURS) -> Recording:
    """A file with sound: its first block is read, to be sure that it is one."""
    recording = Recording(path, max_hours)
    next(recording.blocks())
    return recording


def read_audio(path: Path, *, max_hours: float = MAX_HOURS) -> Float[Tensor, " N"]:
    """The whole of a recording as one waveform."""
    return torch.cat(list(Recording(path, max_hours).blocks()))


def seconds_of(path: Path) -> float:
    """How long a recording is: as its header has it where that can be believed, else counted."""
    recording = Recording(path)
    header = None
    if path.is_file():
        with path.open("rb") as file:
            header = header_seconds(file)
    return sum(map(len, recording.blocks())) / SAMPLE_RATE if header is None else header


def gathered(blocks: Iterator[Float[Tensor, "n K"]]) -> Iterator[Float[Tensor, "n K"]]:
    """The same samples in fewer blocks, of about `BLOCK_NUMBERS` numbers each."""
    waiting, n_numbers = list[Tensor](), 0
    for block in blocks:
        waiting.append(block)
        n_numbers += block.numel()
        if n_numbers >= BLOCK_NUMBERS:
            yield torch.cat(waiting)
            waiting, n_numbers = [], 0
    if n_numbers:
        yield torch.cat(waiting)


def _resampler(rate: int) -> Callable[[Tensor, bool], Tensor]:
    """A function that takes block after block at `rate` and returns what is ready at 16 kHz."""
    if rate == SAMPLE_RATE:
        return lambda block, last: block
    import soxr  # type: ignore[import-untyped]

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, num_channels=1, dtype="float32")
    return lambda block, last: torch.from_numpy(stream.resample_chunk(block.numpy(), last=last))
