"""A transcript as a file: plain text, SubRip (.srt), WebVTT (.vtt), tab-separated values, JSON.

A cue is what stands on the screen at once. Where the transcript has words, cues keep to a line width and a line count;
else each segment is one.
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from glassformer.inference.transcribe import Segment, Transcript, Word

SHORTEST_MS = 10  # a cue that begins and ends at once would never be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Lines on the screen, from one millisecond to another."""

    start_ms: int
    end_ms: int
    text: str


def cues(transcript: Transcript, line_width: int | None = None, line_count: int | None = None) -> list[Cue]:
    """The cues of a transcript, one after the other: each lasts some time, and begins when the one before is over.

    A word that is wider than a line has a line of its own.
    """
    found: list[Cue] = []
    for start, end, text in _pieces(transcript.segments, line_width, line_count):
        start_ms = max(round(1000 * start), found[-1].end_ms if found else 0)
        end_ms = max(round(1000 * end), start_ms + SHORTEST_MS)
        found.append(Cue(start_ms=start_ms, end_ms=end_ms, text=text.replace("-->", "->")))
    return found


def _pieces(
    segments: Iterable[Segment], line_width: int | None, line_count: int | None
) -> Iterator[tuple[float, float, str]]:
    for segment in segments:
        if segment.words:
            for lines in _screens(_lines(segment.words, line_width), line_count):
                text = "\n".join("".join(word.text for word in line).strip() for line in lines)
                yield lines[0][0].start, lines[-1][-1].end, text
        else:
            text = " ".join(segment.text.split())
            wrapped = textwrap.wrap(text, line_width, break_long_words=False) if line_width else [text]
            yield segment.start, segment.end, "\n".join(wrapped)


def _lines(words: Sequence[Word], line_width: int | None) -> list[list[Word]]:
    lines: list[list[Word]] = []
    for word in words:
        line = "".join(other.text for other in lines[-1]) if lines else ""
        if lines and (line_width is None or len((line + word.text).strip()) <= line_width):
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _screens(lines: list[list[Word]], line_count: int | None) -> list[list[list[Word]]]:
    size = line_count or max(len(lines), 1)
    return [lines[i : i + size] for i in range(0, len(lines), size)]


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
    return json.dumps({"text": transcript.text.strip(), **asdict(transcript)}, ensure_ascii=False, indent=2) + "\n"


FORMATS: dict[str, Callable[[Transcript, int | None, int | None], str]] = {
    "txt": as_txt,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
    "json": as_json,
}
