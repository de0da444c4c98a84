"""Whether the chapters fit a model: all that they point at is there, and nothing that they say can be out of date.

A chapter applies to a model that has the roles which it `needs`. Then every selector of every step must find something
(a step that is there only `when` another selector finds something is left out otherwise), both languages must fill the
same placeholders, each of them with something that is there, and no number of the model may be written out by hand.
Where a text compares numbers, its step has claims, which hold for the recording (`claims.py`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassformer.tracing.trace import Trace
from glassformer.viewer.claims import COMPARES, broken_claims
from glassformer.viewer.scene import Scene
from glassformer.viewer.selectors import SelectorError, Vars, resolve, select

CHAPTERS = Path(__file__).parent / "chapters"
LANGUAGES = ("en", "zh")
MOVING = {"sweep", "unroll", "fly", "stack", "split", "pulse", "arcs"}
LEAST_MOVING = 2  # verbs that move data, of a chapter's steps together
PLACEHOLDER = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.-])\d+(?:[,.]\d{3})*(?![A-Za-z0-9_-])")  # not in GPT-2, float32, 10-bit
BARE = {"layers", "heads", "params", "name", "about", "tokens", "prediction", "probability", "loss"}
POINTING = {"value", "exp", "max", "most", "term", "over_one"}
WITH_WORDS = {"term", "over_one"}  # which differ between the languages
AT_A_LAYER = {"lens", "lens_probability"}


@dataclass(slots=True, kw_only=True)
class ChapterReport:
    """One chapter on one model."""

    chapter: str
    missing: list[str] = field(default_factory=list)  # roles that it needs; then it does not apply
    steps: int = 0  # that are shown
    selectors: int = 0  # that were tried
    problems: list[str] = field(default_factory=list)

    @property
    def applies(self) -> bool:
        """Whether the model has all roles that the chapter needs."""
        return not self.missing

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with the chapter on this model."""
        return not self.problems


def load_chapters(folder: Path = CHAPTERS) -> list[dict[str, Any]]:
    """The chapters in their order."""
    chapters = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(chapters, key=lambda chapter: chapter["order"])


def missing_roles(scene: Scene, chapter: Mapping[str, Any]) -> list[str]:
    """Those that a chapter needs and a model lacks; a need may be a selector too, which must find something."""
    roles = {block.role for block in scene.blocks} | {group.role for group in scene.groups}
    return [
        need
        for need in chapter["needs"]
        if not (select(scene, need, chapter["vars"]) if need.startswith("@") else need in roles)
    ]


def check_chapters(
    scene: Scene, chapters: Sequence[Mapping[str, Any]], trace: Trace | None = None
) -> list[ChapterReport]:
    """A report for each chapter; with the recording, of what it claims of numbers too."""
    return [check_chapter(scene, chapter, trace) for chapter in chapters]


def check_chapter(scene: Scene, chapter: Mapping[str, Any], trace: Trace | None = None) -> ChapterReport:
    """What is wrong with a chapter on a model, each as a sentence; with the recording, claims that do not hold too."""
    report = ChapterReport(chapter=chapter["id"], missing=missing_roles(scene, chapter))
    report.problems += _languages("The title", chapter["title"])
    moving = sum(len(MOVING & step.keys()) for step in chapter["steps"])
    if moving < LEAST_MOVING:
        report.problems.append(f"{moving} of its verbs move data; a chapter has at least {LEAST_MOVING}.")
    if report.applies and "contrast" in chapter:
        report.problems += _resolves("The contrast", chapter["contrast"]["rows"], scene, chapter["vars"])
    for number, step in enumerate(chapter["steps"], 1):
        where = f"Step {number}"
        report.problems += _languages(where, step["text"])
        report.problems += _written_out(where, step["text"], scene)
        if "claims" not in step and COMPARES.search(PLACEHOLDER.sub("", step["text"].get("en", ""))):
            report.problems.append(f"{where} compares numbers and has no claims.")
        if report.applies and _is_there(scene, step, chapter["vars"]):
            report.steps += 1
            for selector in _selectors(step):
                report.selectors += 1
                report.problems += _resolves(where, selector, scene, chapter["vars"])
            for language in LANGUAGES:
                report.problems += _fills(where, step["text"].get(language, ""), scene, chapter["vars"])
            if trace is not None:
                report.problems += [f"{where}: {broken}" for broken in broken_claims(trace, scene, chapter, step)]
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _is_there(scene: Scene, step: Mapping[str, Any], variables: Vars) -> bool:
    when: str | None = step.get("when")
    if when is None:
        return True
    return all(
        bool(select(scene, condition.removeprefix("!"), variables)) != condition.startswith("!")
        for condition in when.split(" & ")
    )


def _selectors(directions: Any) -> Iterator[str]:
    """Every selector in a step's stage directions."""
    if isinstance(directions, str):
        if directions.startswith(("@", "!@")):
            yield directions
    elif isinstance(directions, Mapping):
        for key, value in directions.items():
            if key not in ("text", "when"):
                yield from _selectors(value)


def _resolves(where: str, selector: str, scene: Scene, variables: Vars) -> Iterator[str]:
    try:
        if not select(scene, selector.removeprefix("!"), variables):
            yield f"{where}: {selector} finds nothing."
    except SelectorError as error:
        yield f"{where}: {error}"


# ---- texts


def _languages(where: str, text: Mapping[str, str]) -> Iterator[str]:
    for language in LANGUAGES:
        if not text.get(language, "").strip():
            yield f"{where} has no text in {language}."
    en, zh = (
        {_without_words(placeholder) for placeholder in PLACEHOLDER.findall(text.get(one, ""))} for one in LANGUAGES
    )
    for kind, argument in sorted(en ^ zh):
        yield f"{where}: {{{kind}:{argument}}} is in one language only."


def _without_words(placeholder: tuple[str, str]) -> tuple[str, str]:
    kind, argument = placeholder
    return kind, argument.partition("|")[0] if kind in WITH_WORDS else argument


def _written_out(where: str, text: Mapping[str, str], scene: Scene) -> Iterator[str]:
    sizes = {*scene.sizes.values(), scene.model["n_parameters"]} - {0, 1}
    for language in LANGUAGES:
        for number in NUMBER.findall(PLACEHOLDER.sub("", text.get(language, ""))):
            if int(re.sub(r"\D", "", number)) in sizes:
                yield f"{where} says {number} in {language}, which is a size of this model: use a placeholder."


def _fills(where: str, text: str, scene: Scene, variables: Vars) -> Iterator[str]:
    for kind, argument in PLACEHOLDER.findall(text):
        if kind in POINTING:
            for selector in argument.partition("|")[0].split(" & "):
                yield from _resolves(where, selector, scene, variables)
        elif kind in ("size", "dim"):
            if argument not in scene.sizes:
                yield f"{where}: the model has no axis {argument}."
        elif kind in ("token", "var") or kind in AT_A_LAYER:
            try:
                resolve(argument, 1, variables)
            except SelectorError as error:
                yield f"{where}: {error}"
        elif kind not in BARE:
            yield f"{where}: {{{kind}}} is no placeholder."
