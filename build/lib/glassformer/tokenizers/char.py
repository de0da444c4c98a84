"""One character, one token: for small alphabets, where every symbol is to be seen."""

from collections.abc import Iterable

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.pretokenize import SURROGATES

RUN = r"[\s\S]{1,4096}"  # characters that are looked up together


class CharTokenizer(Tokenizer):
    """Ids 0, 1, 2, … for the characters of `alphabet`, in its order; it has no other tokens."""

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise TokenizerError("An alphabet needs at least one character; the text is empty.")
        if len(set(alphabet)) < len(alphabet) or SURROGATES.search(alphabet):
            raise TokenizerError(f"{shorten(alphabet)} is no alphabet: each character comes once, and no surrogates.")
        super().__init__({id: character.encode() for id, character in enumerate(alphabet)}, {}, RUN)
        self.alphabet = alphabet
        self._ids = {character: id for id, character in enumerate(alphabet)}

    @classmethod
    def from_text(cls, chunks: str | Iterable[str]) -> "CharTokenizer":
        """The alphabet of all characters of a text, in the order of their code points."""
        characters: set[str] = set()
        for chunk in [chunks] if isinstance(chunks, str) else chunks:
            characters.update(chunk)
        return cls("".join(sorted(characters)))

    def _encode_piece(self, piece: str) -> list[int]:
        try:
            return [self._ids[character] for character in piece]
        except KeyError as unknown:
            raise TokenizerError(
                f"the character {unknown.args[0]!r} is not in this tokenizer's alphabet of {len(self.alphabet)}: "
                f"{shorten(self.alphabet)}."
            ) from None


def shorten(alphabet: str) -> str:
    """The alphabet for a message, at most 60 characters of it."""
    return repr(alphabet) if len(alphabet) <= 60 else f"{alphabet[:60]!r} …"
