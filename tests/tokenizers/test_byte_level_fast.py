"""The kernels of byte-level BPE give the ids of the readable form, whatever the vocabulary, the text and the caches."""

import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.errors import TokenizerError
from glassformer.kernels import bpe as kernels
from glassformer.kernels import split_text
from glassformer.kernels.unicode_classes import class_table
from glassformer.tokenizers import BPETokenizer, Tokenizer, byte_level, byte_level_fast
from glassformer.tokenizers.bpe import merge
from glassformer.tokenizers.byte_level import decode, encode
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count

BYTES = {byte: bytes([byte]) for byte in range(256)}


@st.composite
def tokenizers(draw: Any) -> BPETokenizer:
    """Merges in any order, or ranks alone, over all bytes or some."""
    tokens = [b"a", b"b", b" ", b"\n", b"\xe6", b"\xbc", b"\xa2", b"1", b"'", b"s"]
    merges: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 14))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if b"".join(pair) not in tokens:
            merges.append(pair)
            tokens.append(b"".join(pair))
    merges = draw(st.permutations(merges))
    vocab = BYTES | {256 + i: left + right for i, (left, right) in enumerate(merges)}
    if draw(st.booleans()):
        del vocab[0xC3]
    pattern = draw(st.sampled_from(list(PATTERNS)))
    has_ranks, whole_pieces = draw(st.booleans()), draw(st.booleans())
    return BPETokenizer(vocab, None if has_ranks else merges, pattern=pattern, whole_pieces=whole_pieces)


PARTS = st.sampled_from(["a", "b", "aab", " ", "\n", "漢", "1", "12", "'s", "ba" * 40, "a" * 70, "ab漢" * 30, "é"])


@settings(max_examples=count("merge tables"), deadline=None)
@given(tokenizers(), st.lists(PARTS, max_size=12).map("".join), st.booleans())
def test_both_forms_encode_alike(tokenizer: BPETokenizer, text: str, goes_on: bool) -> None:
    pieces = tokenizer._pieces
    error, ids, n_characters = None, [], 0
    try:
        ids, n_characters = pieces.encode(text, goes_on)
    except TokenizerError as raised:
        error = str(raised)
    if error is not None:
        with pytest.raises(TokenizerError, match=re.escape(error)):
            encode(text, pieces, goes_on)
        return
    for _ in range(2):  # the second time by the cache
        fast, n = encode(text, pieces, goes_on)
        assert (list(fast), n) == (ids, n_characters)
    assert decode(ids, pieces) == pieces.decode(ids) == text[:n_characters].encode()


def test_any_bytes_are_decoded_and_an_id_without_a_token_is_none() -> None:
    pieces = BPETokenizer(BYTES | {300: b"abc"}, None)._pieces
    for ids in ([], [300, 97, -1, 256, 10**12, 300], [2**70, 98], list(range(256))):
        assert decode(ids, pieces) == pieces.decode(ids)
    for dtype in (np.uint16, np.int32, np.uint64):
        array = np.array([300, 97, 256], dtype)
        assert decode(array, pieces) == pieces.decode(array) == b"abca"


def test_a_small_cache_forgets_and_is_as_right(monkeypatch: pytest.MonkeyPatch, gpt2: Tokenizer) -> None:
    monkeypatch.setattr(byte_level_fast, "CACHED_PIECES", 4)
    rng = random.Random(4)
    words = ["".join(rng.choices("abcdefgh ", k=rng.randrange(1, 40))) for _ in range(40)]
    for n_most in (4, 64, 1 << 20):
        monkeypatch.setattr(byte_level_fast, "MOST_CACHED_PIECES", n_most)
        pieces = BPETokenizer(gpt2.vocab, None)._pieces
        for _ in range(50):
            text = " ".join(rng.choices(words, k=40))
            assert list(encode(text, pieces, False)[0]) == pieces.encode(text, False)[0]


class Data(str):
    """A text whose bytes need not be UTF-8."""

    data: bytes

    def encode(self, *_: str) -> bytes:
        return self.data


