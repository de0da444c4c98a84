"""Blocks of a text have the pre-tokens of the whole, whatever the pattern; and the ids, whatever the threads."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer as gf
from glassformer.tokenizers import Tokenizer, byte_level, safe_blocks
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count

WORDS = [
    "a",
    "B",
    "don't",
    "漢",
    "字",
    "1",
    "12",
    ".",
    "!",
    "'",
    "'s",
    " ",
    " ",
    "  ",
    "\n",
    "\n",
    "\r\n",
    "\t",
    "\u3000",
]
WORDS += ["\u0301", "\x1c", "\x85", "\u200b", "/", "é"]


@settings(max_examples=count("tokenizer round trips"), deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=2)), max_size=40).map("".join))
def test_blocks_have_the_pre_tokens_of_the_whole(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safe_blocks, "SHORTEST", 2)
        blocks = list(safe_blocks.safe_blocks(text))
    assert "".join(blocks) == text
    for pattern in PATTERNS.values():
        pre_tokens = [pre_token for block in blocks for pre_token in regex.findall(pattern, block)]
        assert pre_tokens == regex.findall(pattern, text)


def test_an_array_has_the_same_ids_whatever_the_threads(
    monkeypatch: pytest.MonkeyPatch, gpt2: Tokenizer, random_texts: Callable[[int], list[str]]
) -> None:
    monkeypatch.setattr(safe_blocks, "SHORTEST", 40)
    monkeypatch.setattr(safe_blocks, "LONGEST", 40)
    monkeypatch.setattr(byte_level, "LONGEST", 40)
    monkeypatch.setattr(byte_level, "MANY", 0)
    assert isinstance(gpt2, byte_level.BPETokenizer)
    texts = ["", "<|endoftext|>", "漢" * 300, "a\ud83d\ude00b \ud83d x" * 9, "<|endoftext|> and <|endo" * 20]
    texts += [" ".join(random_texts(40)), "\n".join(random_texts(40))]
    for text in texts:
        for allowed in ("all", "none"):
            with gf.use("readable"):
                expected = list(gpt2.encode_iterable([text], allowed_special=allowed))
            for threads in (1, 3):
                ids = gpt2.encode_array(text, allowed_special=allowed, threads=threads)
                assert ids.dtype == np.int32
                assert ids.tolist() == expected
            assert gpt2.encode(text, allowed_special=allowed) == expected


def test_results_come_in_order_and_few_wait() -> None:
    rng, begun = random.Random(3), []

    def work(item: int) -> int:
        begun.append(item)
        return item * item

    with ThreadPoolExecutor(3) as pool:
        items = [rng.randrange(100) for _ in range(50)]
        results = safe_blocks.in_order(pool, work, items, 4)
        assert next(results) == items[0] ** 2
        assert len(begun) <= 5
        assert list(results) == [item**2 for item in items[1:]]
