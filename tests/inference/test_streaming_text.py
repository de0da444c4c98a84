"""From tokens to streamed text: stop strings and characters that come in parts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.errors import GenerationError
from glassformer.inference.generate import NewToken
from glassformer.inference.logits import Sampling
from glassformer.inference.stopping import overlap
from glassformer.inference.streaming_text import stream_text
from glassformer.tokenizers import BPETokenizer, SentencePieceTokenizer
from support.counts import count

BYTES = BPETokenizer({i: bytes([i]) for i in range(256)}, [], [])


def as_tokens(data: bytes, sequence: int = 0) -> list[NewToken]:
    last = len(data) - 1
    return [
        NewToken(sequence=sequence, token=byte, finish="length" if i == last else None) for i, byte in enumerate(data)
    ]


def streamed(data: bytes, stop: tuple[str, ...] = ()) -> tuple[str, str | None]:
    pieces = list(stream_text(iter(as_tokens(data)), BYTES, stop=stop))
    return "".join(piece.text for piece in pieces), pieces[-1].finish


@settings(max_examples=count("streamed texts"))
@given(st.binary(min_size=1, max_size=40))
def test_the_pieces_join_to_the_whole_text_also_when_bytes_are_broken(data):
    assert streamed(data)[0] == data.decode("utf-8", errors="replace")


@settings(max_examples=count("streamed texts"))
@given(st.text(min_size=1, max_size=20))
def test_no_piece_has_a_replacement_character_for_a_character_that_is_still_coming(text):
    data = text.encode("utf-8", errors="replace")
    pieces = list(stream_text(iter(as_tokens(data)), BYTES))
    assert "".join(piece.text for piece in pieces) == data.decode("utf-8")


@settings(max_examples=count("streamed texts"))
@given(st.text("ab", min_size=1, max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_a_text_ends_before_the_first_stop_string(text, stops):
    found = [text.find(stop) for stop in stops if stop in text]
    # The earliest stop to be complete wins; none of a stop string is shown.
    got, finish = streamed(text.encode(), tuple(stops))
    assert not any(stop in got for stop in stops)
    assert text.startswith(got)
    if found:
        assert finish == "stop"
        assert any(text[len(got) :].startswith(stop) for stop in stops)
    else:
        assert (got, finish) == (text, "length")


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_sure():
    pieces = [piece.text for piece in stream_text(iter(as_tokens(b"the enemy")), BYTES, stop=("end",))]
    assert [text for text in pieces if text] == ["t", "h", "e ", "en", "em", "y"]


def test_one_sequence_stopping_does_not_end_the_others():
    tokens = [token for pair in zip(as_tokens(b"xEx", 0), as_tokens(b"abc", 1), strict=True) for token in pair]
    texts = ["", ""]
    for piece in stream_text(iter(tokens), BYTES, prompts=((), ()), stop=("E",)):
        texts[piece.sequence] += piece.text
    assert texts == ["x", "abc"]


def test_when_all_have_stopped_no_more_tokens_are_asked_for():
    asked = []

    def tokens():
        for token in as_tokens(b"xEyyyy"):
            asked.append(token)
            yield token

    list(stream_text(tokens(), BYTES, stop=("E",)))
    assert len(asked) == 2


def test_a_token_that_ends_a_text_is_not_shown_and_an_empty_line_parts_two_texts():
    pieces = list(stream_text(iter(as_tokens(b"ab.cd.")), BYTES, eos_ids=frozenset({ord(".")})))
    assert "".join(piece.text for piece in pieces) == "ab\n\ncd"


def test_several_ends_in_a_row_make_one_empty_line():
    pieces = list(stream_text(iter(as_tokens(b".ab.!.cd!e")), BYTES, eos_ids=frozenset(b".!")))
    assert "".join(piece.text for piece in pieces) == "\n\nab\n\ncd\n\ne"


def test_a_text_after_an_end_begins_as_every_text_does():
    """sentencepiece writes a space before a text, which is none of its own."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    tokenizer = SentencePieceTokenizer(pieces, [0.0] * 259 + [-1.0, -2.0, 0.0])
    a, begin, end = 261, 1, 2
    tokens = [a, a, end, a, a, end, begin, a, a]
    new = [NewToken(sequence=0, token=t, finish="length" if i == 8 else None) for i, t in enumerate(tokens)]
    shown = stream_text(iter(new), tokenizer, prompts=((begin,),), eos_ids=frozenset({begin, end}))
    assert "".join(piece.text for piece in shown) == "a a\n\na a\n\na a"


def test_a_character_cut_short_by_an_end_does_not_spoil_the_next_text():
    pieces = list(stream_text(iter(as_tokens(b"a\xc3.b")), BYTES, eos_ids=frozenset(b".")))
    assert "".join(piece.text for piece in pieces) == "a\ufffd\n\nb"


def test_an_empty_stop_string_is_refused():
    with pytest.raises(GenerationError, match="at least one character"):
        stream_text(iter(as_tokens(b"ab")), BYTES, stop=("",))


@pytest.mark.parametrize(
    ("text", "stop", "n"), [("the en", "end", 2), ("aaa", "aab", 2), ("", "x", 0), ("end", "end", 3)]
)
def test_overlap(text, stop, n):
    assert overlap(text, stop) == n


def test_a_sequence_that_has_met_a_stop_string_is_decoded_no_further() -> None:
    model = gf.load("nano-sort")
    rows: list[int] = []
    model.module.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    pieces = model.stream(["CBABBC", "AAAAAA"], max_new_tokens=6, sampling=Sampling(temperature=0.0), stop=("BB",))
    texts = ["", ""]
    for piece in pieces:
        texts[piece.sequence] += piece.text
    assert texts == ["A", "AAAAAA"]
    assert rows == [2, 2, 2, 1, 1, 1]
