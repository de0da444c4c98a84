"""One character, one token: for small alphabets, where every symbol is to be seen."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.pretokenize import SURROGATES
from glassformer.tokenizers.tokenizer_json import EACH_CHARACTER, FUSE, expect
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.vocabulary import check_no_gaps, checked_vocab

RUN = r"[\s\S]{1,4096}"  # characters that are looked up together


class CharTokenizer(Tokenizer):
    """Ids 0, 1, 2, … for the characters of `alphabet`, in its order; it has no other tokens.

    >>> tokenizer = CharTokenizer("ABC")
    >>> tokenizer.encode("CAB"), tokenizer.decode([2, 0, 1])
    ([2, 0, 1], 'CAB')
    """

    def __init__(self, alphabet: str) -> None:
        """Take the alphabet, in which each character comes once."""
        if not alphabet:
            raise TokenizerError("An alphabet needs at least one character; the text is empty.")
        if len(set(alphabet)) < len(alphabet) or SURROGATES.search(alphabet):
            raise TokenizerError(f"{_excerpt(alphabet)} is no alphabet: each character comes once, and no surrogates.")
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

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        try:
            return [self._ids[character] for character in pre_token]
        except KeyError as unknown:
            raise TokenizerError(
                f"the character {unknown.args[0]!r} is not in this tokenizer's alphabet of {len(self.alphabet)}: "
                f"{_excerpt(self.alphabet)}."
            ) from None

    def to_json(self) -> Json:
        """A WordLevel model of single characters, without a token for the unknown."""
        return {
            "normalizer": None,
            "pre_tokenizer": EACH_CHARACTER,
            "decoder": FUSE,
            "model": {"type": "WordLevel", "vocab": dict(self._ids), "unk_token": "<unk>"},
        }

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "CharTokenizer":
        """The same read again."""
        expect(path, "normalizer", file.get("normalizer"), [None])
        expect(path, "pre_tokenizer", file.get("pre_tokenizer"), [EACH_CHARACTER])
        expect(path, "decoder", file.get("decoder"), [FUSE])
        vocab = checked_vocab(path, file["model"].get("vocab"))
        check_no_gaps(path, vocab.values())
        if special_tokens or any(len(text) != 1 for text in vocab):
            raise TokenizerError(f"{path}: of WordLevel models, only those of single characters are supported.")
        return cls("".join(sorted(vocab, key=vocab.__getitem__)))


def _excerpt(alphabet: str) -> str:
    """The alphabet for a message, at most 60 characters of it."""
    return repr(alphabet) if len(alphabet) <= 60 else f"{alphabet[:60]!r} …"
