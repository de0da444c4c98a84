"""subword-nmt's BPE against the algorithm as its paper prints it, and against pieces that a real model was fed with."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers.subword import SPECIAL, SubwordTokenizer, read_codes, read_dictionary
from support.counts import count

Merges = list[tuple[str, str]]


def textbook(word: str, merges: Merges) -> list[str]:
    """Sennrich et al. 2016, §3.2: of the pairs in the word, all occurrences of the one learned first are merged."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = set(pairwise(symbols))
        found = [merge for merge in merges if merge in pairs]
        if not found:
            break
        left, right = found[0]
        merged, i = [], 0
        while i < len(symbols):
            pair = tuple(symbols[i : i + 2]) == (left, right)
            merged.append(left + right if pair else symbols[i])
            i += 2 if pair else 1
        symbols = merged
    return [*(symbol + "@@" for symbol in symbols[:-1]), symbols[-1].removesuffix("</w>")]


def learned(words: list[str], n_merges: int) -> Merges:
    """The paper's algorithm 1: the most frequent pair becomes a symbol, again and again."""
    corpus = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: Merges = []
    for _ in range(n_merges):
        counts: dict[tuple[str, str], int] = {}
        for symbols in corpus:
            for pair in pairwise(symbols):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        left, right = best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for symbols in corpus:
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = [left + right]
                i += 1
    return merges


def test_pieces_are_those_of_the_textbook() -> None:
    for seed in range(count("subword-nmt corpora against the textbook")):
        choose = random.Random(seed)
        words = ["".join(choose.choices("abcé߫", k=choose.randint(1, 8))) for _ in range(20)]
        merges = learned(words, choose.randint(0, 40))
        tokenizer = SubwordTokenizer(merges, SPECIAL)
        new = ["".join(choose.choices("abcé߫xy", k=choose.randint(1, 12))) for _ in range(20)]
        for word in [*words, *new, "ab" * 100, "a" * 300]:
            assert tokenizer.segment(word) == textbook(word, merges)


def test_of_a_merge_that_is_listed_twice_the_first_counts() -> None:
    merges = [("a", "b"), ("b", "c"), ("a", "b")]
    assert SubwordTokenizer(merges, SPECIAL).segment("abcd") == ["ab@@", "c@@", "d"]


@pytest.fixture
def tokenizer() -> SubwordTokenizer:
    tokens = [*SPECIAL, "low", "lo@@", "w", "e@@", "r", "l@@", "o@@", "w@@"]
    return SubwordTokenizer([("l", "o"), ("lo", "w</w>")], tokens)


def test_words_are_joined_by_spaces_and_pieces_by_nothing(tokenizer: SubwordTokenizer) -> None:
    ids = tokenizer.encode("  low lower \n low ")
    assert [tokenizer.tokens[id] for id in ids] == ["low", "lo@@", "w@@", "e@@", "r", "low"]
    assert tokenizer.decode(ids) == "low lower low"
    stream = tokenizer.stream()
    assert [stream.push(id) for id in ids] == ["low", " lo", "w", "e", "r", " low"]


def test_what_the_dictionary_lacks_is_unknown(tokenizer: SubwordTokenizer) -> None:
    assert tokenizer.encode("low ? low") == [4, 3, 4]
    assert tokenizer.decode([4, 3, 4]) == "low <unk> low"


def test_special_tokens_are_fairseqs(tokenizer: SubwordTokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, 2, 12)
    assert tokenizer.encode("low</s>") == [4, 2]
    assert tokenizer.decode([2, 4, 2]) == "</s>low </s>"


def test_a_text_in_chunks_is_the_text(tokenizer: SubwordTokenizer) -> None:
    text = "low lower wer " * 20
    for size in (1, 2, 7):
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)


# Files


def test_the_pieces_and_texts_of_a_real_model(data_dir: Path) -> None:
    folder = data_dir / "seq2seq"
    codes = read_codes(folder / "bpe.code")
    source = SubwordTokenizer(codes, read_dictionary(folder / "dict.roman.txt"))
    target = SubwordTokenizer(codes, read_dictionary(folder / "dict.nqo.txt"))
    assert (len(codes), source.vocab_size, target.vocab_size) == (1000, 776, 832)
    reference = json.loads((folder / "latin2nqo_001.35.reference.json").read_text())
    for example in reference["examples"]:
        ids = source.encode(example["input"])
        assert [source.tokens[id] for id in ids] == example["source_pieces"]
        assert [*ids, source.eos_id] == example["source_ids"]
        assert target.decode(example["greedy_ids"][:-1]) == example["output"]
        assert target.encode(example["output"]) == example["greedy_ids"][:-1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected '#version: 0.2' in the first line, not ''"),
        (b"#version: 0.1\na b\n", "expected '#version: 0.2' in the first line, not '#version: 0.1'"),
        (b"#version: 0.2\na b\nc\n", "expected two symbols in line 3, not 'c'"),
        (b"#version: 0.2\na  b\n", "expected two symbols in line 2"),
        (b"#version: 0.2\na b c\n", "expected two symbols in line 2"),
        (b"#version: 0.2\n\xff b\n", "is not UTF-8 text"),
    ],
)
def test_a_file_of_codes_that_is_broken_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bpe.code"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=says):
        read_codes(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected a token and its count in line 1, not ''"),
        (b"a 3\nb\n", "expected a token and its count in line 2, not 'b'"),
        (b"a x\n", "expected a token and its count in line 1, not 'a x'"),
        (b"a 3\na 4\n", "the token 'a' of line 2 is there already"),
        (b"</s> 4\n", "the token '</s>' of line 1 is there already"),
        (b"\xff 3\n", "is not UTF-8 text"),
    ],
)
def test_a_dictionary_that_is_broken_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "dict.en.txt"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=says):
        read_dictionary(path)


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "codes").write_bytes(b"#version: 0.2\r\na b\r\n")
    (tmp_path / "dict.txt").write_bytes(b"ab 3\r\na@@ 2\r\n")
    assert read_codes(tmp_path / "codes") == [("a", "b")]
    assert read_dictionary(tmp_path / "dict.txt") == [*SPECIAL, "ab", "a@@"]


@pytest.mark.parametrize("tokens", [["<s>"], [*SPECIAL, "a", "a"], ["a", *SPECIAL]], ids=str)
def test_tokens_without_the_special_ones_or_with_doubles_are_refused(tokens: list[str]) -> None:
    with pytest.raises(TokenizerError, match="begin with <s>, <pad>, </s>, <unk>, and no doubles"):
        SubwordTokenizer([], tokens)
