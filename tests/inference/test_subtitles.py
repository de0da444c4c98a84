"""Subtitles: read back, they are what was written; every cue is seen, and none before the one before is over."""

import itertools
import json
import random
import re

import pytest

from glassformer.inference.subtitles import FORMATS, as_srt, as_tsv, as_txt, as_vtt, clock, cues
from glassformer.inference.transcribe import Segment, Transcript, Word
from support.counts import count

TEXTS = ["ask", "not", "--> what", "your", "a<b", "R&D", "x" * 50, "ä€字", "can", "do", "for", "you."]


def segment(start: float, end: float, text: str, words: tuple[Word, ...] = ()) -> Segment:
    return Segment(
        start=start,
        end=end,
        text=text,
        tokens=[1, 2],
        words=words,
        temperature=0.0,
        mean_logprob=-0.3,
        compression=1.2,
        no_speech=0.1,
    )


def transcript(*segments: Segment) -> Transcript:
    return Transcript(language="en", duration=4e4, segments=segments)


def drawn(choose: random.Random) -> Transcript:
    """Segments in order, some words of no length, with and without words, up to eleven hours."""
    time, found = choose.choice([0.0, 3_599.5, 39_000.0]), []
    for _ in range(choose.randint(1, 5)):
        start, words = time, []
        for text in choose.choices(TEXTS, k=choose.randint(1, 9)):
            end = round(time + choose.choice([0, 0, 0.01, 0.3, 2]), 2)
            words.append(Word(text=f" {text}", start=time, end=end, probability=0.5))
            time = end
        time = round(time + choose.choice([0.01, 1]), 2)
        text = "".join(word.text for word in words)
        found.append(segment(start, time, text, choose.choice([tuple(words), ()])))
    return transcript(*found)


def milliseconds(text: str) -> int:
    hours, minutes, seconds, ms = map(int, re.split("[:.,]", text))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms


def read(text: str) -> list[tuple[int, int, str]]:
    """The cues of a .srt or .vtt file: a line with an arrow, and what follows it up to an empty line."""
    found = []
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        arrows = [i for i, line in enumerate(lines) if " --> " in line]
        if arrows:
            start, end = lines[arrows[0]].split(" --> ")
            found.append((milliseconds(start), milliseconds(end), "\n".join(lines[arrows[0] + 1 :])))
    return found


def test_what_is_written_is_read_back() -> None:
    for seed in range(count("transcripts as subtitles")):
        choose = random.Random(seed)
        whole, width, lines = drawn(choose), choose.choice([None, 10, 42]), choose.choice([None, 1, 2])
        expected = [(cue.start_ms, cue.end_ms, cue.text) for cue in cues(whole, width, lines)]
        assert read(as_srt(whole, width, lines)) == expected
        unescaped = [
            (a, b, t.replace("&lt;", "<").replace("&amp;", "&")) for a, b, t in read(as_vtt(whole, width, lines))
        ]
        assert unescaped == expected
        rows = [line.split("\t") for line in as_tsv(whole, width, lines).splitlines()[1:]]
        assert [(int(a), int(b), t.split()) for a, b, t in rows] == [(a, b, t.split()) for a, b, t in expected]


