"""A long visit, and models of odd sizes: nothing breaks, nothing piles up, every number is the library's."""

import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page

import glassformer as gf
from glassformer.viewer.session import Session
from support.browser import address_of
from viewer.pages import opened, settled

LETTERS = "CBABBC"
RUNS = 12  # at most; as many steps as the page keeps
POINT = """async ([id, x, y]) => {
    const {state} = glassformer;
    state.hover.value = null;
    await new Promise(done => setTimeout(done, 20));
    state.hover.value = {block: id, x, y};
    for (let n = 0; n < 2000 && state.hoverAnswer.value === null; n++) await new Promise(done => setTimeout(done, 5));
    return state.hoverAnswer.value;
}"""


class Visit:
    """What a visitor does next, drawn at random; each action leaves the page usable for the next one."""

    def __init__(self, page: Page, session: Session, seed: int) -> None:
        self.page, self.session, self.random = page, session, random.Random(seed)
        self.pointed = 0

    def act(self) -> None:
        actions: list[Callable[[], None]] = [self.point, self.point, self.walk, self.write, self.go_on, self.dress]
        self.random.choice([*actions, self.resize, self.leave_and_return, self.lose_the_context])()

    def point(self) -> None:
        """At a cell: what the page says is the number that the library has."""
        run, number = self.page.evaluate("() => [glassformer.state.run.value, glassformer.state.step.value]")
        step = self.session.step(run, number)
        block = self.random.choice(step.scene.blocks)
        x, y = (self.random.randrange(n) for n in block.size)
        answer = self.page.evaluate(POINT, [block.id, x, y])
        expected = self.session.numbers(run, number, block.id, x, y, 1, 1)[0, 0]
        shown = np.float32(answer["cell"]["value"])
        assert np.array_equal(shown, np.float32(expected), equal_nan=True), (block.name, x, y)
        assert answer["check"] is None or answer["check"]["passed"], (block.name, x, y)
        self.pointed += 1

    def walk(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            self.page.keyboard.press(self.random.choice(["ArrowRight", "ArrowRight", "ArrowLeft", "PageDown"]))
            self.page.wait_for_timeout(100)

    def write(self) -> None:
        if len(self.session.runs) < RUNS:
            text = "".join(self.random.choices("ABC", k=6))
            before = len(self.session.runs)
            self.page.keyboard.press("Escape")
            self.page.keyboard.press("t")
            self.page.fill(".own-text-field", text)
            self.page.press(".own-text-field", "Enter")
            self.page.wait_for_function(f"() => glassformer.state.run.value === {before}", timeout=60_000)
            self.page.keyboard.press("Escape")

    def go_on(self) -> None:
        tokens = self.page.evaluate("() => glassformer.state.tokens.value.length")
        if tokens < 11:
            self.page.keyboard.press("n")
            self.page.wait_for_function(f"() => glassformer.state.tokens.value.length === {tokens + 1}", timeout=60_000)

    def dress(self) -> None:
        self.page.keyboard.press("l")  # the other language
        self.page.evaluate("theme => { glassformer.state.theme.value = theme; }", self.random.choice(["light", "dark"]))

    def resize(self) -> None:
        self.page.set_viewport_size(
            {"width": self.random.choice([320, 800, 1280]), "height": self.random.choice([240, 720])}
        )
        self.page.wait_for_function("() => glassformer.state.narrow.value === innerWidth <= 800")

    def leave_and_return(self) -> None:
        other = self.page.context.new_page()
        other.bring_to_front()
        self.page.wait_for_timeout(100)
        other.close()
        self.page.bring_to_front()

    def lose_the_context(self) -> None:
        self.page.evaluate(
            """async () => {
                const lose = document.getElementById("scene").getContext("webgl2").getExtension("WEBGL_lose_context");
                lose.loseContext();
                const {sceneLost} = glassformer.state;
                while (sceneLost.value === null) await new Promise(done => setTimeout(done, 5));
                for (let n = 0; n < 100 && sceneLost.value !== null; n++) {
                    lose.restoreContext();
                    await new Promise(done => setTimeout(done, 300));
                }
            }"""
        )
        self.page.wait_for_function("() => glassformer.state.sceneLost.value === null", timeout=60_000)


def heap(page: Page) -> int:
    """Bytes that the page's objects take once what nobody needs is gone."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    used: int = devtools.send("Runtime.getHeapUsage")["usedSize"]
    devtools.detach()
    return used


@pytest.mark.slow
def test_a_long_visit_breaks_nothing_and_piles_nothing_up(page: Page):
    seconds = 600
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text=LETTERS)
    with address_of(session) as address:
        opened(page, address)
        visit = Visit(page, session, seed=0)
        began = time.monotonic()
        settled_in = None  # the heap once the page keeps as many runs and steps as it ever does
        while time.monotonic() - began < seconds:
            visit.act()
            if settled_in is None and time.monotonic() - began > seconds / 2:
                while len(session.runs) < RUNS:  # which a slow machine has not come to
                    visit.write()
                settled_in = heap(page)
        assert visit.pointed
        assert settled_in is not None
        assert heap(page) < 1.1 * settled_in
        page.goto("about:blank")


@pytest.mark.parametrize(
    ("sizes", "tokens"),
    [
        ({"n_layers": 2, "d_model": 8, "n_heads": 2, "vocab_size": 5}, 1),
        pytest.param(
            {"n_layers": 100, "d_model": 4, "n_heads": 1, "vocab_size": 5},
            3,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"n_layers": 1, "d_model": 4, "n_heads": 1, "vocab_size": 5, "context_length": 10_000},
            10_000,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one token", "100 layers", "10,000 tokens"],
)
def test_a_model_of_odd_size_opens_and_explains(page: Page, sizes: dict[str, int], tokens: int):
    session = Session(gf.build("gpt2", **sizes), name="odd")
    session.run(tokens=[n % 5 for n in range(tokens)])
    with address_of(session) as address:
        opened(page, address)
        settled(page)
        visit = Visit(page, session, seed=1)
        for _ in range(8):
            visit.point()
        page.goto("about:blank")
