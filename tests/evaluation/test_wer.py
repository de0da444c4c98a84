"""Word error rate: a published implementation's counts on real transcripts, and small cases by hand."""

import json
import sys
from pathlib import Path

import pytest

from glassformer.errors import DataError, MissingExtra
from glassformer.evaluation.wer import WordErrors, word_errors

pytest.importorskip("jiwer", reason="needs the extra `metrics`")
pytest.importorskip("whisper_normalizer", reason="needs the extra `metrics`")


def test_the_prompts_of_a_telephone_have_the_errors_that_their_reference_counts(data_dir: Path) -> None:
    reference = json.loads((data_dir / "audio" / "asterisk" / "tiny.en.reference.json").read_text())
    clips = reference["clips"]
    found = word_errors([clip["text"] for clip in clips], [clip["whisper"] for clip in clips])
    assert (found.errors, found.words) == (reference["errors"], reference["words"])
    assert found.rate == pytest.approx(reference["wer"])
    for clip in clips:
        alone = word_errors([clip["text"]], [clip["whisper"]])
        assert (alone.errors, alone.words) == (clip["errors"], clip["words"])


def test_each_kind_of_error_is_counted() -> None:
    found = word_errors(["ask not what your country", "can do"], ["ask now your country", "can do for you"])
    assert found == WordErrors(substitutions=1, deletions=1, insertions=2, words=7)
    assert found.rate == pytest.approx(4 / 7)


def test_spelling_is_no_error() -> None:
    assert word_errors(["It's Mr. Brown's colour, $20!"], ["it is mister Brown's color twenty dollars"]).errors == 0
    assert word_errors(["Äpfel, bitte!"], ["äpfel bitte"], language="de").errors == 0
    assert word_errors(["ten"], ["10"], language="de").errors == 1


@pytest.mark.parametrize(
    ("language", "said", "written"), [("zh", "今天天气很好。", "今天天汽很好"), ("ja", "はい", "はイ")]
)
def test_without_spaces_each_letter_is_a_word(language: str, said: str, written: str) -> None:
    found = word_errors([said], [written], language=language)
    assert (found.errors, found.words) == (1, len(said.strip("。")))


def test_what_was_invented_in_silence_counts() -> None:
    found = word_errors(["hello", ""], ["", "thank you"])
    assert found == WordErrors(substitutions=0, deletions=1, insertions=2, words=1)
    assert found.rate == 3


def test_texts_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="each of 1 texts, not 2"):
        word_errors(["a"], ["a", "b"])
    with pytest.raises(DataError, match="no words"):
        word_errors(["(laughs)"], ["a"])


@pytest.mark.parametrize("library", ["jiwer", "whisper_normalizer.english"])
def test_the_extra_is_named_where_it_is_missing(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"glassformer\[metrics\]"):
        word_errors(["a"], ["a"])
