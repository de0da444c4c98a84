"""Words, or characters, looked up whole in a list: vectors of words, and small tasks such as spelling to sound.

What the list lacks is unknown, so that decoding does not give every text back. Next to read: `base.py`.
"""

from collections.abc import Sequence
from typing import Literal

import regex

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe import MAX_VOCAB_SIZE

Unit = Literal["word", "character"]
PATTERNS: dict[Unit, str] = {"word": r"\p{White_Space}+|\P{White_Space}+", "character": r"[\s\S]"}
SPACE = regex.compile(r"\p{White_Space}")


class WordTokenizer(Tokenizer):
    """`tokens` in the order of their ids; those that are `special` stand for no text, `unknown` for all other text.

    Words are what stands between spaces, punctuation included. With `lowercase`, text is lowered before.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        special: Sequence[str] = (),
        *,
        unknown: str = "<unk>",
        unit: Unit = "word",
        lowercase: bool = False,
    ) -> None:
        self._ids = {token: id for id, token in enumerate(tokens)}
        if len(self._ids) < len(tokens) or len(tokens) > MAX_VOCAB_SIZE:
            raise TokenizerError(f"expected at most {MAX_VOCAB_SIZE} tokens, and no doubles.")
        if missing := [token for token in (unknown, *special) if token not in self._ids]:
            raise TokenizerError(f"the list lacks {missing[0]!r}, which is to be one of its tokens.")
        if unit not in PATTERNS:
            raise TokenizerError(f'the unit must be "word" or "character", not {unit!r}.')
        vocab = {id: token.encode() for id, token in enumerate(tokens)}
        super().__init__(vocab, {token: self._ids[token] for token in special}, PATTERNS[unit])
        self.tokens = list(tokens)
        self.unknown = unknown
        self.unit = unit
        self.lowercase = lowercase

    def _encode_piece(self, piece: str) -> list[int]:
        if self.lowercase:
            piece = piece.lower()
        if self.unit == "character":
            return [self._ids.get(character, self._ids[self.unknown]) for character in piece]
        return [] if SPACE.match(piece) else [self._ids.get(piece, self._ids[self.unknown])]

    def _bytes_after(self, previous: int | None, id: int) -> bytes:
        """A space stands between two words."""
        begins = self.unit == "character" or previous is None or previous in self._special_ids
        return self.token_bytes(id) if begins else b" " + self.token_bytes(id)
