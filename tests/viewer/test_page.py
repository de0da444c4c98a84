"""The page in a real browser: what it draws, says and does is what Python has, also without mouse and network."""

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colorspacious
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page
from torch import nn

import glassformer as gf
from glassformer.kinds import kind_of
from glassformer.tokenizers import CharTokenizer
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Cell, Trace
from glassformer.viewer import assets
from glassformer.viewer.chapters import check_chapters, load_chapters
from glassformer.viewer.export import export_html
from glassformer.viewer.session import Session
from support.browser import address_of
from support.tiny import TINY
from support.viewed import recorded
from viewer.pages import opened, settled

pytestmark = pytest.mark.usefixtures("built")
LETTERS = "CBABBC"


@pytest.fixture(scope="module")
def built() -> None:
    assert len(assets.page("app.js")) > 10_000, "the built page is committed: run `npm run build` in web/"


@pytest.fixture
def session() -> Session:
    made = Session(gf.load("nano-sort"), name="nano-sort")
    made.run(text=LETTERS)
    return made


@pytest.fixture
def address(session: Session, page: Page) -> Iterator[str]:
    """The live page of the session, on a port of its own; the visitor leaves before the server does."""
    with address_of(session) as address:
        yield address
        if not page.is_closed():
            page.goto("about:blank")


def test_the_page_and_its_exports_carry_the_licences_of_what_is_bundled(session: Session, tmp_path: Path) -> None:
    for page in (assets.page("index.html").decode(), export_html(session, tmp_path / "view.html").read_text()):
        for package in ("preact", "@preact/signals", "@preact/signals-core"):
            assert re.search(rf"^{package}: Copyright \(c\) \d{{4}}-present \w+", page, re.MULTILINE)
        assert "Permission is hereby granted, free of charge" in page


def look_at(page: Page, block: int, begin: str = "front") -> None:
    """Bring a block before the eye."""
    page.evaluate(
        """([id, from]) => {
            const {state, engine} = glassformer;
            const [nx, ny] = state.scene.value.blocks[id].size;
            const step_of = state.scene.value.blocks[id].step_of;
            if (step_of !== null) state.opened.value = new Set([step_of]);
            state.camera.value = engine.fit([{block: id, x0: 0, y0: 0, x1: nx, y1: ny}], from, 0.3);
        }""",
        [block, begin],
    )
    settled(page)


def on_screen(page: Page, block: int, x: int, y: int, dx: float = 0.5, dy: float = 0.5) -> tuple[float, float]:
    """Where a point of a cell's face is on the page, in css pixels."""
    return tuple(
        page.evaluate(
            """([id, x, y, dx, dy]) => {
                const {state, engine} = glassformer;
                const [px, py, pz] = state.scene.value.blocks[id].pos;
                const at = engine.project([px + x + dx, py + y + dy, pz + 1]);
                const box = document.getElementById("scene").getBoundingClientRect();
                return [box.left + at.x, box.top + at.y];
            }""",
            [block, x, y, dx, dy],
        )
    )


