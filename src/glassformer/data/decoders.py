"""Samples out of sound files: by libsndfile where it reads them to the last, else by FFmpeg.

libsndfile is always there, and right about WAV, AIFF and their kin, where lengths are counted in bytes. Of MP3 it
believes estimates, of joined files and chained Ogg it reads the first part, and .m4a and .webm are unknown to it: those
are FFmpeg's, through PyAV, which the extra `media` brings. Without it libsndfile does what it can and says where it
stops.

Lengths are FFmpeg's: where MP3s without a Xing header are joined, it loses the frame behind a tag, and of AAC the
encoder's padding, less than a frame of 1,024 samples, may stay at the end.
Files come from strangers: an open file is handed over and no name, and nothing but the formats of sound below.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.data.containers import Unreadable, lacking

if TYPE_CHECKING:
    from av import AudioFrame

SampleBlock = tuple[Float[Tensor, "n K"], int]  # samples of each channel, loudest at ±1, and the sampling rate
Short = Callable[[str], None]  # is told why less comes than was recorded

BLOCK_NUMBERS = 1 << 12  # read from libsndfile at once, over all channels: little is lost where it stops
UNSAID = (1 << 63) - 1  # samples of a file that does not say how many it has, as libsndfile puts it
IN_BYTES = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b".snd", b"caff")
LIBSNDFILE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "SVX", "AU", "CAF", "FLAC", "OGG", "MP3")  # with lengths to check
FFMPEG = "aac,aiff,amr,asf,au,avi,caf,flac,matroska,mov,mp3,nistsphere,ogg,w64,wav,wv"  # no playlists, no subtitles
COUNTED = ("flac", "nistsphere", "wv")  # formats of FFmpeg's that say how many samples they have, and mean it
TAG = re.compile(rb"ID3|TAG|APETAGEX")  # what may stand between joined MP3s
MAX_PLANES = 7  # channels that PyAV counts rightly where each has memory of its own: of more it reads beyond the last
SHORTEST = 1e-5  # seconds that a recording may lack, by rounding: half a sample at 48 kHz
READ_AHEAD = 1 << 13  # bytes
PART = re.compile(rb"OggS\0\x02|fLaC\0\0\0\x22")  # how a part begins

NEEDS_PYAV = "libsndfile does not read it; PyAV may: pip install 'glassformer[media]'"


def decoded(file: BinaryIO, short: Short) -> Iterator[SampleBlock]:
    """The samples of a file, block by block, by the decoder that reads them rightly."""
    if reason := lacking(file):
        short(reason)
    yield from (_by_libsndfile if header_seconds(file) is not None or not has_pyav() else _by_ffmpeg)(file, short)


def has_pyav() -> bool:
    """Whether the extra `media` is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def header_seconds(file: BinaryIO) -> float | None:
    """The length that the header gives, where libsndfile reads the recording to its last sample; else None."""
    import soundfile

    file.seek(0)
    if file.read(4) not in IN_BYTES:
        return None
    try:
        with soundfile.SoundFile(Nameless(file)) as sound:
            exact = sound.format in LIBSNDFILE and not sound.subtype.startswith("MPEG") and sound.frames > 0
            return sound.frames / max(sound.samplerate, 1) if exact else None
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError):
        return None


