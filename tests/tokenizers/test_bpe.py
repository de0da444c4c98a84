"""Byte-pair encoding on integers: the readable form is the published algorithm, and its fast twin does the same."""

from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.errors import TokenizerError
from glassformer.tokenizers import BPETokenizer, Tokenizer, merge_table
from glassformer.tokenizers.bpe import join, learn, merge, merge_steps
from glassformer.tokenizers.bpe_fast import LONG
from glassformer.tokenizers.merge_table import NEVER, MergeTable
from support.counts import count

BYTES = {byte: bytes([byte]) for byte in range(256)}
SENNRICH = {b"low.": 5, b"lower.": 2, b"newest.": 6, b"widest.": 3}  # figure 1, with "." for the end of a word


def table_of(*entries: tuple[int, int, int, int]) -> MergeTable:
    """The table of (left, right, rank, id)."""
    entries = sorted(entries, key=lambda entry: entry[2])
    return MergeTable(
        {(left, right): rank for left, right, rank, _ in entries}, {(left, right): id for left, right, _, id in entries}
    )


# ---- the readable form


def test_the_words_of_the_paper_give_its_first_tokens() -> None:
    with gf.use("readable"):
        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in learn(SENNRICH, 10):
            tokens.append(tokens[left] + tokens[right])
    assert {b"est.", b"low", b"newest."} <= set(tokens)


def test_the_most_frequent_pair_goes_first_and_of_equal_ones_the_greater() -> None:
    with gf.use("readable"):
        assert list(learn({b"abab": 1, b"ab": 1, b"cd": 2}, 3)) == [(97, 98), (99, 100), (256, 256)]
        assert list(learn({b"ab": 1, b"cd": 1}, 1)) == [(99, 100)]
        assert list(learn({b"abc": 5, b"cabx": 2, b"cax": 2}, 2))[1] == (256, 99)


def test_all_occurrences_of_a_pair_are_joined_from_the_left_without_overlap() -> None:
    assert join((1, 1, 1, 2, 1, 1), (1, 1), 9) == (9, 1, 2, 9)
    assert join((), (1, 1), 9) == ()


def test_the_least_rank_goes_first_and_of_equal_ranks_the_leftmost() -> None:
    table = table_of((1, 2, 5, 12), (2, 3, 4, 23), (3, 4, 5, 34))
    assert list(merge_steps([1, 2, 3, 4], table)) == [[1, 2, 3, 4], [1, 23, 4]]
    assert list(merge_steps([1, 2, 2, 3, 4], table))[-1] == [12, 23, 4]
    tied = table_of((1, 2, 0, 12), (2, 1, 0, 21))
    assert list(merge_steps([1, 2, 1, 2], tied))[-1] == [12, 12]
    assert list(merge_steps([2, 1, 2, 1], tied))[-1] == [21, 21]


# ---- its twins


@st.composite
def merge_tables(draw: Any) -> MergeTable:
    """Any table at all: several pairs of one rank, several ways to one id, in an order that no corpus gives."""
    symbol = st.integers(0, 5)
    pairs = draw(st.lists(st.tuples(symbol, symbol), unique=True, max_size=14))
    return table_of(*((left, right, draw(st.integers(0, 6)), draw(symbol)) for left, right in pairs))


SYMBOLS = st.one_of(
    st.lists(st.integers(0, 5), max_size=30),
    st.lists(st.integers(0, 5), min_size=1, max_size=5).map(lambda symbols: symbols * LONG),
    st.lists(st.integers(0, 5), min_size=LONG, max_size=LONG + 60),
)


@settings(max_examples=count("merge tables"), deadline=None)
@given(merge_tables(), SYMBOLS)
def test_both_forms_merge_alike(table: MergeTable, symbols: list[int]) -> None:
    before = list(symbols)
    with gf.use("readable"):
        expected = merge(symbols, table)
    assert merge(symbols, table) == expected
    assert symbols == before
    if len(symbols) < LONG:
        steps = list(merge_steps(symbols, table))
        assert (steps[0], steps[-1]) == (symbols, expected)
        assert all(len(row) == len(after) + 1 for row, after in pairwise(steps))


WORDS = st.dictionaries(
    st.one_of(st.text("ab", max_size=12), st.text("the ca'é", max_size=8)).map(str.encode),
    st.integers(1, 9),
    max_size=12,
)


@settings(max_examples=count("corpora against the textbook"), deadline=None)
@given(WORDS, st.integers(0, 40))
def test_both_forms_learn_alike(words: dict[bytes, int], limit: int) -> None:
    with gf.use("readable"):
        expected = list(learn(words, limit))
    assert list(learn(words, limit)) == expected
    assert list(islice(learn(words, limit), 3)) == expected[:3]


def test_a_tokenizer_is_the_same_in_both_modes(tmp_path: Any) -> None:
    (tmp_path / "corpus").write_text("the cat sat on the mat; naïve 你好，世界。 " * 4)
    fast = Tokenizer.train(tmp_path / "corpus", 320)
    with gf.use("readable"):
        readable = Tokenizer.train(tmp_path / "corpus", 320)
        assert readable.vocab == fast.vocab
        ids = readable.encode("that cat on the 世界")
    assert fast.encode("that cat on the 世界") == ids


# ---- the table


def test_ranks_of_tokens_give_every_pair_that_makes_one_up() -> None:
    ids = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "abx": 5}
    tokens = {id: token for token, id in ids.items()}
    table = MergeTable.from_ranks({"ab": 7, "ba": 7, "aba": 8, "abx": 9}, ids, tokens)
    assert dict(table.ranks) == {(0, 1): 7, (1, 0): 7, (0, 3): 8, (2, 0): 8}  # "abx" is made up of nothing
    assert {pair: table.ids[pair] for pair in table.ranks} == {(0, 1): 2, (1, 0): 3, (0, 3): 4, (2, 0): 4}
    for left in tokens:
        for right in tokens:
            assert table.ranks.get((left, right), NEVER) == dict(table.ranks).get((left, right), NEVER)
    listed = [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")]
    assert list(MergeTable.from_merges(listed, ids).ranks) == list(table.ranks)


@pytest.mark.parametrize("scores", [[7, 7, 8], []])
def test_a_kernel_gets_the_table_as_arrays(scores: list[int]) -> None:
    ids = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4}
    tokens = {id: token for token, id in ids.items()}
    table = MergeTable.from_ranks(dict(zip(("ab", "ba", "aba"), scores, strict=False)), ids, tokens)
    left, right, rank, id = table.arrays()
    assert {column.typecode for column in (left, right, rank, id)} == {"i"}
    assert dict(zip(zip(left, right, strict=True), rank, strict=True)) == dict(table.ranks)
    assert list(id) == [table.ids[pair] for pair in table.ranks]


def test_an_empty_table_merges_nothing() -> None:
    table = MergeTable.from_merges([], {"a": 0})
    assert (dict(table.ranks), merge([3, 3], table), merge([], table)) == ({}, [3, 3], [])


def test_a_vocabulary_whose_list_of_pairs_would_fill_the_memory_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {256 + i: b"%04d" % i * 1000 for i in range(20)}
    with pytest.raises(TokenizerError, match="too long"):
        BPETokenizer(BYTES | long, None).listed_merges()
    monkeypatch.setattr(merge_table, "MAX_PAIRS", 3)
    with pytest.raises(TokenizerError, match="more than 3 pairs"):
        BPETokenizer(BYTES | {256: b"ab", 257: b"abab", 258: b"aba", 259: b"bab"}, None).listed_merges()
