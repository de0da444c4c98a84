"""How close translations come to those of people: BLEU and chrF, as sacrebleu computes them.

Papineni et al. 2002 (BLEU); Popović 2015 (chrF); Post 2018 (arXiv:1804.08771) on why a figure needs its signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from glassformer.errors import DataError, MissingExtra

WordCutter = Literal["13a", "intl", "zh", "char", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationScores:
    """Both from 0 to 100, over all texts together, with what one must know to compute them again."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def translation_scores(
    translations: Sequence[str], references: Sequence[str], *, words: WordCutter = "13a"
) -> TranslationScores:
    """The scores of one translation for each reference. `words` is how BLEU cuts words: "zh" for Chinese."""
    if len(translations) != len(references) or not references:
        raise DataError(f"There must be a translation for each of {len(references)} texts, not {len(translations)}.")
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise MissingExtra("sacrebleu", "metrics", "BLEU") from None
    bleu, chrf = BLEU(tokenize=words), CHRF()
    return TranslationScores(
        bleu=bleu.corpus_score(translations, [references]).score,
        chrf=chrf.corpus_score(translations, [references]).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )
