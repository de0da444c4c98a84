"""Encoding and decoding with byte-level BPE: equal to its definition, to tiktoken, and to itself in chunks."""

import io
import json
import lzma
import pickle
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import IO, cast

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.errors import TokenizerError
from glassformer.tokenizers import BPETokenizer, Tokenizer, byte_level
from glassformer.tokenizers.bpe import merge
from glassformer.tokenizers.bpe_fast import LONG
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count

BYTES = {byte: bytes([byte]) for byte in range(256)}
END = "<|endoftext|>"
PUBLISHED = ["gpt2", "cl100k_base", "o200k_base"]


@pytest.fixture(autouse=True)
def kernels_from_the_first_character_on(monkeypatch):
    """As for long texts; test_byte_level_fast.py compares the kernels with the readable form."""
    monkeypatch.setattr(byte_level, "MANY", 0)


def with_merges(*merges: tuple[bytes, bytes], special_tokens=(), pattern="gpt2") -> BPETokenizer:
    made = dict.fromkeys(left + right for left, right in merges)
    vocab = BYTES | {256 + i: token for i, token in enumerate(made)}
    return BPETokenizer(vocab, list(merges), special_tokens, pattern)


def textbook_merge(tokens: list[bytes], merges: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Merge the pair that was learnt first, the leftmost, until there is none."""
    while True:
        ranked = [(merges.index(pair), i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
        if not ranked:
            return tokens
        _, i = min(ranked)
        tokens = [*tokens[:i], tokens[i] + tokens[i + 1], *tokens[i + 2 :]]


@st.composite
def merge_lists(draw):
    """Merges that need not come from training: also in an order that no corpus gives."""
    tokens = [b"a", b"b"]
    merges = []
    for _ in range(draw(st.integers(1, 8))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if pair not in merges and len(b"".join(pair)) < 20:
            merges.append(pair)
            tokens.append(b"".join(pair))
    return draw(st.permutations(merges))


@settings(max_examples=count("tokenizer round trips"))
@given(
    merge_lists(), st.one_of(st.text("ab", max_size=40), st.text("ab", min_size=2, max_size=3).map(lambda t: t * 90))
)
def test_encoding_merges_the_earliest_learnt_pair_first(merges, text):
    tokenizer = with_merges(*merges)
    expected = textbook_merge([bytes([byte]) for byte in text.encode()], merges)
    assert [tokenizer.token_bytes(id) for id in tokenizer.encode(text)] == expected


@pytest.mark.parametrize("text", ["a" * 2 * LONG, "ab" * LONG, "abc" * LONG, "😀" * LONG, "aab" * LONG + "ba" * LONG])
def test_short_and_long_pieces_are_merged_alike(text):
    merges = [
        (b"a", b"b"),
        (b"a", b"a"),
        (b"aa", b"aa"),
        (b"ab", b"ab"),
        (b"b", b"aa"),
        (b"\xf0", b"\x9f"),
        (b"aa", b"ab"),
    ]
    tokenizer = with_merges(*merges)
    expected = textbook_merge([bytes([byte]) for byte in text.encode()], merges)
    assert [tokenizer.token_bytes(id) for id in tokenizer.encode(text)] == expected


def test_long_pieces_without_repeats_are_merged_by_the_definition():
    rng = random.Random(6)
    for _ in range(count("chunkings")):
        tokens = [b"a", b"b", b"c"]
        merges: list[tuple[bytes, bytes]] = []
        while len(merges) < 12:
            pair = (rng.choice(tokens), rng.choice(tokens))
            if pair not in merges and pair[0] + pair[1] not in tokens:
                merges.append(pair)
                tokens.append(pair[0] + pair[1])
        rng.shuffle(merges)
        text = "".join(rng.choices("abc", k=2 * LONG))
        tokenizer = with_merges(*merges)
        expected = textbook_merge([bytes([byte]) for byte in text.encode()], merges)
        assert [tokenizer.token_bytes(id) for id in tokenizer.encode(text)] == expected


def test_a_pre_token_in_a_rank_vocabulary_is_itself_even_where_no_merges_lead_there():
    vocab = BYTES | {256: b"abcd"}
    assert BPETokenizer(vocab, None).encode("abcd") == [256]
    assert BPETokenizer(vocab, None, whole_pieces=False).encode("abcd") == list(b"abcd")


class Counting(dict):
    """A dictionary that counts how often something is looked up."""

    looked_up = 0

    def get(self, *args):
        self.looked_up += 1
        return super().get(*args)

    def __getitem__(self, key):
        self.looked_up += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("text", ["a", "\u200d", " ", "\n", "😀", "ab", "é漢"])
def test_the_work_on_a_long_pre_token_grows_as_its_length(text):
    tokenizer = with_merges(
        (b"a", b"a"), (b"aa", b"aa"), (b"\xe2", b"\x80"), (b" ", b" "), (b"\n", b"\n"), (b"a", b"b")
    )

    def work(n: int) -> int:
        ranks, ids = Counting(tokenizer._table.ranks), Counting(tokenizer._table.ids)
        table = SimpleNamespace(ranks=ranks, ids=ids)
        symbols = [tokenizer._pieces.byte_ids[byte] for byte in (text * n).encode()]
        assert merge(symbols, table) == tokenizer._encode_pre_token(text * n)
        return ranks.looked_up + ids.looked_up

    assert work(20_000) < 2.2 * work(10_000)
    assert work(20_000) < 10 * len((text * 20_000).encode())


def test_a_million_characters_without_a_break_are_encoded():
    tokenizer = with_merges((b"a", b"a"), (b"aa", b"aa"))
    assert tokenizer.encode("a" * 10**6) == [257] * 250_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ranks_encode_random_strings_as_tiktoken_does(name, data_dir, tiktoken_encoding, random_texts):
    ours, theirs = Tokenizer.load(data_dir / "tokenizers" / f"{name}.tiktoken"), tiktoken_encoding(name)
    assert ours.vocab_size == theirs.n_vocab
    assert ours.special_tokens == theirs._special_tokens
    for text in random_texts(count("random strings against tiktoken")):
        assert ours.encode(text) == theirs.encode(text, allowed_special="all"), text
        assert ours.encode(text, allowed_special="none") == theirs.encode_ordinary(text), text


@pytest.mark.parametrize("name", PUBLISHED)
def test_noise_is_encoded_as_tiktoken_does(name, data_dir, tiktoken_encoding):
    ours, theirs = Tokenizer.load(data_dir / "tokenizers" / f"{name}.tiktoken"), tiktoken_encoding(name)
    rng = random.Random(8)
    for _ in range(count("random strings against tiktoken") // 5):
        text = rng.randbytes(rng.randrange(60)).decode(errors="replace")
        halves = "".join(rng.choices(["\ud83d", "\udc4d", "\udfff", "a", " ", "\n"], k=rng.randrange(8)))
        text = "".join(rng.sample([text, halves, text[:5]], k=3))
        ids = ours.encode(text)
        assert ids == theirs.encode(text, allowed_special="all"), text
        assert ours.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_halves_of_a_surrogate_pair_are_one_character_as_to_tiktoken(data_dir, tiktoken_encoding):
    ours = Tokenizer.load(data_dir / "tokenizers" / "cl100k_base.tiktoken")
    assert ours.encode("\ud83d\udc4d") == [9468, 239, 235]
    for text in ("\ud83d\udc4d", "a\ud83d b\udc4d", "\udc4d\ud83d", "x\ud83d\udc4d\ud83d"):
        assert ours.encode(text) == tiktoken_encoding("cl100k_base").encode(text)


@pytest.mark.timeout(3600)  # the whole texts take minutes, with every call checked
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ranks_encode_real_texts_as_tiktoken_does(name, data_dir, tiktoken_encoding):
    ours, theirs = Tokenizer.load(data_dir / "tokenizers" / f"{name}.tiktoken"), tiktoken_encoding(name)
    for path in sorted((data_dir / "text").iterdir()):
        for text in parts_of(path, count("characters of a parity text"), count("parts of a parity text")):
            ids = ours.encode(text)
            assert ids == theirs.encode(text, allowed_special="all"), path.name
            assert ours.decode(ids) == text


def parts_of(path: Path, n_characters: int, n_parts: int) -> Iterator[str]:
    """The first parts of a corpus."""
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as packed:
        file = io.TextIOWrapper(cast(IO[bytes], packed), encoding="utf-8", errors="replace", newline="")
        for _ in range(n_parts):
            if not (text := file.read(n_characters)):
                break
            yield text


SHAPES = ["a", " ", "\n", "7", "'", "!", "漢", "\u0301", "\u200d", "😀", "👩\u200d👩\u200d👧", "ab", "\r\n", "\u3000"]


@pytest.mark.parametrize("shape", SHAPES)
def test_many_characters_without_a_break_are_encoded_as_their_definition_says(shape, gpt2):
    """What is merged within a long run is what is merged at its beginning, and decodes to the run."""
    n = count("characters without a break") // len(shape)
    ids = gpt2.encode(shape * n)
    assert gpt2.decode(ids) == shape * n
    short = 300 // len(shape)
    assert gpt2.encode(shape * short) == list(gpt2._pieces.encode(shape * short, False)[0])


@pytest.mark.parametrize("name", [*PUBLISHED, "llama2", "tok512"])
def test_published_vocabularies_give_the_reference_ids(name, data_dir):
    files = {"llama2": "tokenizers/llama2-tokenizer.model", "tok512": "llama/tok512.model"}
    tokenizer = Tokenizer.load(data_dir / files.get(name, f"tokenizers/{name}.tiktoken"))
    for text, ids in json.loads((data_dir / "tokenizers/reference.json").read_text())[name]["cases"]:
        assert tokenizer.encode(text) == ids


def test_ranks_and_merges_of_gpt2_are_the_same_tokenizer(data_dir, random_texts):
    folder = data_dir / "tokenizers"
    ranks, merges = Tokenizer.load(folder / "gpt2.tiktoken"), Tokenizer.load(folder / "gpt2-merges.txt")
    assert ranks.vocab == merges.vocab
    assert ranks.special_tokens == merges.special_tokens == {END: 50256}
    for text in random_texts(300):
        assert ranks.encode(text) == merges.encode(text)


# ---- special tokens


def test_special_tokens_that_the_vocabulary_lacks_get_the_next_ids():
    tokenizer = BPETokenizer(BYTES | {256: b"<|a|>"}, [], ["<|b|>", "<|a|>", "<|c|>"])
    assert tokenizer.special_tokens == {"<|b|>": 257, "<|a|>": 256, "<|c|>": 258}


def test_the_longest_special_token_wins():
    tokenizer = BPETokenizer(BYTES, [], [END, END + END])
    assert tokenizer.encode(f"a{END}{END}b{END}") == [97, 257, 98, 256]


def test_undeclared_special_tokens_are_ordinary_text():
    assert BPETokenizer(BYTES, []).encode(END) == list(END.encode())


def test_special_tokens_in_untrusted_text_can_be_text():
    tokenizer = BPETokenizer(BYTES, None, [END, "hello"])
    ids = tokenizer.encode(f"hello{END}", allowed_special="none")
    assert ids == list(f"hello{END}".encode())
    assert list(tokenizer.encode_iterable(["hel", "lo"], allowed_special="none")) == list(b"hello")


@pytest.mark.parametrize("bad", [[""], ["\ud800"], ["x", "x"]])
def test_impossible_special_tokens_are_refused(bad):
    with pytest.raises(TokenizerError):
        BPETokenizer(BYTES, [], bad)


def test_no_token_begins_a_text_by_its_name_alone():
    assert (with_merges().bos_id, with_merges().eos_id) == (None, None)
    assert with_merges(special_tokens=[END]).eos_id == 256
    llama = with_merges(special_tokens=["<|begin_of_text|>", "<|end_of_text|>"], pattern="llama3")
    assert (llama.bos_id, llama.begin_ids, llama.eos_id) == (None, (), 257)
    assert llama.encode("a", special=True) == llama.encode("a")


def test_a_vocabulary_may_lack_bytes_and_names_the_one_that_a_text_needs():
    """The worked example of CS336's handout: eleven tokens, and most letters of no text."""
    tokens = [b" ", b"a", b"c", b"e", b"h", b"t", b"th", b" c", b" a", b"the", b" at"]
    merges = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
    tokenizer = BPETokenizer(dict(enumerate(tokens)), merges)
    assert tokenizer.encode("the cat ate") == [9, 7, 1, 5, 10, 3]
    with pytest.raises(TokenizerError, match="lacks the byte 0xc3, which ' é' needs"):
        tokenizer.encode("the é")
    with pytest.raises(TokenizerError, match="lacks the byte 0x6f"):
        tokenizer.steps("the dog".replace("d", "t"))


# ---- round trips and streams

TOKENIZER = with_merges(
    (b"a", b"b"), (b" ", b"ab"), (b"\xf0", b"\x9f"), (b"\n", b"\n"), special_tokens=[END, END + END]
)
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("ab \n'sl😀<|>\ud83d")), max_size=60)


