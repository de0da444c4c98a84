"""Whether all bytes of a sound file are there, by what the file says of itself.

Decoders do not tell: libsndfile takes a chunk that reaches past the file's end for a shorter one, and FFmpeg stops
without a word at a page or a block that is not whole. But most containers write down how far they go, outside of what
is compressed, and here that is held against the file. MP3 without a Xing header, AAC in ADTS and AMR say nothing, and
FLAC counts samples, which is left to its decoder. Next to read: `decoders.py`.
"""

import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

MAX_PARTS = 1 << 19  # chunks, boxes or blocks looked at, since a file may consist of nothing else
MAX_PAGE = 27 + 255 + 255 * 255  # bytes of a page of Ogg
STREAMED = {0, 0x7FFFF000, 0x7FFFF024, 0x7FFFFFFF, 0x80000000, 0x80000024, 0xFFFFFFFF, 2**64 - 1}  # never filled in
BOXES = {  # of MP4, which have boxes in them
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf", b"tref"),
    *(b"wave", b"sinf", b"schi", b"ipro", b"iprp", b"meta"),
}
PRINTABLE = re.compile(rb"[ -~]{4}")
XING = re.compile(rb"\xff[\xe2-\xff]..(?:.{9}|.{17}|.{32})(?:Xing|Info)(.{4}).{4}(.{4})", re.DOTALL)


class Unreadable(Exception):
    """A file is not read; the text says why."""


def lacking(file: BinaryIO) -> str:
    """Why a file is not one whole recording, as the predicate of a sentence about it; "" where nothing says so."""
    size = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 16)
    if head[4:8] == b"ftyp":
        return _boxes(file, size)
    return READERS.get(head[:4], _mp3)(file, size)


def _at(file: BinaryIO, offset: int, n: int) -> bytes:
    file.seek(offset)
    return file.read(n)


def _cut(end: int, size: int) -> str:
    return f"is cut short, or damaged: it should have {end:,} bytes, and has {size:,}"


def _joined(at: int) -> str:
    return f"has a second recording in it, which begins at byte {at:,} and is not read"


def _loose(n_bytes: int) -> str:
    return f"has {n_bytes:,} bytes behind its sound that belong to nothing"


def _riff(file: BinaryIO, size: int) -> str:
    """WAV, RF64, AIFF, AVI: a form with its length, and in it chunks with theirs. One of them holds the sound."""
    magic, kind = _at(file, 0, 4), _at(file, 8, 4)
    order = ">" if magic in (b"RIFX", b"FORM") else "<"
    length, long_length = int.from_bytes(_at(file, 4, 4), "big" if order == ">" else "little"), 0
    if magic == b"RF64":
        length, long_length = struct.unpack("<QQ", _at(file, 20, 16).ljust(16, b"\0"))
    end = None if length in STREAMED else 8 + length
    if end is not None and end > size + 1:  # some count a last byte that fills up to an even number, and lack it
        return _cut(end, size)
    sound_end = 0
    for id, at, n in _chunks(file, order, size):
        if sound_end and end is not None and at > end:
            break
        if id in (b"data", b"SSND"):
            n_bytes = long_length if magic == b"RF64" and n == 0xFFFFFFFF else n
            if n_bytes in STREAMED:
                return ""
            if at + n_bytes > size:
                return _cut(at + n_bytes, size)
            sound_end = sound_end or at + n_bytes + n_bytes % 2
        elif sound_end and end is not None and not (PRINTABLE.search(_at(file, at - 9, 5)) and at + n <= end):
            return _loose(end - at + 8)
    if end is None or kind == b"AVI ":  # which goes on in a second form
        return ""
    if _at(file, end, 4) in READERS:
        return _joined(end)
    return _loose(size - end) if size - end > 128 and sound_end == end else ""  # more than a tag


