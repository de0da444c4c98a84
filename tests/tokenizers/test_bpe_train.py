"""Learning BPE: equal to the textbook, and fast where the course asks for it."""

import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import DataError, TokenizerError
from glassformer.tokenizers import Tokenizer, train_bpe
from glassformer.tokenizers.bpe_train import learn_merges
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count

END = "<|endoftext|>"


def textbook(data: bytes, vocab_size: int, special_tokens: list[str]) -> list[tuple[bytes, bytes]]:
    """Sennrich's algorithm as a page of a textbook has it: count all pairs anew for every merge."""
    text = data.decode(errors="replace")
    walls = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
    words = Counter()
    for part in re.split(walls, text) if walls else [text]:
        words.update(tuple(bytes([byte]) for byte in match.encode()) for match in regex.findall(PATTERNS["gpt2"], part))
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) + 256 + len(special_tokens) < vocab_size:
        pairs = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        merged = Counter()
        for word, n in words.items():
            new, i = [], 0
            while i < len(word):
                step = 2 if word[i : i + 2] == best else 1
                new.append(b"".join(word[i : i + step]))
                i += step
            merged[tuple(new)] += n
        words = merged
    return merges


def learnt(path: Path, data: bytes, vocab_size: int, special_tokens=(), **options) -> list[tuple[bytes, bytes]]:
    path.write_bytes(data)
    vocab, merges = train_bpe(path, vocab_size, list(special_tokens), **options)
    assert list(vocab) == list(range(len(vocab)))
    assert set(vocab.values()) == (
        {bytes([byte]) for byte in range(256)} | {a + b for a, b in merges} | {s.encode() for s in special_tokens}
    )
    return merges


CORPORA = st.one_of(
    st.text(st.sampled_from("aab \n"), min_size=1, max_size=120).map(str.encode),
    st.text(st.sampled_from("the cat's hat, é漢\r\n"), min_size=1, max_size=80).map(str.encode),
    st.text(min_size=1, max_size=40).map(lambda text: text.encode(errors="replace")),
    st.lists(st.sampled_from(["ab", "aaaa", END, END[:4], " x"]), min_size=1).map(
        lambda parts: "".join(parts).encode()
    ),
)


@settings(max_examples=count("corpora against the textbook"))
@given(CORPORA, st.integers(0, 40))
def test_training_is_the_textbook_algorithm(tmp_path_factory, data, n_merges):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    expected = textbook(data, 257 + n_merges, [END])
    assert learnt(path, data, 257 + n_merges, [END]) == expected


def test_training_on_real_english_is_the_textbook_algorithm(data_dir):
    path = data_dir / "text" / "cs336-corpus.en"
    data = path.read_bytes()[:30_000]
    words = Counter(regex.findall(PATTERNS["gpt2"], data.decode()))
    merges = learn_merges({word.encode(): n for word, n in words.items()}, 60)
    assert merges == textbook(data, 256 + 60, [])


def test_of_equal_pairs_the_greater_bytes_are_merged_first(tmp_path):
    assert learnt(tmp_path / "c", b"ab cd \xc3\xa9x", 257) == [(b"\xc3", b"\xa9")]
    # The pair is compared, not its concatenation, and a longer token is greater than its beginning.
    words = {b"AB": 1, b"A": 9, b"BA": 1}
    assert learn_merges(words, 1) == [(b"B", b"A")]
    assert learn_merges({b"abc": 5, b"cabx": 2, b"cax": 2}, 2)[1] == (b"ab", b"c")
    # From the public description of the course: ("A","B"), ("A","C"), ("B","ZZ"), ("BA","A") → the last.
    tied = {b"BAA": 3, b"BA": 2, b"ZZ": 6, b"BZZ": 3}
    assert learn_merges(tied, 3) == [(b"Z", b"Z"), (b"B", b"A"), (b"BA", b"A")]


def test_runs_are_merged_from_the_left_without_overlap(tmp_path):
    assert learnt(tmp_path / "c", b"aaaaa", 300) == [(b"a", b"a"), (b"aa", b"aa"), (b"aaaa", b"a")]


def test_special_tokens_are_walls_and_nothing_is_learnt_from_them(tmp_path):
    data = (END * 50 + "ab" + END + "cd<|end").encode()
    merges = learnt(tmp_path / "c", data, 400, [END])
    assert (b"b", b"c") not in merges
    assert (b"o", b"f") not in merges
    assert merges == textbook(data, 400, [END])


def test_the_longest_special_token_is_cut_out_first(tmp_path):
    assert learnt(tmp_path / "c", (END + END).encode() + b"xy", 400, [END, END + END]) == [(b"x", b"y")]


def test_training_stops_when_no_pair_is_left(tmp_path):
    assert learnt(tmp_path / "c", b"ab ab", 10_000) == [(b"a", b"b"), (b" ", b"ab")]


def test_no_room_for_merges_gives_no_merges(tmp_path):
    assert learnt(tmp_path / "c", b"abab", 257, [END]) == []


def test_carriage_returns_survive(tmp_path):
    assert learnt(tmp_path / "c", b"\r\n\r\n\r\n", 258)[0] == (b"\r", b"\n")


def test_a_special_token_of_one_byte_keeps_the_id_of_that_byte(tmp_path):
    (tmp_path / "c").write_text("xabxab")
    tokenizer = Tokenizer.train(tmp_path / "c", 300, ["x"])
    assert tokenizer.special_tokens == {"x": 120}
    assert tokenizer.decode(tokenizer.encode("xab")) == "xab"


def test_progress_is_told(tmp_path):
    (tmp_path / "c").write_bytes(b"Once upon a time there was 1 cat's hat. " * 40)
    seen = []
    train_bpe(tmp_path / "c", 500, [], progress=lambda *step: seen.append(step))
    size = (tmp_path / "c").stat().st_size
    assert ("counting", size, size) in seen
    assert seen[-1][0] == "merging"
    assert seen[-1][1] == seen[-1][2]


def test_the_course_corpus_trains_well_within_its_limit(data_dir):
    start = time.perf_counter()
    vocab, merges = train_bpe(data_dir / "text" / "cs336-corpus.en", 500, [END])
    assert time.perf_counter() - start < 1.5, "0.1 s on a quiet machine"
    assert (len(vocab), len(merges)) == (500, 243)


@pytest.mark.parametrize("vocab_size", [-1, 0, 256, 2**40])
def test_an_impossible_vocab_size_is_refused_before_reading(vocab_size):
    with pytest.raises(TokenizerError, match="vocab_size"):
        train_bpe("nowhere", vocab_size, [END])


def test_missing_empty_and_odd_files_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    for files in (tmp_path / "nowhere", tmp_path, tmp_path / "empty", []):
        with pytest.raises(DataError):
            train_bpe(files, 300)
    (tmp_path / "c").write_text("text")
    with pytest.raises(TokenizerError, match="no split pattern"):
        train_bpe(tmp_path / "c", 300, pattern="(a+)+$")
    with pytest.raises(TokenizerError, match="workers"):
        train_bpe(tmp_path / "c", 300, workers=0)