def _by_libsndfile(file: BinaryIO, short: Short) -> Iterator[SampleBlock]:
    import soundfile

    n_read = 0
    try:
        with soundfile.SoundFile(Nameless(file)) as sound:
            sound.seekable = lambda: False  # else every read seeks, which fails where the length is unsaid
            rate, most = sound.samplerate, max(BLOCK_NUMBERS // sound.channels, 1)
            if sound.frames == 0 or sound.format not in LIBSNDFILE:
                raise Unreadable(NEEDS_PYAV)
            while n_read < sound.frames:
                block = sound.read(min(most, sound.frames - n_read), dtype="float32", always_2d=True)
                if not len(block):
                    break
                n_read += len(block)
                yield torch.from_numpy(block), rate
            estimated = sound.frames == UNSAID or sound.subtype.startswith("MPEG")
            if n_read < sound.frames and not estimated:
                short(f"is cut short: it promises {sound.frames / rate:.2f} seconds and has {n_read / rate:.2f}")
            if sound.format in ("MP3", "OGG", "FLAC") and _goes_on(file, sound.format):
                short(
                    f"goes on after {n_read / rate:.2f} seconds, where libsndfile stops; with PyAV it is read to its "
                    f"end: pip install 'glassformer[media]'"
                )
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        if n_read == 0:
            raise Unreadable(NEEDS_PYAV) from None
        short(f"cannot be decoded after {n_read / rate:.2f} seconds ({str(error).removeprefix('Error : ').strip('.')})")


class Nameless:
    """An open file without its name, for decoders: a header may have them seek to where no file has bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek
        file.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position; the C library that asks has to be told of an error by a number."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


def _goes_on(file: BinaryIO, format: str) -> bool:
    """Whether there is more in a file than libsndfile has read up to here."""
    at = file.tell()
    if format == "MP3":  # which is read frame by frame
        tail = file.read(256)
        tail = tail[128:] if tail.startswith(b"TAG") else tail
        return len(tail) > 4 and not tail.startswith(b"APETAGEX")
    file.seek(max(at - READ_AHEAD, 1))
    return PART.search(file.read(2 * READ_AHEAD)) is not None


def _by_ffmpeg(file: BinaryIO, short: Short) -> Iterator[SampleBlock]:
    import av

    options = {"format_whitelist": FFMPEG, "codec_whitelist": _sound_codecs(), "protocol_whitelist": "none"}
    try:
        container = av.open(Nameless(file), "r", container_options=options)
    except (av.FFmpegError, ValueError) as error:
        raise Unreadable(f"FFmpeg says: {_reason(error)}") from None
    with container:
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]  # None: not known
        if not streams:
            raise Unreadable("it has no sound that FFmpeg can decode")
        stream = max(streams, key=lambda stream: bool(stream.disposition & av.stream.Disposition.default))
        seconds, n_packets, n_lost = 0.0, 0, 0
        try:
            for packet in container.demux(stream):
                n_packets += 1
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    n_lost += TAG.search(bytes(packet)) is None
                    continue
                for frame in frames:
                    seconds += frame.samples / max(frame.sample_rate, 1)
                    yield samples(frame), frame.sample_rate
        except (av.FFmpegError, ValueError) as error:
            short(f"cannot be read beyond {seconds:.2f} seconds ({_reason(error)})")
        if n_lost:
            short(f"is damaged: {n_lost:,} of its {n_packets:,} packets cannot be decoded")
        if container.format.name in COUNTED and stream.duration and stream.time_base:
            promised = float(stream.duration * stream.time_base)
            if promised - seconds > SHORTEST:
                short(f"is cut short, or damaged: it promises {promised:.2f} seconds and has {seconds:.2f}")


@cache
def _sound_codecs() -> str:
    """The decoders of sound, without those of video, which would look into films too."""
    from av.codec import Codec, codecs_available

    names = []
    for name in sorted(codecs_available):
        try:
            codec = Codec(name, "r")
        except ValueError:
            continue
        if codec.type == "audio":
            names.append(name)
    return ",".join(names)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def samples(frame: "AudioFrame") -> Float[Tensor, "n K"]:
    """A frame's samples as numbers from −1 to 1, whatever they are stored as."""
    if frame.format.is_planar and frame.layout.nb_channels > MAX_PLANES:
        from av import AudioResampler

        (frame,) = AudioResampler(frame.format.packed).resample(frame)
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    bits = 8 * array.dtype.itemsize
    middle = 128 if array.dtype == np.uint8 else 0
    return torch.from_numpy((array.astype(np.float32) - middle) / 2 ** (bits - 1))