def test_long_pieces_of_one_hash_are_told_apart() -> None:
    """Of two words, the second can make up for any difference of the first."""
    rng = random.Random(6)

    def symbols() -> bytes:
        return bytes(rng.choices(range(0x80, 0xC0), k=8))  # none begins a character, and together they are one piece

    def hash_of_first(word: bytes) -> int:
        hash_ = (16 ^ int.from_bytes(word, "little")) * int(kernels.MIX) % 2**64
        return hash_ ^ hash_ >> 32

    first, last = symbols(), symbols()
    pieces = BPETokenizer(BYTES, [])._pieces
    is_one, ends = False, np.empty(99, np.int64)
    while not is_one:
        other = symbols()
        difference = hash_of_first(first) ^ hash_of_first(other)
        other += (int.from_bytes(last, "little") ^ difference).to_bytes(8, "little")
        data, whole = np.frombuffer(other, np.uint8), np.empty(0, np.uint64)
        is_one = split_text.split(data, 0, 16, False, 0, class_table(), whole, ends) == 1
    both = [np.frombuffer(piece, np.uint8) for piece in (first + last, other)]
    assert kernels.hash_bytes(both[0], 0, 16) == kernels.hash_bytes(both[1], 0, 16)
    text = Data()
    text.data = (first + last + b"a" + other + b"a") * 3
    assert bytes(encode(text, pieces, False)[0].tolist()) == text.data


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_pre_token_is_cut_only_where_its_ids_stay(goes_on: bool, gpt2: Tokenizer) -> None:
    """A token over two characters, and one that no merges make, are only what the whole pre-token says."""
    tokens = ["漢字", "字漢", "語", "漢語字"]
    vocab = gpt2.vocab | {50300 + i: token.encode() for i, token in enumerate(tokens)}
    crossing, unmade = BPETokenizer(vocab, None)._pieces, BPETokenizer(BYTES | {999: "語".encode()}, None)._pieces
    rng = random.Random(7)
    for _ in range(100):
        text = " ".join("".join(rng.choices("漢字語日aжが。 ", k=rng.randrange(1, 90))) for _ in range(3))
        for pieces in (crossing, unmade):
            ids, n = encode(text, pieces, goes_on)
            assert (list(ids), n) == pieces.encode(text, goes_on)


