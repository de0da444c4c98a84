"""Files of sound, whole and damaged, against PyAV's counts of samples: none is silently short."""

import io
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data.sounds import RATE, SOUNDS, N, by_ffmpeg, by_libsndfile, samples_by_pyav, sound, speechlike
from glassformer.data.containers import Unreadable
from glassformer.data.decoders import decoded
from support.counts import count

AAC_FRAME = 1024
PADDED = {  # samples that an encoder adds, and no header takes away again
    "WAV of IMA_ADPCM": 505,  # a block
    "WAV of GSM610": 640,  # two frames
    "MP3 without Xing": 1105 + 2 * 576,  # the decoder's and the encoder's delay, and a frame to fill up
    "MP3 in WAV": 1105 + 2 * 576,
    "AVI": 1105 + 2 * 576,
    "MP2": 481 + 1152,
    "ASF": 481 + 1152,
    "AAC": 2 * AAC_FRAME,  # its delay, and a frame to fill up
    "mp4 in fragments": 2 * AAC_FRAME,
    "m4a": AAC_FRAME,
    "mp4, index first": AAC_FRAME,
    "mkv": AAC_FRAME,
    "AMR": 2 * 160,
}
SAYS_NO_LENGTH = {"MP3 without Xing", "MP2", "AAC", "AMR"}


def read(data: bytes, folder: Path) -> tuple[int, list[str]]:
    """How many samples are decoded, and what is said to be lacking."""
    reasons: list[str] = []
    (folder / "sound").write_bytes(data)
    with (folder / "sound").open("rb") as file:
        n = sum(len(block) for block, _ in decoded(file, reasons.append))
    return n, reasons


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("name", [name for name in SOUNDS if name != "CAF of ALAC"])  # FFmpeg writes that short itself
def test_what_a_decoder_can_read_is_read_to_the_sample(name: str, tmp_path: Path) -> None:
    n, reasons = read(sound(name), tmp_path)
    rate = {"Opus": 48_000, "webm": 48_000, "webm, live": 48_000, "Opus of libsndfile": 48_000, "AMR": 8_000}
    expected = N * rate.get(name, RATE) // RATE
    assert reasons == []
    assert expected <= n <= expected + PADDED.get(name, 0)
    if name != "WAV of GSM610":  # of which PyAV decodes a frame less than the file has
        assert n == samples_by_pyav(sound(name))


@pytest.mark.parametrize("name", [name for name in SOUNDS if name not in SAYS_NO_LENGTH])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_never_silently_short(name: str, part: float, tmp_path: Path) -> None:
    whole = sound(name)
    try:
        n, reasons = read(whole[: int(len(whole) * part)], tmp_path)
    except Unreadable:
        return
    assert reasons or n >= samples_by_pyav(whole)


@pytest.mark.parametrize("name", ["WAV of libsndfile", "AIFF of libsndfile", "AU of libsndfile", "MP3", "webm", "Opus"])
def test_a_file_that_lacks_its_last_byte_is_said_to_be_cut(name: str, tmp_path: Path) -> None:
    _, reasons = read(sound(name)[:-1], tmp_path)
    assert "is cut short" in reasons[0]


def tag(n_bytes: int = 300) -> bytes:
    """An empty ID3v2 tag."""
    return b"ID3\4\0\0" + bytes([0, 0, n_bytes >> 7, n_bytes & 127]) + bytes(n_bytes)


def with_lengths(form: int, data: int) -> bytes:
    """A WAV whose header has these for the lengths of the form and of the sound."""
    wav = bytearray(sound("WAV of libsndfile"))
    wav[4:8] = struct.pack("<I", form)
    at = wav.index(b"data") + 4
    wav[at : at + 4] = struct.pack("<I", data)
    return bytes(wav)


def variable_mp3() -> bytes:
    """Large frames of noise, then small ones of silence, and none that says how many there are."""
    parts = np.concatenate([speechlike(4 * N), np.zeros((8 * N, 1), np.float32)])
    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", RATE, 1, format="MP3", compression_level=0.5, bitrate_mode="VARIABLE") as file:
        file.write(parts)
    first = data.getvalue().index(b"Xing") - 21
    length = data.getvalue()[first + 36 :].index(data.getvalue()[:2])  # the frame ends where the next begins
    return data.getvalue()[first + 36 + length :]


