"""Tokens as the page shows them, and a text on its way to them; bytes that are no characters show as ⟨E4 BD⟩."""

import re
from collections.abc import Sequence
from typing import Any

from glassformer.tokenizers import Tokenizer
from glassformer.viewer.scene import Token

BROKEN = re.compile("[\udc80-\udcff]+")  # where "surrogateescape" puts bytes that are not UTF-8


def shown_tokens(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[Token]:
    """The tokens of these ids; without a tokenizer, or beyond its vocabulary, their text is their number."""
    return [_shown(tokenizer, id) for id in ids]


def _shown(tokenizer: Tokenizer | None, id: int) -> Token:
    if tokenizer is None or id not in tokenizer.vocab:
        return Token(id=id, text=str(id), bytes="")
    data = tokenizer.token_bytes(id)
    return Token(id=id, text=readable(data), bytes=data.hex())


def readable(data: bytes) -> str:
    """Bytes as text, and in hexadecimal where they are none."""
    text = data.decode("utf-8", "surrogateescape")
    return BROKEN.sub(lambda found: f"⟨{found[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}⟩", text)


def tokenized(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The pieces of a text with their merges; `ids` are the model's, which may begin with a token of its own."""
    watched = tokenizer.steps(text)
    pieces = [
        {
            "text": piece.text,
            "bytes": piece.text.encode().hex(),
            "special": piece.special,
            "merges": [[symbol.hex() for symbol in row] for row in piece.symbols],
            "ids": piece.ids,
        }
        for piece in watched
    ]
    before = ids[: len(ids) - sum(len(piece.ids) for piece in watched)]
    return [*(_begin(tokenizer, id) for id in before), *pieces]


def _begin(tokenizer: Tokenizer, id: int) -> dict[str, Any]:
    data = tokenizer.token_bytes(id)
    return {"text": readable(data), "bytes": data.hex(), "special": True, "merges": [[data.hex()]], "ids": [id]}
