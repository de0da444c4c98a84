"""BLEU and chrF: those of sacrebleu's command line, a BLEU computed by hand, and signatures."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from glassformer.errors import DataError, MissingExtra
from glassformer.evaluation.bleu import translation_scores

pytest.importorskip("sacrebleu", reason="needs the extra `metrics`")

REFERENCES = ["A man rides a horse on the beach.", "Two dogs play in deep snow, and a child laughs.", "Hello!"]
FOUND = ["A man is riding a horse on the beach.", "Two dogs play in the snow and a child laughs.", "Hello!"]


def test_scores_are_those_of_sacrebleus_command(tmp_path: Path) -> None:
    for name, lines in {"truth": REFERENCES, "found": FOUND}.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    scores = translation_scores(FOUND, REFERENCES)
    for metric, score, signature in [
        ("bleu", scores.bleu, scores.bleu_signature),
        ("chrf", scores.chrf, scores.chrf_signature),
    ]:
        command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "truth"), "-i", str(tmp_path / "found")]
        shown = subprocess.run(
            [*command, "-m", metric, "-b", "-w", "6"], capture_output=True, text=True, check=True
        ).stdout
        assert float(shown) == pytest.approx(score, abs=1e-6)
        assert "version:" in signature


def test_bleu_by_hand() -> None:
    """All 5 words are right, of 4 pairs 3, of 3 triples 2, of 2 fours 1; the reference is one word longer."""
    scores = translation_scores(["the cat sat on mats"], ["the cat sat on two mats"], words="none")
    assert scores.bleu == pytest.approx(100 * math.exp(1 - 6 / 5) * (5 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))
    assert "tok:none" in scores.bleu_signature


def test_what_is_right_has_100_and_chinese_needs_its_own_words() -> None:
    scores = translation_scores(REFERENCES, REFERENCES)
    assert (scores.bleu, scores.chrf) == (pytest.approx(100), pytest.approx(100))
    found, truth = ["我们 今天 去 北京。"], ["我们今天去北京。"]
    by_words, by_characters = (translation_scores(found, truth, words=words).bleu for words in ("13a", "zh"))
    assert by_words < 10 < by_characters == pytest.approx(100)


def test_texts_that_cannot_be_compared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, truth in (["a"], ["a", "b"]), ([], []):
        with pytest.raises(DataError, match="a translation for each of"):
            translation_scores(found, truth)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingExtra, match=r"glassformer\[metrics\]"):
        translation_scores(["a"], ["a"])
