"""Words, or characters, looked up whole in a list: vectors of words, and small tasks such as spelling to sound.

What the list lacks is unknown, so that decoding does not give every text back. Next to read: `base.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import regex

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.tokenizer_json import EACH_CHARACTER, FUSE, check_added_ids, expect
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, check_no_gaps, checked_vocab

Unit = Literal["word", "character"]
PATTERNS: dict[Unit, str] = {"word": r"\p{White_Space}+|\P{White_Space}+", "character": r"[\s\S]"}
SPACE = regex.compile(r"\p{White_Space}")
LOWERCASE: Json = {"type": "Lowercase"}
CUT_AND_JOIN: dict[Unit, tuple[Json, Json | None]] = {  # pre-tokenizers and decoders of tokenizer.json
    "word": ({"type": "WhitespaceSplit"}, None),
    "character": (EACH_CHARACTER, FUSE),
}


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
        """Take the list of tokens; errors name what it lacks."""
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

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        text, unknown = pre_token.lower() if self.lowercase else pre_token, self._ids[self.unknown]
        if self.unit == "character":
            return [self._ids.get(character, unknown) for character in text]
        return [] if SPACE.match(text) else [self._ids.get(text, unknown)]

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """A space stands between two words."""
        begins = self.unit == "character" or previous is None or previous in self._special_ids
        return self.token_bytes(id) if begins else b" " + self.token_bytes(id)

    def to_json(self) -> Json:
        """A WordLevel model with a token for the unknown."""
        cut, join = CUT_AND_JOIN[self.unit]
        return {
            "normalizer": LOWERCASE if self.lowercase else None,
            "pre_tokenizer": cut,
            "decoder": join,
            "model": {"type": "WordLevel", "vocab": dict(self._ids), "unk_token": self.unknown},
        }

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "WordTokenizer":
        """The same read again."""
        cut, join = file.get("pre_tokenizer"), file.get("decoder")
        expect(path, "normalizer", file.get("normalizer"), [None, LOWERCASE])
        expect(path, "pre_tokenizer", cut, [cut_of_unit for cut_of_unit, _ in CUT_AND_JOIN.values()])
        unit = next(unit for unit, (cut_of_unit, _) in CUT_AND_JOIN.items() if cut_of_unit == cut)
        expect(path, "decoder", join, [CUT_AND_JOIN[unit][1]])
        vocab = checked_vocab(path, file["model"]["vocab"])
        check_added_ids(path, vocab, special_tokens)
        vocab |= special_tokens
        check_no_gaps(path, vocab.values())
        return cls(
            sorted(vocab, key=vocab.__getitem__),
            list(special_tokens),
            unknown=file["model"]["unk_token"],
            unit=unit,
            lowercase=file.get("normalizer") is not None,
        )
