"""The check of chapters finds what is wrong with them."""

import copy
from typing import Any

import pytest

from glassformer.viewer.chapters import check_chapter, check_chapters, load_chapters
from support.viewed import recorded

GOOD: dict[str, Any] = {
    "id": "scores",
    "order": 1,
    "title": {"en": "Scores", "zh": "得分"},
    "needs": ["q", "scores"],
    "vars": {"L": 0, "h": "last", "t": "last"},
    "steps": [
        {
            "text": {
                "en": "{token:t} with {size:D} {term:@layer[L].q|numbers}: {value:@layer[L].head[h].scores{t=t,s=0}}.",
                "zh": "{token:t} 用 {size:D} 个{term:@layer[L].q|数}：{value:@layer[L].head[h].scores{t=t,s=0}}。",
            },
            "dim": "!@layer[L].head[h]",
            "sweep": {"block": "@layer[L].head[h].scores", "popup": True},
        },
        {
            "when": "@q_rotated",
            "text": {"en": "Rotated.", "zh": "旋转。"},
            "pulse": "@layer[L].head[h].q_rotated",
        },
    ],
}


def problems(**changes: Any) -> str:
    """Of the good chapter with a change in its first step."""
    chapter = copy.deepcopy(GOOD)
    chapter["steps"][0].update(changes)
    return " ".join(check_chapter(recorded("nano-sort")[1], chapter).problems)


def test_a_good_chapter_passes() -> None:
    report = check_chapter(recorded("nano-sort")[1], GOOD)
    assert report.passed
    assert report.applies
    assert report.steps == 1
    assert report.selectors == 2
    assert check_chapter(recorded("llama")[1], GOOD).steps == 2


def test_a_chapter_that_needs_what_is_not_there_does_not_apply() -> None:
    report = check_chapter(recorded("a small convolutional network")[1], GOOD)
    assert report.missing == ["q", "scores"]
    assert not report.applies
    assert report.passed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"focus": "@layer[L].head[h].gate"}, "@layer[L].head[h].gate finds nothing."),
        ({"focus": "@layer[M].q"}, "M is not a variable"),
        ({"camera": {"fit": "@nothing", "from": "front"}}, "@nothing finds nothing."),
        ({"fly": {"from": "@q", "to": "@nowhere"}}, "@nowhere finds nothing."),
        ({"text": {"en": "Only English."}}, "has no text in zh"),
        ({"text": {"en": "{size:D}", "zh": "没有"}}, "is in one language only"),
        ({"text": {"en": "{size:Q}", "zh": "{size:Q}"}}, "no axis Q"),
        ({"text": {"en": "{colour}", "zh": "{colour}"}}, "{colour} is no placeholder"),
        ({"text": {"en": "{value:@x{d=0}}", "zh": "{value:@x{d=0}}"}}, "@x{d=0} finds nothing."),
        ({"text": {"en": "It has 48 features.", "zh": "它有48个特征。"}}, "says 48 in zh"),
        ({"text": {"en": "It has 85,728 weights.", "zh": "很多。"}}, "says 85,728 in en"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], expected: str) -> None:
    assert expected in problems(**changes)


def test_what_compares_numbers_has_claims_that_are_held_against_a_recording() -> None:
    text = {"en": "The weights add up to one.", "zh": "权重加起来是一。"}
    assert "Step 1 compares numbers and has no claims." in problems(text=text)
    assert not problems(text=text, claims=["sum(@layer[L].head[h].weights{t=t}) = 1"])
    trace, scene = recorded("nano-sort")
    chapter = copy.deepcopy(GOOD)
    chapter["steps"][0].update(text=text, claims=["sum(@layer[L].head[h].weights{t=t}) = 2"])
    (problem,) = check_chapter(scene, chapter, trace).problems
    assert problem == "Step 1: sum(@layer[L].head[h].weights{t=t}) = 2 does not hold: 1 and 2."


def test_numbers_in_names_are_no_sizes() -> None:
    assert not problems(text={"en": "GPT-3 in float16, 10-bit.", "zh": "float16 的 GPT-3。"})


def test_a_chapter_without_movement_is_refused() -> None:
    chapter = {**GOOD, "steps": GOOD["steps"][:1]}
    assert "verbs move data" in " ".join(check_chapter(recorded("nano-sort")[1], chapter).problems)


@pytest.mark.parametrize("name", ["nano-sort", "llama", "a wide vocabulary"])
def test_all_chapters_fit(name: str) -> None:
    for report in check_chapters(recorded(name)[1], load_chapters()):
        assert report.problems == [], report.chapter