@settings(max_examples=count("tokenizer round trips"))
@given(st.one_of(TEXTS, st.lists(st.sampled_from(["ab", " ", "\n\n", END, END[:5], "'ll"])).map("".join)))
def test_decoding_gives_the_text_back(text):
    written = regex.sub("[\ud800-\udfff]", "\ufffd", text)
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == written
    assert TOKENIZER.decode(TOKENIZER.encode(text, allowed_special="none")) == written


@settings(max_examples=count("tokenizer round trips"))
@given(st.binary(max_size=60))
def test_any_bytes_can_be_told_by_tokens(data):
    assert TOKENIZER.decode_bytes(list(data)) == data
    assert TOKENIZER.decode(list(data)) == data.decode(errors="replace")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_encoding_in_chunks_is_encoding_the_whole(pattern):
    tokenizer = with_merges(
        *((b"a", b"b"), (b" ", b"ab"), (b"\n", b"\n"), (b"'", b"l"), (b"'l", b"l"), (b" ", b" ")),
        special_tokens=[END, END + END],
        pattern=pattern,
    )
    rng = random.Random(3)
    for _ in range(count("chunkings") * 3):
        text = "".join(
            rng.choice(["ab", " ", "  ", "\n", "'ll", "I'", "l", "12", "漢", END, "<|end", "\ud83d", "A"])
            for _ in range(20)
        )
        cuts = sorted(rng.choices(range(len(text) + 1), k=6))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        whole = tokenizer.encode(text)
        assert list(tokenizer.encode_iterable(chunks)) == whole, (text, chunks)


