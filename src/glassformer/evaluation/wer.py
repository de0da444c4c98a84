"""Word error rate: how many words of a transcript are wrong, in parts of the words that were said.

Texts are brought to one spelling first, so that "$20", "twenty dollars" and "Twenty dollars." are the same: English by
the normaliser of Radford et al. 2022, appendix C (arXiv:2212.04356), other languages by its plain rules alone. Where
words have no spaces between them, each letter counts as a word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glassformer.errors import DataError, MissingExtra
from glassformer.tokenizers.speech_tokens import WITHOUT_SPACES


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """The fewest words to change, leave out and put in that turn the transcripts into a reference of `words` words."""

    substitutions: int
    deletions: int  # words that were said and not written
    insertions: int  # words that were written and not said
    words: int

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """WER = errors / words; more than 1 where much is invented."""
        return self.errors / self.words


def word_errors(references: Sequence[str], transcripts: Sequence[str], *, language: str = "en") -> WordErrors:
    """The errors of transcripts, one for each text that was said, over all of them together."""
    if len(references) != len(transcripts):
        raise DataError(f"There must be a transcript for each of {len(references)} texts, not {len(transcripts)}.")
    try:
        import jiwer
    except ImportError:
        raise MissingExtra("jiwer", "metrics", "The word error rate") from None
    normal = normaliser(language)
    said, written = [normal(text) for text in references], [normal(text) for text in transcripts]
    words = sum(len(text.split()) for text in said)
    if words == 0:
        raise DataError("Nothing was said: the reference texts have no words, of which an error rate could be a part.")
    counts = jiwer.process_words(said, written)
    return WordErrors(
        substitutions=counts.substitutions, deletions=counts.deletions, insertions=counts.insertions, words=words
    )


def normaliser(language: str) -> Callable[[str], str]:
    """What brings texts of a language to one spelling, without capitals and punctuation."""
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise MissingExtra("whisper-normalizer", "metrics", "The word error rate") from None
    normal: Callable[[str], str] = (
        EnglishTextNormalizer() if language == "en" else BasicTextNormalizer(split_letters=language in WITHOUT_SPACES)
    )
    return normal
