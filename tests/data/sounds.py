"""Sound files made by code, in every container that the decoders know, and how many samples PyAV finds in one."""

import io
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16_000
N = 20_000  # samples of each file, at RATE


def speechlike(n: int = N, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A tone in noise, (samples, channels)."""
    noise = np.random.default_rng(0).standard_normal((n, channels))
    tone = np.sin(2 * np.pi * 440 * np.arange(n) / rate)[:, None]
    return (0.4 * tone + 0.05 * noise).astype(np.float32)


def by_libsndfile(format: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    """A second and a quarter, as libsndfile writes it."""
    data = io.BytesIO()
    soundfile.write(data, speechlike(N * rate // RATE, rate), rate, format=format, subtype=subtype)
    return data.getvalue()


LAYOUTS = {1: "mono", 2: "stereo", 8: "7.1"}


def by_ffmpeg(container: str, codec: str, sound: np.ndarray | None = None, rate: int = RATE, **options: str) -> bytes:
    """A sound in a container of FFmpeg's; `options` are the container's."""
    sound = speechlike(N * rate // RATE, rate) if sound is None else sound
    layout = LAYOUTS[sound.shape[1]]
    with tempfile.TemporaryDirectory() as folder:  # some containers are read again while they are written
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container, options=options) as output:
            stream = output.add_stream(codec, rate=rate, layout=layout)
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), "flt", layout)
            frame.sample_rate, frame.pts = rate, 0
            as_codec = av.AudioResampler(stream.codec_context.format, stream.layout, rate)
            for part in [*as_codec.resample(frame), *as_codec.resample(None), None]:
                output.mux(stream.encode(part))
        return path.read_bytes()


SOUNDS: dict[str, Callable[[], bytes]] = {
    **{
        f"{f} of libsndfile": lambda f=f: by_libsndfile(f) for f in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
    },
    **{f"{f} of libsndfile": lambda f=f: by_libsndfile(f) for f in ("FLAC", "OGG", "MP3", "NIST")},
    **{f"WAV of {s}": lambda s=s: by_libsndfile("WAV", s) for s in ("PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610")},
    "Opus of libsndfile": lambda: by_libsndfile("OGG", "OPUS"),
    "MP3": lambda: by_ffmpeg("mp3", "libmp3lame"),
    "MP3 without Xing": lambda: by_ffmpeg("mp3", "libmp3lame", write_xing="0"),
    "MP3 in WAV": lambda: by_ffmpeg("wav", "libmp3lame"),
    "MP2": lambda: by_ffmpeg("mp2", "mp2"),
    "AAC": lambda: by_ffmpeg("adts", "aac"),
    "m4a": lambda: by_ffmpeg("ipod", "aac"),
    "mp4, index first": lambda: by_ffmpeg("mp4", "aac", movflags="faststart"),
    "mp4 in fragments": lambda: by_ffmpeg("mp4", "aac", movflags="frag_keyframe+empty_moov", frag_duration="300000"),
    "mov of ALAC": lambda: by_ffmpeg("mov", "alac"),
    "mkv": lambda: by_ffmpeg("matroska", "aac"),
    "webm": lambda: by_ffmpeg("webm", "libopus", rate=48_000),
    "webm, live": lambda: by_ffmpeg("webm", "libopus", rate=48_000, live="1"),
    "Opus": lambda: by_ffmpeg("ogg", "libopus", rate=48_000),
    "FLAC": lambda: by_ffmpeg("flac", "flac"),
    "FLAC in Ogg": lambda: by_ffmpeg("ogg", "flac"),
    "AVI": lambda: by_ffmpeg("avi", "libmp3lame"),
    "ASF": lambda: by_ffmpeg("asf", "mp2"),
    "AMR": lambda: by_ffmpeg("amr", "libopencore_amrnb", rate=8_000),
    "CAF of ALAC": lambda: by_ffmpeg("caf", "alac"),
    "WavPack": lambda: by_ffmpeg("wv", "wavpack"),
}


@cache
def sound(name: str) -> bytes:
    """The file of this name."""
    return SOUNDS[name]()


def samples_by_pyav(data: bytes) -> int:
    """How many samples PyAV decodes, one packet after the other; 0 where it reads nothing."""
    n = 0
    try:
        with av.open(io.BytesIO(data)) as container:
            for packet in container.demux(container.streams.audio[0]):
                try:
                    n += sum(frame.samples for frame in packet.decode())
                except av.FFmpegError:
                    continue
    except (av.FFmpegError, ValueError, IndexError):
        pass
    return n
