"""The pictures of the viewer in docs/images/. Run:

PYTHONPATH=tests python tools/viewer_pictures.py [NAME…]

It needs `chromium` on the PATH and a Chinese font, and takes seconds a picture, since the processor draws them. Without
names it takes those of models that are here already. The others show trained models: the runs of configs/ in the folder
of runs, and published weights in the folder that GLASSFORMER_DATA names.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

import glassformer as gf
from glassformer.data.images import read_idx_set
from glassformer.inference.logits import Sampling
from glassformer.kinds import kind_of
from glassformer.viewer.session import Session
from support.browser import address_of, chromium

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DATA = Path(os.environ.get("GLASSFORMER_DATA", "../shared/data"))
RUNS = Path("runs")


def nano() -> Session:
    """The sorting model that the package carries."""
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    return session


def shapes() -> Session:
    """GPT-2 XL without its numbers."""
    return Session.of_shapes("gpt2-xl")


def reading(model: gf.Model, given: str, name: str, n_tokens: int = 0) -> Session:
    """A model that has read something, and written so many tokens; the last pass is shown."""
    session = Session(model, name=name)
    first = kind_of(model).read(model, given)
    for _ in range(n_tokens):
        run = session.start(first)
        session.next(run.id, Sampling(temperature=0.0))
        first = session.runs.pop().steps[-1].inputs
    session.start(first)
    return session


def phonemes() -> Session:
    """A published network that spells words in sounds: two GRUs and one vector between."""
    return reading(gf.load(DATA / "seq2seq" / "g2p_en-checkpoint20.npz"), "mirror", "g2p_en", 4)


def luong() -> Session:
    """Luong's attention, trained by configs/multi30k-luong.toml."""
    return reading(gf.load(RUNS / "multi30k-luong"), "A dog runs through the snow.", "multi30k-luong", 6)


def translator() -> Session:
    """The first Transformer at a small size, trained by configs/multi30k-en-de.toml."""
    return reading(gf.load(RUNS / "multi30k-en-de"), "A dog runs through the snow.", "multi30k-en-de", 6)


def stories() -> Session:
    """A published Llama."""
    return reading(gf.load(DATA / "llama" / "stories260K.bin"), "Once upon a time", "stories260K")


def digits() -> Session:
    """A picture read by the Vision Transformer that configs/vit-mnist.toml trains."""
    folder = DATA / "images" / "mnist"
    pictures = read_idx_set(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "digit.png"
        Image.fromarray(pictures.pixels[0, 0].numpy()).save(path)
        return reading(gf.load(RUNS / "vit-mnist"), str(path), "vit-mnist")


def speech() -> Session:
    """Whisper hears a recording: runs/tiny.en is what `glassformer convert` makes of OpenAI's tiny.en.pt."""
    return reading(gf.load(RUNS / "tiny.en"), str(DATA / "audio" / "jfk-16k.wav"), "whisper-tiny.en", 3)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Where to look, and what to do there."""

    link: str
    session: Callable[[], Session] = nano
    do: str = "() => {}"
    size: tuple[int, int] = (1280, 720)
    touch: bool = False
    trained: bool = False  # it needs a run or published weights


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
    **{
        name: Picture(link=f"lang={language}&theme=light&chapter={chapter}&at={step}", session=session, trained=True)
        for name, session, language, chapter, step in (
            ("recurrent", phonemes, "en", "recurrent", 0),
            ("luong", luong, "en", "luong", 4),
            ("luong-zh", luong, "zh", "luong", 5),
            ("encoder-decoder", translator, "en", "encoder-decoder", 0),
            ("cross-attention-zh", translator, "zh", "encoder-decoder", 5),
            ("swiglu", stories, "en", "llama", 6),
            ("rope", stories, "en", "rope", 3),
            ("patches", digits, "en", "image", 1),
            ("class-token-zh", digits, "zh", "image", 7),
            ("log-mel", speech, "en", "speech", 3),
        )
    },
    "phone": Picture(link="lang=en&theme=light&chapter=scores&at=3", size=(390, 844), touch=True),
}


def main() -> None:
    """Take the pictures that are named, or all that need nothing else."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in sys.argv[1:] or [name for name, picture in PICTURES.items() if not picture.trained]:
            take(browser, name, PICTURES[name])
            print(IMAGES / f"{name}.png")


def take(browser: Browser, name: str, picture: Picture) -> None:
    """Open the page there, wait until nothing moves, and keep what is seen."""
    width, height = picture.size
    with address_of(picture.session()) as address:
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
