"""Tokens as the page shows them, and a text on its way to them; bytes that are no characters show as ⟨E4 BD⟩."""

from collections.abc import Sequence
from typing import Any

from glassformer.printable import readable
from glassformer.tokenizers import Tokenizer
from glassformer.viewer.scene import Token


def shown_tokens(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[Token]:
    """The tokens of these ids; without a tokenizer, or beyond its vocabulary, their text is their number."""
    return [_shown(tokenizer, id) for id in ids]


def _shown(tokenizer: Tokenizer | None, id: int) -> Token:
    if tokenizer is None or id not in tokenizer.vocab:
        return Token(id=id, text=str(id), bytes="")
    data = tokenizer.token_bytes(id)
    return Token(id=id, text=readable(data), bytes=data.hex())


def shown_classes(config: Any) -> list[Token]:
    """The classes that a classifier tells apart, by their names, or without them by their numbers."""
    names = config.labels or map(str, range(config.n_classes))
    return [Token(id=id, text=name, bytes=name.encode().hex()) for id, name in enumerate(names)]


def tokenized(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[dict[str, Any]]:
    """`TokenizedPiece` of types.ts: the pieces of a text with the steps to their tokens.

    `ids` are the model's, with tokens of its own before and after.
    """
    watched = tokenizer.steps(text)
    pieces = [
        {
            "text": piece.text,
            "bytes": piece.text.encode().hex(),
            "special": piece.special,
            "method": tokenizer.method,
            "rows": [[symbol.hex() for symbol in row] for row in piece.symbols],
            "steps": [{"at": step.at, "rank": step.rank, "score": step.score} for step in piece.steps],
            "ids": piece.ids,
        }
        for piece in watched
    ]
    middle = [id for piece in watched for id in piece.ids]
    start = next((at for at in range(len(ids) + 1) if list(ids[at : at + len(middle)]) == middle), 0)
    before, after = ids[:start], ids[start + len(middle) :]
    return [*(_added(tokenizer, id) for id in before), *pieces, *(_added(tokenizer, id) for id in after)]


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids without the special tokens around it."""
    special = set(tokenizer.special_tokens.values())
    places = [place for place, id in enumerate(ids) if id not in special]
    return tokenizer.decode(ids[places[0] : places[-1] + 1]) if places else ""


def _added(tokenizer: Tokenizer, id: int) -> dict[str, Any]:
    data = tokenizer.token_bytes(id)
    shown = {"text": readable(data), "bytes": data.hex(), "special": True, "method": "look-up"}
    return {**shown, "rows": [[data.hex()]], "steps": [], "ids": [id]}