def _chunks(file: BinaryIO, order: str, size: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a form: a name, where the content begins, and its length."""
    at = 12
    for _ in range(MAX_PARTS):
        head = _at(file, at, 8)
        if len(head) < 8 or at > size:
            return
        id, n = struct.unpack(f"{order}4sI", head)
        yield id, at + 8, n
        at += 8 + n + n % 2


def _au(file: BinaryIO, size: int) -> str:
    """Sun's .au: where the sound begins, and its length."""
    begin, n = struct.unpack(">4xII", _at(file, 0, 12).ljust(12, b"\0"))
    if n in STREAMED:
        return ""
    if begin + n > size:
        return _cut(begin + n, size)
    return _loose(size - begin - n) if begin + n < size else ""


def _caf(file: BinaryIO, size: int) -> str:
    """Apple's CAF: chunks; the last may say −1, and goes on to the file's end."""
    at = 8
    for _ in range(MAX_PARTS):
        head = _at(file, at, 12)
        n = int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or n < 0:
            return ""
        at += 12 + n
        if at > size:
            return _cut(at, size)
    return ""


def _objects(file: BinaryIO, size: int) -> str:
    """ASF (.wma) and Sony's Wave64: objects, of which each says how long it is, itself included."""
    at = 0
    for _ in range(MAX_PARTS):
        head = _at(file, at, 24)
        n = int.from_bytes(head[16:], "little")
        if n < 24 or n in STREAMED:
            return ""
        if at and head[:4] in READERS:
            return _joined(at)
        at += n
        if at > size:
            return _cut(at, size)
    return ""


def _boxes(file: BinaryIO, size: int) -> str:
    """MP4 and its kin (.m4a, .mov, .3gp; ISO/IEC 14496-12): boxes, of which each says how long it is.

    A `trun` may promise samples without a byte for each, and FFmpeg makes a table of all that it is promised.
    """
    waiting, n_samples, reason = [(0, size)], 0, ""
    for _ in range(MAX_PARTS):
        while waiting and waiting[-1][0] >= waiting[-1][1]:
            waiting.pop()
        if not waiting:
            return reason
        at, end = waiting.pop()
        head = _at(file, at, 16)
        kind, n = head[4:8], int.from_bytes(head[:4], "big")
        if n == 1:  # then the length is in the eight bytes behind the name
            n = int.from_bytes(head[8:], "big")
        n = end - at if n == 0 else n
        if kind == b"trun":
            n_samples += int.from_bytes(head[12:], "big")
            if n_samples > size:
                raise Unreadable(f"its {size:,} bytes promise {n_samples:,} samples or more")
        if not waiting and not reason:  # a box in no other
            if len(head) < 8 or at + n > size:
                reason = _cut(at + max(n, 8), size)
            elif at and kind == b"ftyp":
                reason = _joined(at)
        if n >= 8:
            waiting.append((at + n, end))
        if kind in BOXES:
            waiting.append((at + 8, min(at + n, end)))
    raise Unreadable(f"it has more than {MAX_PARTS:,} parts")


def _elements(file: BinaryIO, size: int) -> str:
    """Matroska and WebM (RFC 8794): elements; of one whose length is not known, those in it are looked at."""
    at = 0
    for _ in range(MAX_PARTS):
        head = _at(file, at, 12)
        if not head:
            return ""
        id_bytes = 9 - head[0].bit_length()  # leading zeros say how many bytes follow
        length_bytes = 9 - head[id_bytes].bit_length() if id_bytes < len(head) else 1
        end = at + id_bytes + length_bytes
        if max(id_bytes, length_bytes) > 8:
            return ""
        n = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big") & ((1 << 7 * length_bytes) - 1)
        at = end if n == (1 << 7 * length_bytes) - 1 else end + n
        if at > size:
            return _cut(at, size)
    return ""


def _ogg(file: BinaryIO, size: int) -> str:
    """Ogg (RFC 3533): pages; the last is whole, and marked as such."""
    tail = _at(file, max(size - MAX_PAGE, 0), MAX_PAGE)
    page = tail[tail.rfind(b"OggS") :]
    length = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else 27
    if length > len(page):
        return _cut(size - len(page) + length, size)
    return "" if page[5] & 4 else "is cut short: none of its pages is marked as the last"


def _mp3(file: BinaryIO, size: int) -> str:
    """MP3: its first frame may be Xing's, which says how many bytes there are. Tags (ID3v2) may stand before it."""
    at = 0
    for _ in range(MAX_PARTS):
        head = _at(file, at, 10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        at += 10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:]))
    xing = XING.search(_at(file, at, 4096))
    if xing is None or not xing[1][3] & 2:
        return ""
    end = at + xing.start() + int.from_bytes(xing[2], "big")
    return _cut(end, size) if end > size else ""


READERS: dict[bytes, Callable[[BinaryIO, int], str]] = {
    b"RIFF": _riff,
    b"RIFX": _riff,
    b"RF64": _riff,
    b"FORM": _riff,
    b".snd": _au,
    b"caff": _caf,
    b"riff": _objects,
    b"\x30\x26\xb2\x75": _objects,
    b"\x1a\x45\xdf\xa3": _elements,
    b"OggS": _ogg,
}