WHOLE: dict[str, tuple[int, Callable[[], bytes]]] = {
    "variable MP3 without Xing": (12 * N, variable_mp3),
    "joined MP3s": (2 * N, lambda: 2 * sound("MP3")),
    "joined MP3s without Xing": (2 * N, lambda: 2 * sound("MP3 without Xing")),
    "MP3 with several tags": (N, lambda: tag() + tag(1000) + tag(90) + sound("MP3")),
    "MP3 with a tag at its end": (N, lambda: sound("MP3") + b"TAG" + bytes(125)),
    "chained Ogg": (2 * N, lambda: 2 * sound("OGG of libsndfile")),
    "chained Opus": (6 * N, lambda: 2 * sound("Opus")),
    "joined FLACs": (2 * N, lambda: 2 * sound("FLAC")),
    "joined AACs": (2 * N, lambda: 2 * sound("AAC")),
    "joined mkvs": (2 * N, lambda: 2 * sound("mkv")),
    **{
        f"WAV of lengths {form:#x} and {data:#x}": (N, lambda form=form, data=data: with_lengths(form, data))
        for form in (0, 0xFFFFFFFF)
        for data in (0, 0xFFFFFFFF, 2 * N)
    },
    "WAV as sox streams it": (N, lambda: with_lengths(0x7FFFF024, 0x7FFFF000)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_parts_and_streams_are_read_to_their_end(name: str, tmp_path: Path) -> None:
    expected, make = WHOLE[name]
    n, reasons = read(make(), tmp_path)
    assert reasons == []
    assert n == samples_by_pyav(make())
    assert n >= expected


@pytest.mark.parametrize(
    "name", ["WAV of libsndfile", "AIFF of libsndfile", "m4a", "W64 of libsndfile", "NIST of libsndfile"]
)
def test_a_second_recording_that_is_not_read_is_said(name: str, tmp_path: Path) -> None:
    n, reasons = read(2 * sound(name), tmp_path)
    assert reasons or n > 1.9 * N


def test_a_second_recording_of_another_kind_is_said(tmp_path: Path) -> None:
    _, reasons = read(sound("WAV of PCM_U8") + sound("RF64 of libsndfile"), tmp_path)
    assert "has a second recording in it" in reasons[0]


def test_bytes_behind_a_length_that_lies_are_said(tmp_path: Path) -> None:
    n, reasons = read(with_lengths(2 * N + 36, N), tmp_path)
    assert n == N // 2
    assert reasons == [f"has {N:,} bytes behind its sound that belong to nothing"]


def test_a_part_that_cannot_be_joined_is_said(tmp_path: Path) -> None:
    n, reasons = read(sound("OGG of libsndfile") + by_libsndfile("OGG", rate=22_050), tmp_path)
    assert n == N
    assert "cannot be read beyond 1.25 seconds" in reasons[0]


def test_integers_of_every_width_are_the_same_sound(tmp_path: Path) -> None:
    waves = []
    for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"):
        (tmp_path / "sound").write_bytes(by_ffmpeg("matroska", codec, speechlike(2_000, channels=2)))
        with (tmp_path / "sound").open("rb") as file:
            waves.append(np.concatenate([block.numpy() for block, _ in decoded(file, lambda reason: None)]))
    assert all(np.abs(wave - speechlike(2_000, channels=2)).max() < 2**-6 for wave in waves)
    assert all(np.abs(wave - speechlike(2_000, channels=2)).max() < 2**-14 for wave in waves[1:])


def test_eight_channels_stay_apart(tmp_path: Path) -> None:
    """PyAV reads beyond the memory of more than seven, which ends the process."""
    levels = np.array([1, 0.5, 0.25, 0, 1, 0.5, 0.25, 0], np.float32)
    (tmp_path / "sound").write_bytes(by_ffmpeg("matroska", "aac", speechlike() * levels))
    with (tmp_path / "sound").open("rb") as file:
        wave = np.concatenate([block.numpy() for block, _ in decoded(file, lambda reason: None)])
    np.testing.assert_allclose((wave**2).mean(0) ** 0.5, levels * wave[:, 0].std(), atol=0.02)


# ---- without PyAV


@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize("name", ["WAV of libsndfile", "FLAC", "OGG of libsndfile", "MP3", "Opus"])
def test_libsndfile_alone_reads_a_whole_file(name: str, tmp_path: Path) -> None:
    assert read(sound(name), tmp_path) == (samples_by_libsndfile(sound(name)), [])


@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize("name", ["variable MP3 without Xing", "joined MP3s", "chained Ogg", "joined FLACs"])
def test_where_libsndfile_stops_before_the_end_is_said(name: str, tmp_path: Path) -> None:
    n, reasons = read(WHOLE[name][1](), tmp_path)
    assert n < WHOLE[name][0]
    assert "goes on after" in reasons[0]
    assert "glassformer[media]" in reasons[0]


@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize("name", ["m4a", "webm", "AAC", "WavPack", "CAF of ALAC"])
def test_a_file_that_needs_the_extra_names_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"glassformer\[media\]"):
        read(sound(name), tmp_path)


@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize("name", ["WAV of libsndfile", "FLAC", "MP3", "OGG of libsndfile"])
def test_libsndfile_alone_says_that_a_file_is_cut(name: str, tmp_path: Path) -> None:
    try:
        assert read(sound(name)[: int(len(sound(name)) * 0.7)], tmp_path)[1]
    except Unreadable:
        assert name == "OGG of libsndfile"  # whose first page is not there


def samples_by_libsndfile(data: bytes) -> int:
    return len(soundfile.read(io.BytesIO(data))[0])


# ---- damage of any kind


def damaged(choose: random.Random) -> tuple[str, bytes]:
    """A file with one thing wrong with it, and what that is."""
    name = choose.choice(sorted(SOUNDS))
    data = bytearray(sound(name))
    kind = choose.choice(["cut", "joined", "joined to another", "a lie", "a large lie", "noise", "a hole", "tagged"])
    at = choose.randrange(len(data))
    match kind:
        case "cut":
            data = data[:at]
        case "joined":
            data = 2 * data
        case "joined to another":
            data = data + sound(choose.choice(sorted(SOUNDS)))
        case "a lie":
            data[choose.randrange(min(len(data), 120))] = choose.randrange(256)
        case "a large lie":
            lie = choose.choice([0, 1, 2**31 - 1, 2**32 - 1, len(data)])
            at = 2 * choose.randrange(60)
            data[at : at + 4] = lie.to_bytes(4, choose.choice(["little", "big"]))
        case "noise":
            data[at : at + 50] = choose.randbytes(50)
        case "a hole":
            del data[at : at + choose.randrange(1, 4000)]
        case "tagged":
            data = tag() + data + b"TAG" + bytes(125)
    return f"{name}, {kind}", bytes(data)


def test_damaged_files_are_never_silently_short(tmp_path: Path) -> None:
    choose = random.Random(0)
    for trial in range(count("damaged sounds")):
        name, data = damaged(choose)
        try:
            n, reasons = read(data, tmp_path)
        except Unreadable:
            continue
        assert n >= samples_by_pyav(data) or reasons, f"{trial}: {name}"


# ---- what strangers may try


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXTINF:1,\nother.wav\n",
        b"ffconcat version 1.0\nfile other.wav\n",
        b"<?xml version='1.0'?><MPD><BaseURL>other.wav</BaseURL></MPD>",
        b"1\n00:00:00,000 --> 00:00:01,000\nother.wav\n",
        b"v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
    ],
    ids=["a playlist", "a list for concat", "a manifest of DASH", "subtitles", "a session"],
)
def test_a_file_opens_no_other_file(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.wav").write_bytes(sound("WAV of libsndfile"))
    with pytest.raises(Unreadable):
        read(data, tmp_path)


def test_a_fragment_that_promises_more_samples_than_bytes_is_refused(tmp_path: Path) -> None:
    fragments = bytearray(sound("mp4 in fragments"))
    at = fragments.index(b"trun") + 8
    fragments[at : at + 4] = (2**24).to_bytes(4, "big")  # FFmpeg's table of them has half a gigabyte
    with pytest.raises(Unreadable, match="promise 16,777,2"):
        read(bytes(fragments), tmp_path)


def test_sound_in_a_code_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no sound that FFmpeg can decode"):
        read(sound("mkv").replace(b"A_AAC", b"A_XYZ"), tmp_path)


def film(folder: Path, *, with_sound: bool) -> bytes:
    """Ten black pictures, and a second and a quarter of sound in two languages, of which the second is the default."""
    path = folder / "film.mkv"
    with av.open(str(path), "w") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 16
        streams = [output.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2 * with_sound)]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number else av.stream.Disposition(0)
        for number in range(10):
            picture = av.VideoFrame(16, 16, "yuv420p")
            picture.pts = number
            output.mux(pictures.encode(picture))
        output.mux(pictures.encode(None))
        for level, stream in enumerate(streams, 1):
            frame = av.AudioFrame.from_ndarray(np.full((1, N), 1000 * level, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path.read_bytes()


def test_of_a_film_the_default_sound_is_read(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(film(tmp_path, with_sound=True))
    with (tmp_path / "film").open("rb") as file:
        blocks = [block for block, _ in decoded(file, lambda reason: None)]
    assert sum(map(len, blocks)) == N
    assert blocks[0][0].item() == pytest.approx(2000 / 32768)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no sound that FFmpeg can decode"):
        read(film(tmp_path, with_sound=False), tmp_path)
