"""Special tokens are found from the left, the longest first, in a time that does not grow with their number."""

import random

import numpy as np
import pytest

import glassformer as gf
from glassformer.kernels import special_tokens as kernels
from glassformer.tokenizers import BPETokenizer, special_tokens
from glassformer.tokenizers.pretokenize import PATTERNS, PreTokenizer
from glassformer.tokenizers.special_tokens import SpecialTokens, find
from support.counts import count

BYTES = {byte: bytes([byte]) for byte in range(256)}
PREFIX = "<|a common prefix|"
MANY_TOKENS = [f"{PREFIX}{i}|>" for i in range(10_000)]


def test_both_forms_find_the_same() -> None:
    rng = random.Random(19)
    for _ in range(count("texts with special tokens")):
        letters = rng.choice(["ab", "aab<é漢", "<|e>.*😀"])
        written = {"".join(rng.choices(letters, k=rng.randrange(1, 7))) for _ in range(rng.randrange(1, 12))}
        tokens = tuple(sorted(written, key=len, reverse=True))
        text = "".join(rng.choices(letters + " ?\ud83d", k=rng.randrange(60)))
        spans = find(text, tokens)
        with gf.use("readable"):
            assert find(text, tokens) == spans, (tokens, text)


HARD = {
    "10,000 with one prefix": (MANY_TOKENS, [PREFIX, PREFIX + "1234|", MANY_TOKENS[77], PREFIX[1:]]),
    "a run and what breaks it": (["a" * n + "b" for n in range(1, 300)], ["a", "ab", "aaab"]),
    "each within the next": (["a" * n for n in range(2, 600)], ["a", "aab"]),
    "a run after a break": (["b" + "a" * n for n in range(1, 300)], ["a", "ba", "aaab"]),
}


@pytest.mark.parametrize("name", HARD)
def test_a_byte_takes_at_most_two_steps_whatever_the_tokens(name: str) -> None:
    tokens, parts = HARD[name]
    automaton = kernels.automaton_of([token.encode() for token in tokens])
    for part in parts:
        data = np.frombuffer((part * 10_000).encode(), np.uint8)
        assert kernels.mark(data, automaton, np.empty(len(data), np.uint16)) <= 2 * len(data)


def test_ten_thousand_tokens_with_one_prefix_are_encoded_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(special_tokens, "MANY", 0)
    tokenizer = BPETokenizer(BYTES, [], MANY_TOKENS)
    rng = random.Random(20)
    numbers = rng.choices(range(len(MANY_TOKENS)), k=500)
    text = "".join(f"é{MANY_TOKENS[number]}{PREFIX}{number}|" for number in numbers)
    expected: list[int] = []
    for number in numbers:
        expected += [*"é".encode(), 256 + number, *f"{PREFIX}{number}|".encode()]
    assert tokenizer.encode(text) == expected
    assert list(tokenizer.encode_iterable(text[i : i + 999] for i in range(0, len(text), 999))) == expected


def test_of_few_tokens_and_in_short_texts_a_regular_expression_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str, tokens: tuple[str, ...]) -> None:
        raise AssertionError

    monkeypatch.setattr(special_tokens, "find", refuse)
    PreTokenizer(PATTERNS["gpt2"], ["<|a|>"]).special.find("x<|a|>" * special_tokens.MANY)
    many = SpecialTokens(MANY_TOKENS)
    assert many.find("x" + MANY_TOKENS[3]) == [(1, 1 + len(MANY_TOKENS[3]))]
    with pytest.raises(AssertionError):
        many.find("x" * special_tokens.MANY)


def test_what_may_be_the_beginning_of_a_token_is_told_by_comparing_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(21)
    for _ in range(count("texts with special tokens")):
        monkeypatch.setattr(special_tokens, "LONG", rng.choice([1, 3, 256]))
        letters = rng.choice(["a", "ab", "aab<é漢"])
        tokens = {"".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(rng.randrange(5))}
        text = "".join(rng.choices(letters, k=rng.randrange(20)))
        beginnings = {token[:n] for token in tokens for n in range(len(token))}
        expected = max((n for n in range(len(text) + 1) if text[len(text) - n :] in beginnings), default=0)
        assert SpecialTokens(tokens).begun(text) == expected, (tokens, text)


def test_a_long_token_that_repeats_itself_is_looked_for_in_linear_time() -> None:
    """Compared one by one, its beginnings are twenty thousand million characters."""
    token = "a" * 200_000 + "b"
    tokens = SpecialTokens([token, "ab"])
    assert tokens.begun("a" * 300_000) == 200_000
    assert tokens.begun("a" * 300_000 + "b") == 0
    assert tokens.begun("b" + "a" * 50_000) == 50_000
