"""The pictures of the viewer in docs/images/. Run: python benchmarks/viewer_pictures.py [NAME…]

It needs `chromium` on the PATH and a Chinese font, and takes seconds a picture, since the processor draws them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

import glassformer as gf
from glassformer.viewer.session import Session
from viewer import chromium, live

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def nano() -> Session:
    """The sorting model that the package carries."""
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    return session


def shapes() -> Session:
    """GPT-2 XL without its numbers."""
    return Session.of_shapes("gpt2-xl")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Where to look, and what to do there."""

    link: str
    session: Callable[[], Session] = nano
    do: str = "() => {}"
    size: tuple[int, int] = (1280, 720)
    touch: bool = False


LOOK = """(role, layer, head, from, margin) => {
    const {state, engine} = glassformer;
    const found = state.scene.value.blocks.filter(b => b.role === role && b.layer === layer && b.head === head
        && b.step_of === null);
    const cells = blocks => blocks.map(b => ({block: b.id, x0: 0, y0: 0, x1: b.size[0], y1: b.size[1]}));
    state.camera.value = engine.fit(cells(found), from, margin);
    return found[0];
}"""

PICTURES = {
    "overview": Picture(link="lang=en&theme=light", do="() => { glassformer.state.rightOpen.value = true; }"),
    "overview-zh": Picture(link="lang=zh&theme=light"),
    "dark": Picture(link="lang=en&theme=dark&chapter=heads&at=0"),
    "attention": Picture(
        link="lang=en&theme=light",
        do=f"""() => {{
            const block = ({LOOK})("scores", 0, 1, "front", 0.7);
            const tensor = glassformer.state.trace.value.tensors[block.tensor];
            const index = tensor.shape.map((n, axis) => [0, 1, 5, 2][axis] ?? 0);
            const pin = {{tensor: block.tensor, index, name: tensor.name, place: {{block: block.id, x: 5, y: 2}}}};
            glassformer.state.trail.value = {{pins: [pin], at: 0}};
        }}""",
    ),
    "numbers": Picture(link="lang=en&theme=light", do=f"""() => {{ ({LOOK})("weights", 1, 0, "front", 0.15); }}"""),
    "softmax-zh": Picture(link="lang=zh&theme=light&chapter=softmax&at=2"),
    "gpt2-xl": Picture(link="lang=en&theme=light", session=shapes),
    "phone": Picture(link="lang=en&theme=light&chapter=scores&at=3", size=(390, 844), touch=True),
}


def main() -> None:
    """Take the pictures that are named, or all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in sys.argv[1:] or PICTURES:
            take(browser, name, PICTURES[name])
            print(IMAGES / f"{name}.png")


def take(browser: Browser, name: str, picture: Picture) -> None:
    """Open the page there, wait until nothing moves, and keep what is seen."""
    width, height = picture.size
    with live(picture.session()) as address:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            has_touch=picture.touch,
            is_mobile=picture.touch,
            reduced_motion="reduce",
            bypass_csp=True,
        )
        page.goto(f"{address}#{picture.link}")
        page.wait_for_function("window.glassformer?.state.scene.value && window.glassformer.engine", timeout=120_000)
        page.evaluate("() => glassformer.ready")
        page.wait_for_timeout(2_000)
        page.evaluate(picture.do)
        rest(page)
        page.screenshot(path=IMAGES / f"{name}.png")
        page.close()


def rest(page: Page) -> None:
    """Until no more numbers arrive."""
    before = -1
    while (now := page.evaluate("() => glassformer.engine.stats().tileBytes")) != before:
        before = now
        page.wait_for_timeout(1_500)


if __name__ == "__main__":
    main()
