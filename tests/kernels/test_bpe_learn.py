"""The kernel that learns merges does what the readable form does, whatever the words, and however it is interrupted."""

import lzma
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.kernels import bpe_learn
from glassformer.tokenizers import bpe_learn_fast, counting_fast
from glassformer.tokenizers.bpe import learn
from glassformer.tokenizers.bpe_learn_fast import learn_by_kernel, learn_in_python
from glassformer.tokenizers.corpus import files_of, shares_of
from glassformer.tokenizers.pre_token_counts import PreTokenCounts
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count

END = "<|endoftext|>"
FULL_OF_TIES = st.dictionaries(
    st.one_of(
        st.binary(max_size=6),
        st.text("ab", max_size=40).map(str.encode),
        st.text("a", max_size=20).map(str.encode),
        st.text("the ca'é漢", max_size=12).map(str.encode),
        st.tuples(st.sampled_from([b"ab", b"aab", b"ba"]), st.integers(0, 20)).map(lambda word: word[0] * word[1]),
    ),
    st.integers(1, 3),
    max_size=24,
)


def in_steps(counts: PreTokenCounts, limit: int) -> list[tuple[int, int]]:
    """One merge a call, and the places that are stale dropped after each."""
    learning = bpe_learn.begin(counts.text, counts.ends, counts.counts, limit)
    merges: list[tuple[int, int]] = []
    while len(merges) < limit:
        row = np.empty((1, 2), np.int32)
        n, is_full = bpe_learn.learn(learning, row, 1)
        merges += map(tuple, row[:n].tolist())
        bpe_learn.drop_stale(learning)
        if is_full:
            learning = bpe_learn.more_room(learning)
        elif n == 0:
            break
    return merges


@settings(max_examples=count("word sets full of ties"))
@given(FULL_OF_TIES, st.integers(0, 60))
def test_the_kernel_learns_what_the_readable_form_learns(words: dict[bytes, int], limit: int) -> None:
    with gf.use("readable"):
        expected = list(learn(words, limit))
    counts = PreTokenCounts.of(words)
    assert dict(counts) == words
    assert list(learn_by_kernel(counts, limit)) == expected
    assert in_steps(counts, limit) == expected
    assert list(islice(learn_by_kernel(counts, limit), 3)) == expected[:3]


@pytest.fixture(scope="module")
def english(data_dir: Path) -> Mapping[bytes, int]:
    """The words of the course's corpus."""
    words: dict[bytes, int] = {}
    for word in regex.findall(PATTERNS["gpt2"], (data_dir / "text" / "cs336-corpus.en").read_text("utf-8")):
        words[word.encode()] = words.get(word.encode(), 0) + 1
    return words


def test_english_is_learnt_to_its_last_merge_and_counts_are_exact(english: Mapping[bytes, int]) -> None:
    """Many more pairs than there is room for at first, and times and again more places than the array has."""
    expected = list(learn_in_python(english, 1 << 20))
    counts = PreTokenCounts.of(english)
    assert list(learn_by_kernel(counts, 1 << 20)) == expected
    assert len(expected) > 8_000
    large = PreTokenCounts(counts.text, counts.ends, counts.counts * 10**12)
    assert list(learn_by_kernel(large, 1_000)) == expected[:1_000]


@pytest.mark.timeout(7200)
def test_every_corpus_is_counted_and_learnt_as_in_python(data_dir: Path, tmp_path: Path) -> None:
    """The pre-tokens by a kernel and by `regex`, the merges by a kernel and in Python, the first by definition too."""
    size, limit = count("bytes of a corpus to learn from"), count("merges of a corpus")
    for path in sorted((data_dir / "text").iterdir()):
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            text = file.read(size).decode(errors="ignore")
        corpus = tmp_path / "corpus.txt"
        corpus.write_text(text, "utf-8", newline="")
        *_, counts = counting_fast.count_shares(shares_of(files_of(corpus), 2, [END.encode()]), "gpt2", [END])
        expected = Counter(part for document in text.split(END) for part in regex.findall(PATTERNS["gpt2"], document))
        assert dict(counts) == {word.encode(): n for word, n in expected.items()}, path.name
        merges = list(learn_in_python(counts, limit))
        assert list(learn_by_kernel(counts, limit)) == merges, path.name
        with gf.use("readable"):
            assert list(learn(counts, 5)) == merges[:5], path.name


def test_no_call_of_the_kernel_works_on_without_end(
    english: Mapping[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def learn_and_tell(*arguments: object) -> tuple[int, bool]:
        calls.append(arguments)
        n, is_full = bpe_learn_learn(*arguments)
        return n, is_full

    bpe_learn_learn = bpe_learn.learn
    monkeypatch.setattr(bpe_learn, "learn", learn_and_tell)
    monkeypatch.setattr(bpe_learn_fast, "PLACES", 1 << 10)
    assert len(list(learn_by_kernel(PreTokenCounts.of(english), 500))) == 500
    assert len(calls) > 20


def test_an_endless_word_is_learnt_as_any_other() -> None:
    words = {b"a" * (1 << 17): 1, b"ab" * (1 << 16): 3}
    assert list(learn_by_kernel(PreTokenCounts.of(words), 60)) == list(learn_in_python(words, 60))


def test_few_words_are_learnt_in_python_and_many_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_learn_fast, "learn_by_kernel", lambda *_: iter([(0, 0)]))
    assert list(learn({b"ab": 1}, 1)) == [(97, 98)]
    assert list(learn({b"ab" * bpe_learn_fast.MANY_BYTES: 1}, 1)) == [(0, 0)]


def test_without_numba_many_words_are_learnt_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_learn_fast, "MANY_BYTES", 1)
    monkeypatch.setitem(sys.modules, "glassformer.kernels.bpe_learn", None)
    monkeypatch.delattr("glassformer.kernels.bpe_learn")
    assert list(learn({b"hug": 10, b"pug": 5, b"hugs": 5}, 2)) == [(117, 103), (104, 256)]
