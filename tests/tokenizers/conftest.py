"""Texts in many scripts, published vocabularies, and tiktoken's encodings of them."""

import base64
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import tiktoken
from tiktoken_ext import openai_public

from glassformer.tokenizers import Tokenizer

SNIPPETS = [
    *("Hello", " world", "don't", " I'LL", "'Ve", "naïve", " café", "Straße", "ǅ", "ſ", "x'ſ", "1234567", " 42", "٣٤"),
    *(" ", "  ", "\t", "\n", "\r\n", " \n \n", "\u00a0", "\u3000", "\u2028", "\x00", "\ufeff", "\x85", "\x1c"),
    *("你好", "，世界。", "日本語テキスト", "한국어", "ภาษาไทย", "हिन्दी", "العربية", "עברית", "Ελληνικά", "Русский"),
    *("😀", "👩‍👩‍👧", "🇩🇪", "e\u0301", "\u200d", "\u0301", "…", "--", "//", "/*", "{}();", "_a", "=>", "\ufffd", "𝔘"),
    *("<|endoftext|>", "<|", "|>", "<s>", "</s>", "▁", "A漢B", "aBcD", "ABCdef"),
]


@pytest.fixture(scope="session")
def random_texts() -> Callable[[int], list[str]]:
    """Reproducible strings in many scripts: snippets, single characters that Unicode 13 has, and runs of them."""

    def texts(n: int) -> list[str]:
        rng = random.Random(20)
        characters = [
            chr(code) for block in (0x20, 0xA0, 0x370, 0x400, 0x4E00, 0x1F600) for code in range(block, block + 80)
        ]
        characters = [character for character in characters if character.isprintable()]
        pool = SNIPPETS + characters
        return [
            "".join(rng.choice(pool) * rng.choice([1, 1, 1, 1, 3]) for _ in range(rng.randrange(14))) for _ in range(n)
        ]

    return texts


@pytest.fixture(scope="session")
def tiktoken_encoding(data_dir: Path) -> Callable[[str], tiktoken.Encoding]:
    """tiktoken's own encoding of that name, its ranks read from the local file."""

    @cache
    def encoding(name: str) -> tiktoken.Encoding:
        lines = (data_dir / "tokenizers" / f"{name}.tiktoken").read_bytes().splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
        with (
            mock.patch.object(openai_public, "load_tiktoken_bpe", return_value=ranks),
            mock.patch.object(openai_public, "data_gym_to_mergeable_bpe_ranks", return_value=ranks),
        ):
            return tiktoken.Encoding(**getattr(openai_public, name)())

    return encoding


@pytest.fixture(scope="session")
def gpt2(data_dir: Path) -> Tokenizer:
    """GPT-2's tokenizer."""
    return Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken")