def test_cues_are_in_order_last_some_time_and_keep_to_their_lines() -> None:
    for seed in range(count("transcripts as subtitles")):
        choose = random.Random(seed)
        whole, width, lines = drawn(choose), choose.choice([10, 42]), choose.choice([1, 2])
        found = cues(whole, width, lines)
        assert all(cue.start_ms < cue.end_ms for cue in found)
        assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(found))
        for line in (line for cue in found for line in cue.text.split("\n")):
            assert len(line) <= width or " " not in line or line == "-> what"
        assert all(cue.text.count("\n") < lines for cue in found)
        said = [word for part in whole.segments for word in part.text.replace("-->", "->").split()]
        assert [word for cue in found for word in cue.text.split()] == said


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("现在正在录，请稍等。", ["现在正在", "录，请稍", "等。"]),  # no line begins with a mark
        ("これは「テスト」です", ["これは「テ", "スト」です"]),
        ("การประชุม", ["การปร", "ะชุม"]),
        ("请按 pound 键", ["请按", "pound", "键"]),
    ],
)
@pytest.mark.parametrize("with_words", [False, True])
def test_a_script_without_spaces_is_broken_into_lines(text: str, lines: list[str], with_words: bool) -> None:
    words = (Word(text=text, start=1.0, end=3.0, probability=1.0),) if with_words else ()
    (cue,) = cues(transcript(segment(1.0, 3.0, text, words)), line_width=5)
    assert cue.text.split("\n") == lines
    one_by_one = cues(transcript(segment(1.0, 3.0, text, words)), line_width=5, line_count=1)
    assert [cue.text for cue in one_by_one] == lines
    assert (one_by_one[0].start_ms, one_by_one[-1].end_ms) == (1000, 3000)


def test_without_times_of_words_a_line_count_shares_the_time_out_among_the_characters() -> None:
    found = cues(transcript(segment(10.0, 14.0, " ask what you can do")), line_width=8, line_count=1)
    assert [(cue.start_ms, cue.end_ms, cue.text) for cue in found] == [
        (10000, 11800, "ask what"),
        (11800, 13400, "you can"),
        (13400, 14000, "do"),
    ]


@pytest.mark.parametrize("line_end", ["\n\n", "\n", "\r\n\r\n", "\u2028", "\x85"])
@pytest.mark.parametrize("with_words", [False, True])
def test_an_end_of_line_that_the_model_wrote_does_not_end_a_cue(line_end: str, with_words: bool) -> None:
    texts = [" ask", line_end, f"{line_end}not", f" what{line_end}"]
    words = tuple(Word(text=text, start=1.0 + i, end=2.0 + i, probability=1.0) for i, text in enumerate(texts))
    whole = transcript(segment(1.0, 5.0, "".join(texts), words if with_words else ()))
    for format in (as_srt, as_vtt):
        assert read(format(whole)) == [(1000, 5000, "ask not what")]
        assert [text for _, _, text in read(format(whole, 3, 1))] == ["ask", "not", "what"]
    assert as_tsv(whole).splitlines()[1:] == ["1000\t5000\task not what"]
    assert as_txt(whole) == "ask not what\n"


def test_the_formats_by_example() -> None:
    words = (
        Word(text=" Ask", start=1.0, end=1.5, probability=1.0),
        Word(text=" not", start=1.5, end=2.25, probability=1.0),
    )
    whole = transcript(segment(1.0, 2.25, " Ask not", words), segment(3661.0, 3662.0, " what & why"))
    assert as_txt(whole) == "Ask not\nwhat & why\n"
    assert as_srt(whole) == (
        "1\n00:00:01,000 --> 00:00:02,250\nAsk not\n\n2\n01:01:01,000 --> 01:01:02,000\nwhat & why\n"
    )
    assert as_vtt(whole, 3) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.250\nAsk\nnot\n\n01:01:01.000 --> 01:01:02.000\nwhat\n&amp;\nwhy\n"
    )
    assert as_tsv(whole, 3, 1).splitlines()[:3] == ["start\tend\ttext", "1000\t1500\tAsk", "1500\t2250\tnot"]
    content = json.loads(FORMATS["json"](whole, None, None))
    assert content["text"] == "Ask not what & why"
    assert content["segments"][0]["words"][1] == {"text": " not", "start": 1.5, "end": 2.25, "probability": 1.0}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_said_is_a_file_too(name: str) -> None:
    assert read(FORMATS[name](transcript(), None, None)) == []


def test_hours_are_left_out_where_there_are_none() -> None:
    assert clock(62_345, ".", hours=False) == "01:02.345"
    assert clock(3_600_000, ".", hours=False) == "01:00:00.000"
