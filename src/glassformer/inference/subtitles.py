"""A transcript as a file: plain text, SubRip (.srt), WebVTT (.vtt), tab-separated values, JSON.

A cue is what stands on the screen at once: a segment, or as much of it as a line width and a line count allow. Where
the transcript has no times of words, a segment's time is shared out among its characters.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import regex

from glassformer.inference.transcribe import Segment, Transcript, Word

SHORTEST_MS = 10  # a cue that begins and ends at once would never be seen


# A line may end at a space, and after a character of a script that has none between words, with marks that follow it.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
CLOSING = r"\p{M}\p{Pe}\p{Pf}\p{Po}ー"
PIECE = regex.compile(rf"\s*(?:[^\s{UNSPACED}]*[{UNSPACED}][{CLOSING}]*|\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Lines on the screen, from one millisecond to another."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRun:
    """Text within which no line is broken, with the space before it; seconds from the recording's beginning."""

    text: str
    start: float
    end: float


def cues(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> list[Cue]:
    """The cues of a transcript, one after the other: each lasts some time, and begins when the one before is over.

    A word that is wider than a line has a line of its own.
    """
    cues: list[Cue] = []
    for segment in transcript.segments:
        for lines in _screens(_lines(_pieces(segment), line_width), line_count):
            start_ms = max(round(1000 * lines[0][0].start), cues[-1].end_ms if cues else 0)
            end_ms = max(round(1000 * lines[-1][-1].end), start_ms + SHORTEST_MS)
            text = "\n".join(_text(line) for line in lines)
            cues.append(Cue(start_ms=start_ms, end_ms=end_ms, text=text.replace("-->", "->")))
    return cues


def _pieces(segment: Segment) -> Iterator[TextRun]:
    """What is said in a segment, cut wherever a line may end; within a word, time is shared out among characters."""
    timed: Sequence[Segment | Word] = segment.words or [segment]
    for word in timed:
        texts = PIECE.findall(word.text)
        ends = list(accumulate(map(len, texts), initial=0))
        seconds_per_character = (word.end - word.start) / max(ends[-1], 1)
        moments = [word.start + end * seconds_per_character for end in ends]
        for text, (start, end) in zip(texts, pairwise(moments), strict=True):
            yield TextRun(text=text, start=start, end=end)


def _lines(pieces: Iterable[TextRun], line_width: int | None) -> list[list[TextRun]]:
    lines: list[list[TextRun]] = []
    for piece in pieces:
        if lines and (line_width is None or len(_text([*lines[-1], piece])) <= line_width):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return lines


def _screens(lines: list[list[TextRun]], line_count: int | None) -> list[list[list[TextRun]]]:
    size = line_count or max(len(lines), 1)
    return [lines[i : i + size] for i in range(0, len(lines), size)]


def _text(line: Iterable[TextRun]) -> str:
    """One line, whatever the model wrote: an empty one would end a cue."""
    return " ".join("".join(piece.text for piece in line).split())


def clock(ms: int, point: str, *, hours: bool = True) -> str:
    """Milliseconds as 00:01:02.345; without `hours` only where there are some.

    >>> clock(62_345, ",")
    '00:01:02,345'
    """
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    whole_hours, minutes = divmod(minutes, 60)
    before = f"{whole_hours:02}:" if hours or whole_hours else ""
    return f"{before}{minutes:02}:{seconds:02}{point}{ms:03}"


def as_txt(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> str:
    """A line for each segment, however wide."""
    return "".join(f"{' '.join(segment.text.split())}\n" for segment in transcript.segments)


def as_srt(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> str:
    """SubRip's numbered cues."""
    blocks = [
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(transcript, line_width, line_count), start=1)
    ]
    return "\n".join(blocks)


def as_vtt(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> str:
    """WebVTT, which browsers show under a video; in its text & and < have to be written &amp; and &lt;."""
    blocks = [
        f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n"
        f"{cue.text.replace('&', '&amp;').replace('<', '&lt;')}\n"
        for cue in cues(transcript, line_width, line_count)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def as_tsv(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> str:
    """Begin and end in milliseconds, and the text of each cue in one line."""
    rows = [
        f"{cue.start_ms}\t{cue.end_ms}\t{' '.join(cue.text.split())}"
        for cue in cues(transcript, line_width, line_count)
    ]
    return "\n".join(["start\tend\ttext", *rows, ""])


def as_json(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> str:
    """Everything that is known, times in seconds."""
    return json.dumps(as_mapping(transcript), ensure_ascii=False, indent=2) + "\n"


def as_mapping(transcript: Transcript) -> dict[str, Any]:
    """The same for a program that writes JSON of its own."""
    return {"text": transcript.text.strip(), **asdict(transcript)}


FORMATS: dict[str, Callable[[Transcript, int | None, int | None], str]] = {
    "txt": as_txt,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
    "json": as_json,
}