def test_lines_are_read_no_further_than_the_next_id_needs():
    def lines():
        for n in range(1000):
            read.append(n)
            yield "ab ab\n"

    read: list[int] = []
    tokenizer = BPETokenizer(TOKENIZER.vocab, TOKENIZER.merges, [END])
    for n, _ in zip(range(1, 2000), tokenizer.encode_iterable(lines()), strict=False):
        assert len(read) <= 1 + (n + 2) / 3  # "ab", " ab" and "\n" are an id each, and the last two may change


def test_encode_iterable_takes_chunks_as_it_goes():
    def chunks():
        while True:
            yield "ab " * 10_000

    ids = TOKENIZER.encode_iterable(chunks())
    assert [next(ids) for _ in range(100_000)][-2:] == [257, 257]


def test_the_pieces_of_a_stream_are_the_text():
    rng = random.Random(7)
    parts = [
        *(list(text.encode()) for text in "aé漢😀"),
        [0xF0],
        [0x9F, 0x98],
        [0x80],
        [0xC3],
        [0xED, 0xA0],
        [256, 257],
        [260],
    ]
    for _ in range(count("streams of random ids")):
        ids = [id for part in rng.choices(parts, k=rng.randrange(12)) for id in part]
        stream = TOKENIZER.stream()
        assert "".join([*map(stream.push, ids), stream.finish()]) == TOKENIZER.decode(ids), ids