def scene_of(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("() => glassformer.state.scene.value")
    return found


def picture(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def pixel(image: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """The mean of 3 × 3 pixels."""
    x, y = round(at[0]), round(at[1])
    return image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)


def find(scene: dict[str, Any], role: str, layer: int | None = None, head: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = next(
        block
        for block in scene["blocks"]
        if (block["role"], block["layer"], block["head"], block["step_of"]) == (role, layer, head, None)
    )
    return found


# ---- it draws


VIEWS = [  # role, layer, head; colour of a positive number, of a negative one, of zero; css of engine/palette.ts
    ("q_weight", 0, 0, "#0a64ad", "#d55e00", "#e4edf7"),
    pytest.param("up_weight", 1, None, "#0a64ad", "#d55e00", "#e4edf7", marks=pytest.mark.slow),
    pytest.param("q", 0, 0, "#008a66", "#d55e00", "#e2f2ec", marks=pytest.mark.slow),
    ("x", 2, None, "#008a66", "#d55e00", "#e2f2ec"),
    pytest.param("activated", 1, None, "#008a66", "#d55e00", "#e2f2ec", marks=pytest.mark.slow),
    ("position_embedding", None, None, "#0a64ad", "#d55e00", "#e4edf7"),
]


def rgb(css: str) -> np.ndarray:
    return np.array([int(css[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize(("role", "layer", "head", "plus", "minus", "face"), VIEWS)
def test_cells_have_the_colours_of_their_numbers(
    page: Page, address: str, role: str, layer: int | None, head: int | None, plus: str, minus: str, face: str
) -> None:
    """Up to 20 pixels a view: each is nearer to the colour of its cell's sign than to that of the other sign."""
    opened(page, address)
    assert "SwiftShader" in page.evaluate("() => glassformer.engine.renderer")
    page.evaluate(
        """() => {
            const {leftOpen, rightOpen, chapter} = glassformer.state;
            [leftOpen.value, rightOpen.value, chapter.value] = [false, false, null];
        }"""
    )
    settled(page)
    scene = scene_of(page)
    block = find(scene, role, layer, head)
    nx, ny = min(36, block["size"][0]), min(12, block["size"][1])  # small enough that no numbers lie on the cells
    page.evaluate(
        """([id, nx, ny]) => {
            const {state, engine} = glassformer;
            state.camera.value = engine.fit([{block: id, x0: 0, y0: 0, x1: nx, y1: ny}], "front", 0.25);
        }""",
        [block["id"], nx, ny],
    )
    settled(page)
    numbers = page.evaluate(
        """([id, nx, ny]) => glassformer.source.numbers(0, 0, glassformer.state.scene.value.blocks[id], 0, 0, nx, ny)
            .then(found => Array.from(found))""",
        [block["id"], nx, ny],
    )
    values = np.array(numbers).reshape(ny, nx) / block["scale"]
    image = picture(page)
    assert image.std() > 8, "the scene is blank"
    large = [(y, x) for y, x in np.ndindex(values.shape) if abs(values[y, x]) > 0.4]
    chosen = [large[i] for i in np.random.default_rng(0).permutation(len(large))[:20]]
    assert len(chosen) >= 10
    for y, x in chosen:
        # the disc's middle for +; for −, whose ring is hollow, the ring's right side
        size = abs(values[y, x])
        offsets = (0.5, 0.5 + 0.16) if values[y, x] > 0 else tuple(np.linspace(0.5, 0.98, 25))
        seen = [
            pixel(image, on_screen(page, block["id"], x, y, dx, 0.62 if values[y, x] > 0 else 0.5)) for dx in offsets
        ]
        right, wrong = (plus, minus) if values[y, x] > 0 else (minus, plus)
        best = min(seen, key=lambda colour: np.abs(colour - rgb(right)).sum())
        toward = np.abs(best - rgb(wrong)).sum() - np.abs(best - rgb(right)).sum()
        assert toward > 0, f"{role}[{x},{y}] = {values[y, x]:.2f} of the scale has the colour {best} (size {size:.2f})"


# ---- it says what Python has


def kinds_of_operations(trace: Trace) -> dict[str, tuple[int, tuple[int, ...]]]:
    """For each name of an operation one cell that it computed, in the middle of its result's first matrix."""
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for operation, tensor in trace.computed():
        shape = trace.tensors[tensor].shape
        found[operation.name] = (tensor, tuple(n // 2 if axis >= len(shape) - 2 else 0 for axis, n in enumerate(shape)))
    return found


def test_hovering_each_kind_of_operation_shows_the_number_that_python_has(
    page: Page, address: str, session: Session
) -> None:
    trace = session.step(0, 0).trace
    opened(page, address)
    page.evaluate("() => { glassformer.state.leftOpen.value = false; }")
    kinds, scene = kinds_of_operations(trace), scene_of(page)
    assert len(kinds) >= 15
    for name, (tensor, index) in kinds.items():
        value = Cell(trace, tensor, index).value
        page.mouse.move(0, 0)
        page.evaluate("() => { glassformer.state.hover.value = null; }")
        page.wait_for_function("() => glassformer.state.hoverAnswer.value === null")
        place = page.evaluate(
            """([tensor, index]) => {
                const {state} = glassformer;
                const [records, scene] = [state.trace.value, state.scene.value];
                const record = records.tensors[tensor];
                const element = record.offset + index.reduce((sum, i, axis) => sum + i * record.strides[axis], 0);
                for (const block of scene.blocks) {
                    if (block.storage !== record.storage) continue;
                    for (let y = 0; y < block.size[1]; y++) for (let x = 0; x < block.size[0]; x++) {
                        if (block.offset + x * block.strides[0] + y * block.strides[1] === element) {
                            return [block.id, x, y];
                        }
                    }
                }
                return null;
            }""",
            [tensor, list(index)],
        )
        assert place is not None, f"{name}: no block shows {trace.tensors[tensor].name}{list(index)}"
        block, x, y = place
        look_at(page, block)
        at = on_screen(page, block, x, y, 0.3, 0.3)
        if scene["blocks"][block]["step_of"] is None:
            page.mouse.move(*at)
        else:  # it stands behind its block, where keys lead
            page.evaluate("([block, x, y]) => { glassformer.state.hover.value = {block, x, y}; }", place)
        page.wait_for_function(
            """([block, x, y]) => {
                const {hover, hoverAnswer} = glassformer.state;
                return JSON.stringify(hover.value) === JSON.stringify({block, x, y}) && hoverAnswer.value !== null;
            }""",
            arg=place,
            timeout=60_000,
        )
        answer = page.evaluate("() => glassformer.state.hoverAnswer.value")
        shown = answer["cell"]["value"]
        shown = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}.get(shown, shown)
        assert np.float32(shown) == np.float32(value) or np.isnan(np.float32(value)), name
        assert answer["check"]["passed"], name
        popup = page.locator(".popup")
        assert "✓" in popup.inner_text(), name
        rows = page.locator(".popup-terms li:not(.quiet)").all_inner_texts()
        numbers = page.locator(".popup .numbers").all_inner_texts()
        assert numbers in ([], [f"= {answer['numbers']}"])
        assert rows or numbers or not answer["terms"]
        for row, term in zip(rows, answer["terms"], strict=False):
            if term["operands"]:
                check_row(row, term)


def printed(text: str) -> float:
    """A number that the page has rounded for the eye: −2.177, 1.255×10⁻⁵, −∞."""
    lowered = text.translate(str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789"))
    return float(lowered.replace("×10", "e").replace("∞", "inf"))


def check_row(row: str, term: dict[str, Any]) -> None:
    """A line of the pop-up: the operands with their own numbers, never the result's, and what they come to."""
    operands, value = row.split("\n")
    assert printed(value) == pytest.approx(float(term["value"]), rel=1e-2)
    if term["product"] and len(term["operands"]) == 1:
        return  # the operand's name; its number is the term
    parts = operands.split(" · " if term["product"] else ", ")
    for part, operand in zip(parts, term["operands"], strict=True):
        assert printed(part.split(" ")[-1]) == pytest.approx(float(operand["value"]), rel=1e-2), row


def test_a_pinned_cell_shows_terms_formula_and_the_line_of_source(page: Page, address: str, session: Session) -> None:
    trace = session.step(0, 0).trace
    opened(page, address)
    cell = trace["blocks.1.attn.q"][0, 2, 3, 5]
    page.evaluate("() => { glassformer.state.rightOpen.value = true; }")
    page.keyboard.press("g")
    page.keyboard.type("blocks.1.attn.q[0,2,3,5]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => glassformer.state.pinAnswer.value !== null")
    panel = page.locator(".inspector")
    page.wait_for_function("() => document.querySelector('.inspector math') !== null")
    text = panel.inner_text()
    assert repr(float(np.float32(cell.value)))[:8].replace("-", "−") in text.replace("-", "−")
    assert "functional.py" in text
    assert "y = y + bias" in text
    assert "✓" in text
    first = page.locator(".inspector table button, .inspector .terms button").first
    first.click()
    page.wait_for_function("() => glassformer.state.trail.value.pins.length === 2")


# ---- the walk


OTHERS = ("llama", "luong fed", "encoder-decoder pre-norm", "vit", "bert", "whisper", "word2vec")


def walked(page: Page, address: str) -> set[str]:
    """Go from step to step to the end, reading each in both languages; the chapters that were told."""
    page.set_viewport_size({"width": 960, "height": 420})
    opened(page, address)
    steps = page.evaluate("() => glassformer.state.chapters.value.reduce((n, {steps}) => n + steps.length + 1, 0)")
    seen: set[str] = set()
    for _ in range(steps):
        page.wait_for_timeout(40)
        seen.add(page.evaluate("() => glassformer.state.chapter.value"))
        for language in ("en", "zh"):
            page.evaluate("language => { glassformer.state.lang.value = language; }", language)
            text = page.locator(".story li[aria-current=step]").inner_text()
            assert len(text) > 20
            assert not re.search(r"[{}@]|undefined|null|NaN", text), text
            assert bool(re.search(r"[\u4e00-\u9fff]", text)) == (language == "zh"), text
        page.get_by_role("button", name="下一步", exact=True).dispatch_event(
            "click"
        )  # others wait for it to stand still
    return seen


def told_by(session: Session) -> set[str]:
    """The chapters that fit what a session shows."""
    return {report.chapter for report in check_chapters(session.step(0, 0).scene, load_chapters()) if report.applies}


def test_the_whole_walk_runs_without_an_error_and_every_step_says_something(
    page: Page, address: str, session: Session
) -> None:
    told = told_by(session)
    assert len(told) >= 16
    assert walked(page, address) == told


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_walk_through_other_models_runs_without_an_error(page: Page, name: str) -> None:
    session = Session.of_trace(recorded(name)[0])
    with address_of(session) as address:
        told = told_by(session)
        assert told
        assert walked(page, address) == told
        page.goto("about:blank")


SWEPT = """() => {
    const {state} = glassformer;
    const unfinished = [];
    for (const {id, steps} of state.chapters.value.filter(({steps}) => !steps.some(({sweep}) => sweep?.to))) {
        for (let at = 0; at < steps.length; at++) {
            [state.chapter.value, state.chapterStep.value, state.time.value] = [id, at, 1];
            if (glassformer.stage.fills.size > 0) unfinished.push([id, at]);
        }
    }
    return unfinished;
}"""


@pytest.mark.parametrize("name", ["vit", "encoder-decoder pre-norm"])
def test_what_a_step_sweeps_over_is_whole_when_it_ends(page: Page, name: str) -> None:
    """Also a picture in patches, whose rows no axis of the text counts."""
    session = Session.of_trace(recorded(name)[0])
    with address_of(session) as address:
        opened(page, address)
        assert page.evaluate(SWEPT) == []
        page.goto("about:blank")


@pytest.mark.parametrize("letters", [LETTERS, "CB", "AAAAAA"])
def test_the_heads_that_are_held_against_each_other_differ_most(page: Page, letters: str) -> None:
    """And that one head could not do both is said only where both shares together are more than all there is."""
    session = Session(gf.load("nano-sort"), name="nano-sort")
    weights = session.run(text=letters).steps[0].trace["blocks.0.attn.weights"].value[0, :, -1]
    apart = {(g, h): (weights[g] - weights[h]).abs().sum() for g, h in itertools.combinations(range(len(weights)), 2)}
    g, h = max(apart, key=lambda pair: apart[pair])
    (one, first), (other, second) = (weights[head].max(-1) for head in (g, h))
    with address_of(session) as address:
        opened(page, address)
        page.evaluate(
            "() => { [glassformer.state.chapter.value, glassformer.state.chapterStep.value] = ['heads', 2]; }"
        )
        story = page.locator(".story")
        page.wait_for_function(
            "() => /head \\d takes most from [ABC].*head \\d takes most/s.test(document.body.innerText)"
        )
        page.wait_for_function("() => !/weight of …/.test(document.querySelector('.story').innerText)")
        said = re.findall(r"head (\d) takes most from ([ABC]), with a weight of (\d\.\d+)", story.inner_text())
        assert [(int(head), letter) for head, letter, _ in said] == [(g, letters[first]), (h, letters[second])]
        assert [float(share) for *_, share in said] == pytest.approx([float(one), float(other)], abs=1e-4)
        cannot = bool(first != second) and float(one + other) > 1
        assert ("A single head could not do both" in story.inner_text()) == cannot
        page.goto("about:blank")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("granite", {"logits_scaling": 0.5}),
        ("gemma2", {"logit_softcap": 0.1}),
        ("t5", {}),
    ],
)
def test_the_lens_after_the_last_layer_is_the_answer_of_the_model(page: Page, name: str, own: dict[str, Any]) -> None:
    """Whatever it does to its logits, or with what its head reads."""
    model = gf.build(name, **TINY[name], **own)
    torch.manual_seed(0)
    for weight in model.module.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    session = Session(model, name=name)
    (step,) = session.start(kind_of(model).example(model)).steps
    answer = float(step.trace["logits"].value[0, -1].softmax(-1).max())
    with address_of(session) as address:
        opened(page, address)
        page.evaluate(
            "() => { [glassformer.state.chapter.value, glassformer.state.chapterStep.value] = ['stack', 3]; }"
        )
        page.wait_for_function("() => /after the last, \\S+ \\([\\d.]+/.test(document.body.innerText)")
        said = re.search(r"after the last, \S+ \(([\d.]+) %\)", page.locator(".story").inner_text())
        assert said is not None
        assert float(said[1]) == pytest.approx(100 * answer, abs=0.06)
        page.goto("about:blank")


def test_a_classifier_of_texts_says_its_classes_by_name(page: Page) -> None:
    """Whose numbers are those of tokens of the text too, which are others."""
    model = gf.build("bert", **TINY["bert"], head="classes", labels=("good", "bad"))
    session = Session(model.having(tokenizer=CharTokenizer("ABCDEFGHIJK")), name="bert")
    (step,) = session.run(tokens=[0, 1, 2]).steps
    best = ("good", "bad")[int(step.trace["logits"].value.argmax())]
    with address_of(session) as address:
        opened(page, address)
        page.get_by_role("button", name="Inspector").click()
        page.wait_for_function("() => document.querySelectorAll('.overview .probabilities .word').length === 2")
        page.wait_for_function("() => !/[AB#]/.test(document.querySelector('.overview .probabilities').innerText)")
        words = page.locator(".overview .probabilities .word").all_inner_texts()
        assert (words[0], set(words)) == (best, {"good", "bad"})
        page.goto("about:blank")


def test_a_model_that_no_chapter_fits_offers_no_walk(page: Page) -> None:
    session = Session.of_trace(record(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(1, 3)))
    with address_of(session) as address:
        opened(page, address)
        assert "No chapter fits this model" in page.locator(".walk").inner_text()
        assert page.locator(".transport").count() == 0
        page.goto("about:blank")


# ---- without a mouse


def test_the_page_is_used_by_keyboard_alone(page: Page, address: str) -> None:
    opened(page, address)
    page.focus("#scene")
    press = page.keyboard.press

    def state(name: str) -> Any:
        return page.evaluate("name => JSON.parse(JSON.stringify(glassformer.state[name].value ?? null))", name)

    press("ArrowDown")
    first = state("hover")
    assert first is not None
    for key in ("]", "]", "]"):
        press(key)
    assert state("hover")["block"] != first["block"]
    press("ArrowDown")
    press("Shift+ArrowDown")
    press("Enter")
    page.wait_for_function("() => glassformer.state.pinAnswer.value !== null")
    assert page.locator("#announced").inner_text() != ""
    press("s")
    press("Enter")
    page.wait_for_function("() => glassformer.state.trail.value.pins.length === 2")
    press("Escape")
    press("Escape")
    assert state("trail")["pins"] == []
    press("h")
    assert state("head") == 0
    press("PageDown")
    press("l")
    assert state("lang") == "zh"
    press("l")
    press("?")
    assert state("helpOpen")
    press("Escape")
    page.wait_for_function("() => !glassformer.state.helpOpen.value")
    before = state("camera")
    press("3")
    page.wait_for_function("was => JSON.stringify(glassformer.state.camera.value) !== was", arg=json.dumps(before))
    press("n")
    page.wait_for_function("() => glassformer.state.tokens.value.length === 7", timeout=60_000)
    press(",")
    page.wait_for_function("() => glassformer.state.tokens.value.length === 6", timeout=60_000)
    press("t")
    page.wait_for_function("() => document.activeElement?.id === 'temperature'")
    press("Escape")
    for _ in range(40):  # every region can be reached, and none holds the focus
        press("Tab")
    assert page.evaluate("() => document.activeElement !== null")


# ---- one's own input, and changes


def test_own_text_is_tokenized_run_and_stepped(page: Page, address: str, session: Session) -> None:
    opened(page, address)
    page.keyboard.press("t")
    page.wait_for_function("() => document.activeElement?.id === 'temperature'")
    page.fill(".own-text-field", "BCACBA")
    page.wait_for_selector(".tokenizer")
    assert page.locator(".tokenizer .pieces li").count() >= 1
    page.press(".own-text-field", "Enter")
    page.wait_for_function("() => glassformer.state.run.value === 1", timeout=60_000)
    assert page.evaluate("() => glassformer.state.tokens.value.map(({text}) => text).join('')") == "BCACBA"
    model = gf.load("nano-sort")
    expected = "".join(model.generate("BCACBA", max_new_tokens=2, temperature=0.0))
    page.keyboard.press("Escape")
    for n in (7, 8):
        page.get_by_role("button", name=re.compile("^Next token")).first.click()
        page.wait_for_function(f"() => glassformer.state.tokens.value.length === {n}", timeout=60_000)
    assert page.evaluate("() => glassformer.state.tokens.value.slice(6).map(({text}) => text).join('')") == expected


def test_a_changed_cell_changes_the_logits_as_patching_says(page: Page, address: str, session: Session) -> None:
    trace = session.step(0, 0).trace
    model = gf.load("nano-sort")
    ours = gf.trace(model, LETTERS)
    cell = ours["blocks.0.attn.q"][0, 1, 5, 2]
    patched = ours.patch({cell: 3.0}).after["logits"].value
    opened(page, address)
    page.keyboard.press("g")
    page.keyboard.type("blocks.0.attn.q[0,1,5,2]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#edit-number")
    page.fill("#edit-number", "3")
    page.press("#edit-number", "Enter")
    page.wait_for_function(
        "() => glassformer.state.run.value === 1 && glassformer.state.compared.value", timeout=60_000
    )
    logits = page.evaluate(
        """async () => {
            const {state, source} = glassformer;
            const block = state.scene.value.blocks[state.scene.value.logits];
            const [nx, ny] = block.size;
            return Array.from(await source.numbers(1, 0, block, 0, 0, nx, ny));
        }"""
    )
    assert np.array_equal(np.array(logits).reshape(3, 6).T.astype(np.float32), patched[0].numpy())
    assert not np.array_equal(patched.numpy(), trace["logits"].value.numpy())
    changed, blocks = map(int, re.findall(r"\d+", page.locator(".changed").inner_text())[:2])
    assert 20 < changed < blocks


# ---- faults


def test_a_lost_context_comes_back(page: Page, address: str) -> None:
    opened(page, address)
    settled(page)
    before = picture(page)
    page.evaluate(
        """() => {
            const gl = document.getElementById("scene").getContext("webgl2");
            window.lose = gl.getExtension("WEBGL_lose_context");
            window.lose.loseContext();
        }"""
    )
    page.wait_for_function("() => glassformer.state.sceneLost.value === 'lost'")
    page.evaluate("() => window.lose.restoreContext()")
    page.wait_for_function("() => glassformer.state.sceneLost.value === null", timeout=60_000)
    page.wait_for_timeout(1500)
    after = picture(page)
    assert np.mean(np.abs(before - after).max(2) > 40) < 0.01


DRAWN = """() => {
    const {engine, stage, state} = glassformer;
    engine.draw(stage, state.camera.value);
    return document.getElementById("scene").toDataURL().split(",")[1];
}"""


# The canvas gets as many pixels as it covers in a frame of its own, after the layout.
SIZED = """() => {
    const scene = document.getElementById("scene");
    return Math.abs(scene.height - scene.clientHeight * devicePixelRatio) <= 1;
}"""


def test_words_stand_where_they_belong_after_the_screen_has_changed(browser: Browser, address: str) -> None:
    """Also where the canvas keeps its size: numbers in cells and names at blocks are those of a page opened there."""
    pictures = []
    height = 0
    for density in (2, 1):
        context = browser.new_context(
            viewport={"width": 1280, "height": 720}, device_scale_factor=density, bypass_csp=True
        )
        page = opened(context.new_page(), address, "lang=en&theme=light&chapter=softmax&at=1")
        settled(page)
        if density == 1:
            metrics = {"width": 1280, "height": 720, "deviceScaleFactor": 2, "mobile": False}
            context.new_cdp_session(page).send("Emulation.setDeviceMetricsOverride", metrics)
            page.wait_for_function("() => devicePixelRatio === 2")
            page.evaluate(DRAWN)
            settled(page)
            page.wait_for_function(f"() => document.getElementById('scene').clientHeight === {height}")
        page.wait_for_function(SIZED)
        height = page.evaluate("() => document.getElementById('scene').clientHeight")
        pictures.append(Image.open(io.BytesIO(base64.b64decode(page.evaluate(DRAWN)))).convert("L"))
        page.goto("about:blank")
        context.close()
    fresh, moved = (np.asarray(picture, dtype=float) for picture in pictures)
    assert moved.shape == fresh.shape
    assert np.abs(moved - fresh).mean() < 0.2


def test_shaders_that_do_not_compile_are_not_called_a_lack_of_webgl(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720}, bypass_csp=True)
    page = context.new_page()
    page.add_init_script(
        """const {prototype} = WebGL2RenderingContext, {shaderSource} = prototype;
        prototype.shaderSource = function (shader, text) { shaderSource.call(this, shader, `${text} no shader`); };"""
    )
    page.goto(f"{address}#lang=en")
    page.wait_for_selector(".problem")
    assert "do not compile" in page.locator(".problem").inner_text()
    assert page.evaluate("() => glassformer.state.sceneLost.value") is None
    page.goto("about:blank")
    context.close()


def test_a_page_that_turns_narrow_keeps_its_scene(page: Page, address: str) -> None:
    """One canvas for both: were there a new one, a loss of the old one's context would be said for ever."""
    opened(page, address)
    page.evaluate(
        """() => {
            window.canvas = document.getElementById("scene");
            window.lose = window.canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
            window.lose.loseContext();
        }"""
    )
    page.wait_for_function("() => glassformer.state.sceneLost.value === 'lost'")
    page.set_viewport_size({"width": 640, "height": 720})
    page.wait_for_selector(".narrow")
    assert page.evaluate("() => document.getElementById('scene') === window.canvas")
    page.evaluate("() => window.lose.restoreContext()")
    page.wait_for_function("() => glassformer.state.sceneLost.value === null", timeout=60_000)
    settled(page)


def test_a_page_that_turns_narrow_keeps_what_has_been_written(page: Page, address: str) -> None:
    opened(page, address)
    page.keyboard.press("t")
    page.fill(".own-text-field", "CAB")
    page.set_viewport_size({"width": 640, "height": 720})
    page.wait_for_selector(".narrow")
    page.get_by_role("tab", name="Playground").click()
    assert page.input_value(".own-text-field") == "CAB"


def test_the_focus_stays_where_the_visitor_has_gone_before_the_next_frame(page: Page, address: str) -> None:
    """T leads to the temperature at once: a focus that waits for a slow frame takes the Enter of the text."""
    opened(page, address)
    went = page.evaluate(
        """async () => {
            const field = () => document.querySelector(".own-text-field");
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "t", bubbles: true}));
            for (let n = 0; n < 100; n++) await null; // what is under way, short of a frame
            const first = document.activeElement.id;
            field().focus();
            await new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)));
            return [first, document.activeElement === field()];
        }"""
    )
    assert went == ["temperature", True]


def test_the_server_going_away_is_said_in_a_sentence(browser: Browser, address: str) -> None:
    context = browser.new_context(bypass_csp=True)
    page = opened(context.new_page(), address)
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("n")
    page.wait_for_selector(".problem", timeout=60_000)
    assert page.locator(".problem p").inner_text() == "The server does not answer: is `glassformer view` still running?"
    context.close()


# ---- everybody


@pytest.mark.parametrize("link", ["lang=en&theme=light", "lang=zh&theme=dark"])
def test_axe_finds_nothing_serious(page: Page, address: str, link: str) -> None:
    opened(page, address, link)
    page.keyboard.press("t")
    page.wait_for_timeout(300)
    found = Axe().run(page)
    bad = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in bad] == []


def test_a_phone_shows_scene_and_walk(browser: Browser, address: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, bypass_csp=True
    )
    page = opened(context.new_page(), address)
    assert page.locator(".narrow").count() == 1
    assert page.evaluate("() => document.documentElement.scrollWidth <= 390")
    block = find(scene_of(page), "q", 0, 0)["id"]
    look_at(page, block)
    x, y = on_screen(page, block, 2, 3)
    page.touchscreen.tap(x, y)
    page.wait_for_function("() => glassformer.state.hover.value !== null || glassformer.state.pinned.value !== null")
    context.close()


def test_nobody_else_is_asked_for_anything(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, address)
    page.keyboard.press("n")
    page.wait_for_function("() => glassformer.state.tokens.value.length === 7", timeout=60_000)
    origin = address.split("/?", maxsplit=1)[0]
    assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []


# ---- one file


def test_an_exported_file_shows_the_same_with_the_network_off(
    browser: Browser, session: Session, tmp_path: Path
) -> None:
    path = export_html(session, tmp_path / "view.html")
    assert path.stat().st_size <= 1_000_000
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.set_offline(True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened(page, path.as_uri())
    settled(page)
    assert picture(page).std() > 8
    logits = page.evaluate(
        """async () => {
            const {state, source} = glassformer;
            const block = state.scene.value.blocks[state.scene.value.logits];
            return Array.from(await source.numbers(0, 0, block, 0, 0, ...block.size));
        }"""
    )
    assert np.array_equal(
        np.array(logits).reshape(3, 6).T.astype(np.float32), session.step(0, 0).trace["logits"].value[0].numpy()
    )
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_roles_have_colours_that_everybody_can_tell_apart(page: Page, address: str, theme: str):
    """ΔE*ab of 20 and more between any two, also for those who lack one kind of cone (docs/viewer.md, bar 22)."""
    opened(page, address, f"lang=en&theme={theme}")
    roles = page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            return ["weight", "computed", "statistic", "input", "gradient", "constant"]
                .map(role => style.getPropertyValue(`--${role}-plus`).trim());
        }"""
    )
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in roles)
    colours = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in roles])
    for cones in (None, "protanomaly", "deuteranomaly", "tritanomaly"):
        seen = colours
        if cones is not None:
            sight = {"name": "sRGB1+CVD", "cvd_type": cones, "severity": 100}
            seen = colorspacious.cspace_convert(colours, sight, "sRGB1").clip(0, 1)
        for one, other in itertools.combinations(seen, 2):
            assert colorspacious.deltaE(one, other, input_space="sRGB1", uniform_space="CIELab") >= 20, cones


def test_a_text_that_fills_the_model_ends_with_the_answer(page: Page) -> None:
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    with address_of(session) as address:
        opened(page, address)
        assert "It sorts six letters: CBABBC → ABBBCC. It holds" in page.inner_text(".story")
        for n in range(1, 6):
            page.keyboard.press("n")
            page.wait_for_function(f"glassformer.state.tokens.value.length === {6 + n}")
        assert page.inner_text(".ended") == "The answer is whole: ABBBCC"
        assert page.locator(".tokens .written").all_inner_texts() == list("ABBBC")
        assert page.locator("button.primary", has_text="Next token").is_disabled()
        page.keyboard.press("n")
        assert page.locator(".problem").count() == 0
        page.goto("about:blank")