def test_pieces_of_one_hash_do_not_make_every_search_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a text knows the hash; each search ends after some slots, and what has none is encoded anew."""
    n_slots = 1 << 12
    monkeypatch.setattr(byte_level_fast, "CACHED_PIECES", n_slots)
    pieces = BPETokenizer(BYTES, [])._pieces
    words = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, (1 << 20, 8), dtype=np.uint8)
    words[:, 0] = ord(" ")
    mixed = words.view(np.uint64)[:, 0] ^ np.uint64((8 << 56) * int(kernels.MIX) % 2**64)
    hashes = (mixed ^ mixed >> kernels.HALF) * kernels.MIX >> kernels.UPPER
    text = words[hashes & np.uint64(n_slots - 1) == 7].tobytes().decode()
    assert len(text) > 8 * 3 * kernels.PROBES
    for _ in range(2):
        assert bytes(encode(text, pieces, False)[0].tolist()).decode() == text  # type: ignore[union-attr]
    [room] = byte_level_fast._tables[pieces].rooms  # type: ignore[union-attr]
    assert room.cache.numbers[kernels.N_KEPT] == kernels.PROBES


def test_what_one_long_text_needed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, n in (("IDS", 30), ("MOST_IDS", 100), ("SYMBOLS", 20), ("MOST_SYMBOLS", 50)):
        monkeypatch.setattr(byte_level_fast, name, n)
    pieces = BPETokenizer(BYTES, [])._pieces
    encode("a" * 1000, pieces, False)
    [room] = byte_level_fast._tables[pieces].rooms  # type: ignore[union-attr]
    assert (len(room.ids), len(room.scratch.symbols)) == (30, 20)
    assert encode("a" * 40, pieces, False)[1] == 40


def test_a_block_that_cannot_be_cut_has_its_ids_in_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """As numbers of Python they take nine times the memory."""
    monkeypatch.setattr(byte_level, "LONGEST", 1_000)
    tokenizer, text = BPETokenizer(BYTES, []), "漢" * 2_001
    for n_characters in (0, byte_level.MANY):
        tokenizer._n_characters = n_characters
        ids = tokenizer._encode_block(text)
        assert isinstance(ids, np.ndarray)
        assert bytes(ids.tolist()) == text.encode()


def test_pieces_longer_than_the_room_for_merges(monkeypatch: pytest.MonkeyPatch, gpt2: Tokenizer) -> None:
    monkeypatch.setattr(byte_level_fast, "SYMBOLS", 60)
    pieces = BPETokenizer(gpt2.vocab, None)._pieces
    rng = random.Random(5)
    for length in (59, 60, 61, 500):
        text = "go " + "".join(rng.choices("abcde", k=length)) + " on and on"
        for goes_on in (False, True):
            expected = pieces.encode(text, goes_on)
            ids, n = encode(text, pieces, goes_on)
            assert (list(ids), n) == expected


def test_threads_have_caches_of_their_own(monkeypatch: pytest.MonkeyPatch, gpt2: Tokenizer, random_texts: Any) -> None:
    monkeypatch.setattr(byte_level, "MANY", 0)
    tokenizer = BPETokenizer(gpt2.vocab, None)
    texts = ["".join(random_texts(60)[i:]) for i in range(60)]
    batch = tokenizer.encode_batch(texts, threads=4)
    with gf.use("readable"):
        assert [ids.tolist() for ids in batch] == [tokenizer.encode(text) for text in texts]
    assert all(ids.dtype == np.int32 for ids in batch)


def test_a_vocabulary_whose_pairs_would_fill_the_memory_is_encoded_without_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in ("MAX_PAIRS", "MAX_CUT_BYTES"):
        monkeypatch.setattr(byte_level_fast, limit, 1)
        pieces = BPETokenizer(BYTES | {256: b"ab", 257: b"abab", 258: b"aba", 259: b"bab"}, None)._pieces
        assert byte_level_fast._tables_of(pieces) is None
        assert encode("ababab", pieces, False)[0] == [257, 256]
        assert decode([256, 97], pieces) == b"aba"
        monkeypatch.undo()


def test_kernels_are_loaded_for_long_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    either = byte_level.encode
    monkeypatch.setattr(byte_level, "encode", lambda *arguments: calls.append(1) or either(*arguments))
    tokenizer = BPETokenizer(BYTES, [])
    for _ in range(100):
        tokenizer.encode("a prompt")
    assert not calls
    tokenizer.encode("a" * byte_level.MANY)
    assert calls


@pytest.mark.parametrize("shape", ["a", " ", "\n", "ab", "漢", "\u200d"])
def test_a_tree_finds_the_first_of_many_merges(shape: str) -> None:
    """The long form of merging, and the short one where there are few symbols, are the textbook's."""
    merges = [(b"a", b"a"), (b"aa", b"a"), (b"a", b"b"), (b"ab", b"ab"), (b" ", b" "), (b"\n", b"\n")]
    merges += [(b"\xe6", b"\xbc"), (b"\xa2", b"\xe6\xbc"), (b"\xe2", b"\x80"), (b"\xe2\x80", b"\x8d")]
    vocab = BYTES | {256 + i: left + right for i, (left, right) in enumerate(merges)}
    pieces = BPETokenizer(vocab, merges)._pieces
    tables = byte_level_fast._tables_of(pieces)
    assert tables is not None
    byte_ranks = tables.vocabulary.byte_ranks
    for n in [*range(1, 40), 63, 64, 65, 170, 171, 511, 512, 513]:  # eight below a node
        data = np.frombuffer((shape * n).encode(), np.uint8).astype(np.int32)
        scratch = byte_level_fast._scratch(len(data))
        scratch.symbols[:] = symbols = data.copy()
        scratch.ranks[:-1] = byte_ranks[256 * data[:-1] + data[1:]]
        ranks = scratch.ranks.copy()
        n_long = kernels.merge_long(len(data), tables.vocabulary, scratch)
        expected = merge(data.tolist(), pieces.table)
        assert scratch.symbols[:n_long].tolist() == expected
        if len(data) < 64:
            n_short = kernels.merge_short(len(data), tables.vocabulary, symbols, ranks)
            assert symbols[:n_short].tolist() == expected