@settings(max_examples=count("tokenizer round trips"))
@given(st.text(max_size=20))
def test_no_piece_of_a_stream_breaks_a_character(text):
    text = regex.sub("[\ud800-\udfff]", "", text).replace("\ufffd", "")
    stream = TOKENIZER.stream()
    assert all("\ufffd" not in stream.push(byte) for byte in text.encode())
    assert stream.finish() == ""


def test_a_character_cut_short_is_replaced_at_the_end_of_a_stream():
    stream = TOKENIZER.stream()
    assert [stream.push(byte) for byte in "é😀".encode()[:-1]] == ["", "é", "", "", ""]
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize("id", [-1, 10**9, 262])
def test_an_id_without_a_token_decodes_to_nothing(id):
    """A model may have more rows than the vocabulary, and choose one: that is no end of a text."""
    stream = TOKENIZER.stream()
    assert [stream.push(token) for token in (0xC3, id, 0xA9)] == ["", "", "é"]
    assert TOKENIZER.decode([65, id, 66]) == "AB"
    with pytest.raises(TokenizerError, match="no token id"):
        TOKENIZER.token_bytes(id)


# ---- construction


@pytest.mark.parametrize(
    ("vocab", "merges", "says"),
    [
        ({}, [], "empty"),
        ({-1: b"x"} | BYTES, [], "0 to"),
        ({2**40: b"xx"} | BYTES, [], "0 to"),
        (BYTES | {256: b"a"}, [], "no doubles"),
        (BYTES, [(b"a", b"b")], "no ordinary token"),
        (BYTES | {256: b"ab"}, [(b"a", b"b"), (b"a", b"b")], "twice"),
    ],
)
def test_a_broken_vocabulary_is_refused(vocab, merges, says):
    with pytest.raises(TokenizerError, match=says):
        BPETokenizer(vocab, merges)


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("glassformer.tokenizers.piece_cache.CACHED_PRE_TOKENS", 10)
    tokenizer = with_merges()
    with gf.use("readable"):
        for i in range(100):
            tokenizer.encode(f"{i} {'x' * 100}")
    assert 0 < len(tokenizer._cache) <= 10
    assert max(map(len, tokenizer._cache)) <= 64


def test_a_tokenizer_can_go_to_another_process():
    assert pickle.loads(pickle.dumps(TOKENIZER)).encode("ab ab" + END) == TOKENIZER.encode("ab ab" + END)
