"""The state machines cut text where the patterns do: on characters of all classes, on any bytes, and on real texts."""

import lzma
import random
from itertools import accumulate, product
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.kernels import split as kernels
from glassformer.kernels import split_text
from glassformer.kernels.unicode_classes import class_table
from glassformer.tokenizers.pretokenize import PATTERNS, split
from support.counts import count

# One character of every class, and what patterns name: a contraction's letters in both cases, ſ, and the slash.
CLASSES = ["a", "B", "漢", "\u0301", "1", ".", " ", "\u3000", "\n", "\r", "/", "'", "s", "L", "ſ", "ǅ", "\ufffd", "😀"]
WORDS = [*CLASSES, "'s", "'LL", "'Ve", "x'ſ", "'re", "don't", "  ", "\r\n", "\n\n", "\t", "123", "4567", "٣٤", "Ⅷ", "²"]
WORDS += [
    "ABc",
    "漢字",
    "aBC",
    "e\u0301",
    "\u0301\u0301",
    "//",
    "...\n",
    "한국",
    "ไทย",
    "हिन्दी",
    "עב",
    "ʰ",
    "\x1c",
    "\x85",
]


def ends(data: bytes, name: str) -> list[int]:
    """Where pre-tokens end, by the kernel."""
    places = np.empty(len(data) + split_text.MORE_ENDS, np.int64)
    code, no_neighbours = kernels.CODES[name], np.empty(0, np.uint64)
    n = split_text.split(np.frombuffer(data, np.uint8), 0, len(data), False, code, class_table(), no_neighbours, places)
    return places[:n].tolist()


def expected(data: bytes, name: str) -> list[int]:
    """The same by `regex`; a byte that belongs to no character is one, of no class, as a surrogate is."""
    pieces = regex.findall(PATTERNS[name], data.decode(errors="surrogateescape"))
    return list(accumulate(len(piece.encode(errors="surrogateescape")) for piece in pieces))


def test_every_pattern_has_a_state_machine() -> None:
    assert set(kernels.CODES) == set(PATTERNS)


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "qwen2", "o200k"])
def test_characters_of_all_classes_in_any_order(name: str) -> None:
    texts = ["".join(text) for text in product(CLASSES, repeat=3)]
    rng = random.Random(15)
    texts += ["".join(rng.choices(CLASSES, k=rng.randrange(4, 12))) for _ in range(count("texts to split"))]
    texts += ["".join(rng.choices(WORDS, k=rng.randrange(4, 12))) for _ in range(count("texts to split"))]
    for text in texts:
        data = text.encode()
        assert ends(data, name) == expected(data, name), text


ASCII = [
    "a",
    "B",
    "word",
    " ",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\x1c",
    "1",
    "23",
    ".",
    "--",
    "'",
    "'s",
    "'ll",
    "'re",
    "'r",
]


def test_long_texts_by_windows() -> None:
    """Sixty-four bytes at once are cut as one by one, wherever a window ends."""
    rng = random.Random(17)
    for _ in range(count("texts to split")):
        words = [*ASCII, *rng.choices(WORDS, k=2)] if rng.random() < 0.3 else rng.choices(ASCII, k=5)
        data = "".join(rng.choices(words, k=rng.randrange(50, 200))).encode()
        assert ends(data, "gpt2") == expected(data, "gpt2"), data


@settings(max_examples=count("tokenizer round trips"), deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=12).map("".join)))
def test_any_text(text: str) -> None:
    for name in PATTERNS:
        with gf.use("readable"):
            pieces = split(text, name)
        assert split(text, name) == pieces


NEAR_UTF8 = [
    b"a",
    b" ",
    b"1",
    b"\n",
    b"'s",
    b"\xc3",
    b"\xa9",
    b"\xc0\x80",
    b"\xe2\x82",
    b"\xe2\x82\xac",
    b"\xed\xa0\x80",
]
NEAR_UTF8 += [b"\xe0\x80\x80", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xff"]


@settings(max_examples=count("tokenizer round trips"), deadline=None)
@given(st.one_of(st.binary(max_size=30), st.lists(st.sampled_from(NEAR_UTF8), max_size=12).map(b"".join)))
def test_any_bytes(data: bytes) -> None:
    for name in PATTERNS:
        assert ends(data, name) == expected(data, name)


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "qwen2", "o200k"])
def test_real_texts(name: str, data_dir: Path) -> None:
    n = count("characters of a parity text")
    for path in sorted((data_dir / "text").iterdir()):
        if path.name != "mix100.txt.xz":
            with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
                data = file.read(n)
            assert ends(data, name) == expected(data, name), path.name


def test_every_character_beside_others() -> None:
    """What the table says of a character is what the pattern sees, between letters and digits."""
    codes = random.Random(16).sample([*range(0xD800), *range(0xE000, 0x110000)], count("characters beside others"))
    data = "".join(f"a{chr(code)}B1 " for code in codes).encode()
    for name in ("cl100k", "o200k"):
        assert ends(data, name) == expected(data, name)
