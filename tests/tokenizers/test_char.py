"""Characters as tokens."""

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import CharTokenizer


def test_ids_are_places_in_the_alphabet():
    tokenizer = CharTokenizer("ABC")
    assert tokenizer.encode("CBABBC") == [2, 1, 0, 1, 1, 2]
    assert tokenizer.decode([0, 1, 2]) == "ABC"
    assert (tokenizer.vocab_size, tokenizer.special_tokens, tokenizer.eos_id) == (3, {}, None)


def test_an_alphabet_is_taken_from_text():
    assert CharTokenizer.from_text("hello\n").alphabet == CharTokenizer.from_text(["hel", "lo\n"]).alphabet == "\nehlo"


def test_chunks_and_streams_are_the_whole():
    tokenizer = CharTokenizer.from_text("añ漢😀")
    text = "漢a😀ñ" * 5_000
    ids = tokenizer.encode(text)
    assert list(tokenizer.encode_iterable(text)) == ids
    stream = tokenizer.stream()
    assert "".join(map(stream.push, ids)) + stream.finish() == tokenizer.decode(ids) == text


@pytest.mark.parametrize(("text", "named"), [("ABX", "'X'"), ("A\ud800", "'\ufffd'")])
def test_an_unknown_character_is_named(text, named):
    with pytest.raises(TokenizerError, match=f"the character {named}"):
        CharTokenizer("ABC").encode(text)


@pytest.mark.parametrize(("alphabet", "why"), [("", "at least one"), ("ABA", "comes once"), ("A\ud800", "surrogates")])
def test_an_impossible_alphabet_is_refused(alphabet, why):
    with pytest.raises(TokenizerError, match=why):
        CharTokenizer(alphabet)


def test_ids_out_of_range_have_no_bytes_and_decode_to_nothing():
    assert CharTokenizer("ABC").decode([2, 3, 0]) == "CA"
    with pytest.raises(TokenizerError, match="3 is no token id"):
        CharTokenizer("ABC").token_bytes(3)
