"""Splitting: patterns that cover any text, special tokens as walls, and chunks that may be cut anywhere."""

import random
from itertools import product

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers.pretokenize import BLOCK, PATTERNS, UNDECIDED, PreTokenizer, split_pattern
from support.counts import count

# One character of every class that a pattern tells apart, and the letters of a contraction.
CLASSES = "aB漢\u0301'lve1 \n\t.\u00a0/"
SPECIALS = ["<|e|>", "<|e|><|e|>", "<|", "e|"]


def flat(pretokenizer: PreTokenizer, chunks: list[str]) -> list[str]:
    return [
        part for pieces, token in pretokenizer.stream(chunks) for part in (*pieces, *([] if token is None else [token]))
    ]


@pytest.mark.parametrize("name", PATTERNS)
def test_pre_tokens_joined_are_the_text(name):
    pretokenizer = PreTokenizer(PATTERNS[name])
    text = "".join(chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000)
    assert "".join(pretokenizer.split(text)) == text


@pytest.mark.parametrize("name", PATTERNS)
def test_a_text_that_goes_on_changes_only_its_last_two_pre_tokens(name):
    split = PreTokenizer(PATTERNS[name]).split
    rng = random.Random(0)
    texts = ["".join(text) for text in product("a'l B\n.漢", repeat=4)]
    texts += ["".join(rng.choices(CLASSES, k=8)) for _ in range(3_000)]
    for text in texts:
        whole = split(text)
        for cut in range(1, len(text)):
            decided = split(text[:cut])[:-UNDECIDED]
            assert whole[: len(decided)] == decided, (text, cut)


@pytest.mark.parametrize("specials", [[], ["<|endoftext|>"], SPECIALS])
def test_no_line_is_asked_for_before_what_is_decided_has_been_given(specials):
    """With each id that comes, all that was read is out but two pre-tokens, and what may be a special token."""
    lines = ["one two three four\n", "<|endof\n", "five six\n", "<|endoftext|>seven\n", "eight <\n"] * 3
    read: list[str] = []

    def chunks():
        for line in lines:
            read.append(line)
            yield line

    pretokenizer = PreTokenizer(PATTERNS["gpt2"], specials)
    n_characters = 0
    for pre_tokens, token in pretokenizer.stream(chunks()):
        n_characters += sum(map(len, pre_tokens)) + len(token or "")
        left = "".join(read)[n_characters:]
        assert token or len(pretokenizer.split(left)) <= UNDECIDED + 2  # a piece of a special token splits in two
    assert n_characters == len("".join(lines))


@pytest.mark.parametrize("name", PATTERNS)
def test_chunks_can_be_cut_anywhere(name):
    pretokenizer = PreTokenizer(PATTERNS[name], SPECIALS)
    rng = random.Random(1)
    for _ in range(count("chunkings") * 10):
        text = "".join(rng.choice([*CLASSES, *SPECIALS, "<", "|", "e", ">"]) for _ in range(rng.randrange(40)))
        cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(8)))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert flat(pretokenizer, chunks) == flat(pretokenizer, [text]), (text, chunks)


def test_special_tokens_are_never_split_and_the_longest_wins():
    pretokenizer = PreTokenizer(PATTERNS["gpt2"], SPECIALS)
    assert flat(pretokenizer, ["a<|e|><|e|><|e|>b"]) == ["a", "<|e|><|e|>", "<|e|>", "b"]


def test_special_tokens_are_not_patterns():
    assert flat(PreTokenizer(PATTERNS["gpt2"], [".*"]), ["ab.*cd"]) == ["ab", ".*", "cd"]


def test_white_space_before_a_special_token_is_at_the_end_of_its_text():
    assert flat(PreTokenizer(PATTERNS["gpt2"], ["<|e|>"]), ["a\n\n<|e|>\n\nb"]) == [
        "a",
        "\n\n",
        "<|e|>",
        "\n",
        "\n",
        "b",
    ]


def test_a_long_pre_token_is_scanned_only_when_it_has_doubled():
    class Counting(PreTokenizer):
        scanned = 0

        def split(self, text: str) -> list[str]:
            self.scanned += len(text)
            return super().split(text)

    pretokenizer = Counting(PATTERNS["gpt2"])
    n = 32 * BLOCK
    assert flat(pretokenizer, ["a" * 1000] * (n // 1000)) == ["a" * (n // 1000 * 1000)]
    assert pretokenizer.scanned < 4 * n


def test_a_stream_keeps_no_more_than_a_block():
    def chunks():
        for i in range(200):
            yield "some words, " * 1000
            taken.append(i)

    taken: list[int] = []
    first = next(iter(PreTokenizer(PATTERNS["gpt2"]).stream(chunks())))
    assert first[0]
    assert len(taken) * 12_000 <= 2 * BLOCK


def test_of_a_long_chunk_no_more_than_a_block_is_taken_at_once():
    """What is made of a text is as large as the text, and blocks of memory of many sizes leave holes behind."""
    longest = 0

    def make(text: str, goes_on: bool) -> tuple[int, int]:
        nonlocal longest
        longest = max(longest, len(text))
        return 0, len(text) - 9 if goes_on else len(text)

    for _ in PreTokenizer(PATTERNS["gpt2"]).each(["some words, " * (BLOCK // 2), "and more"], make):
        pass
    assert longest == BLOCK + 9


def test_surrogates_are_joined_and_become_replacement_characters_where_they_are_alone():
    split = PreTokenizer(PATTERNS["gpt2"])
    for chunks in (["a\ud83d\ude00b"], ["a\ud83d", "\ude00b"], ["a", "\ud83d", "", "\ude00", "b"]):
        assert flat(split, chunks) == ["a", "😀", "b"]
    assert flat(split, ["a\ude00", "\ud83db"]) == ["a", "\ufffd\ufffd", "b"]
    assert flat(split, ["a\ud83d"]) == ["a", "\ufffd"]


def test_an_unknown_pattern_is_refused():
    with pytest.raises(TokenizerError, match="no split pattern"):
        split_pattern("(a+)+$")
