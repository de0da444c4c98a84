"""The viewer's bars: bytes, milliseconds and megabytes in headless Chromium. Run:

PYTHONPATH=tests python benchmarks/viewer.py

Frames are counted in processor time of Chromium's GPU process, since SwiftShader draws there and wall time on a shared
machine says little. It needs `chromium` on the PATH, and playwright and psutil (the `dev` extra).
"""

import argparse
import gzip
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import psutil
from paired import save
from PIL import Image
from playwright.sync_api import Browser, Page

import glassformer as gf
from glassformer.viewer import assets
from glassformer.viewer.export import export_html
from glassformer.viewer.session import Session
from support.browser import address_of, chromium

MEMORY = ("--enable-precise-memory-info", "--js-flags=--expose-gc")  # the page may ask how much it takes, and tidy
FRAMES = 24
ROOT = Path(__file__).resolve().parents[1]
SYNTHETIC = Path(__file__).with_name("viewer_synthetic.js").read_text()
HELD = {  # bars that hold or do not, by the tests that say so
    "published numbers, sorts and sureness": ("parity/test_real_weights.py", ""),
    "chapters": ("viewer", "test_chapters"),
    "languages": ("viewer/test_page.py", "walk_runs"),
    "accessibility": ("viewer/test_page.py", "axe or keyboard"),
    "colours": ("viewer/test_page.py", "roles_have_colours or colours_of_their_numbers"),
    "privacy": ("viewer/test_page.py", "nobody_else or network_off"),
}


def main() -> None:
    """Print and save the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--large", action="store_true", help="also GPT-2 XL with random weights: 20 GB of memory")
    large = arguments.parse_args().large
    rows: dict[str, Any] = {}
    rows |= sizes()
    nano = Session(gf.load("nano-sort"), name="nano-sort")
    nano.run(text="CBABBC")
    rows |= first_frame(nano)
    with chromium(*MEMORY) as browser, address_of(nano) as address:
        page = opened(browser, address)
        rows["frame, nano-sort"] = frames(page)
        page.set_viewport_size({"width": 640, "height": 720})
        page.wait_for_timeout(1_000)
        rows["frame, nano-sort, half as wide"] = frames(page)
        page.set_viewport_size({"width": 1280, "height": 720})
        page.wait_for_timeout(1_000)
        rows |= answers(page)
        rows["one more token"] = stepping(page, tokens=6, steps=4)
        rows["context lost and back, ms"] = context_loss(page)
        rows["every cell explained"] = every_cell(page)
        for name, boxes, side in (("4.2 M cells", 64, 256), ("100 M cells", 1526, 256)):
            rows[f"frame, {name} in {boxes} boxes"] = synthetic(page, boxes, side)
        rows["pixels that differ in three visits"] = unlike(browser, address)
    rows |= {f"tests of {name}": held(*tests) for name, tests in HELD.items()}
    for name, positions in (("gpt2", 16), *((("gpt2-xl", 4),) if large else ())):
        rows |= large_model(name, positions)
    save("viewer", rows)
    print(json.dumps(rows, indent=1))


# ---- bytes


def sizes() -> dict[str, Any]:
    """Bars 1, 2 and 3."""
    page = {name: assets.page(name) for name in ("app.js", "app.css")}
    with tempfile.TemporaryDirectory() as folder:
        session = Session(gf.load("nano-sort"), name="nano-sort")
        session.run(text="CBABBC")
        one_file = export_html(session, Path(folder) / "view.html").stat().st_size
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT)], check=True
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            share = sum(info.compress_size for info in archive.infolist() if "/viewer/" in info.filename)
    return {
        "script and style, bytes": sum(map(len, page.values())),
        "script and style, bytes gzipped": sum(len(gzip.compress(data, 9)) for data in page.values()),
        "viewer's share of the wheel, bytes": share,
        "nano-sort in one file, bytes": one_file,
    }


# ---- the browser


def opened(browser: Browser, address: str) -> Page:
    """The page, ready and at rest."""
    page = browser.new_page(viewport={"width": 1280, "height": 720}, bypass_csp=True)
    page.goto(f"{address}#lang=en&theme=light")
    page.wait_for_function("window.glassformer?.state.scene.value && window.glassformer.engine", timeout=120_000)
    page.evaluate("() => glassformer.ready")
    page.wait_for_timeout(2_000)
    return page


def processes(kind: str) -> list[psutil.Process]:
    """Chromium's processes of a kind, below this one."""
    return [p for p in psutil.Process().children(recursive=True) if f"--type={kind}" in p.cmdline()]


def cpu(kind: str) -> float:
    """Seconds of processor time that they have taken."""
    return sum(sum(p.cpu_times()[:2]) for p in processes(kind))


def first_frame(session: Session) -> dict[str, Any]:
    """Bar 4: processor time of a fresh browser until the whole model is drawn with its numbers."""
    took = []
    for _ in range(3):
        with address_of(session) as address, chromium(*MEMORY) as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 720}, bypass_csp=True)
            before = {kind: cpu(kind) for kind in ("gpu-process", "renderer")}
            page.goto(f"{address}#lang=en&theme=light")
            page.wait_for_function("window.glassformer?.state.scene.value && window.glassformer.engine")
            page.evaluate(DRAWN)
            took.append({kind: cpu(kind) - was for kind, was in before.items()})
    middle = sorted(took, key=lambda kinds: sum(kinds.values()))[1]
    return {"processor seconds to the first whole frame": {"sum": sum(middle.values()), **middle}}


DRAWN = """async () => {
    await glassformer.ready;
    const quiet = () => new Promise(done => setTimeout(done, 150));
    const loaded = () => glassformer.engine.stats().tileBytes;
    for (let n = -1; n !== loaded(); await quiet()) n = loaded();
}"""

TURN = """async frames => {
    const {state, engine} = glassformer;
    const gl = document.getElementById("scene").getContext("webgl2");
    const pose = state.camera.value, js = [], pixel = new Uint8Array(4);
    const begun = performance.now();
    for (let i = 0; i < frames; i++) {
        engine.draw(state_stage(), {...pose, azimuth: pose.azimuth + 0.4 * i});
        js.push(engine.stats().cpuMs);
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
        await new Promise(requestAnimationFrame);
    }
    const {boxes, drawCalls, tileBytes} = engine.stats();
    js.sort((a, b) => a - b);
    const fps = 1000 * frames / (performance.now() - begun);
    return {js: js[js.length >> 1], boxes, drawCalls, tileBytes, fps};
}"""
STAGE = """() => { window.state_stage = () => ({opacity: new Map(), offset: new Map(), fills: new Map(),
    glows: [], arcs: [], flights: [], notes: [], unroll: null, popup: null}); }"""


def frames(page: Page) -> dict[str, Any]:
    """Processor time of a frame while the camera turns."""
    page.evaluate(STAGE)
    page.evaluate(TURN, 4)
    before = cpu("gpu-process")
    found = page.evaluate(TURN, FRAMES)
    return {"gpu_process_ms": 1e3 * (cpu("gpu-process") - before) / FRAMES, "javascript_ms": found.pop("js"), **found}


def synthetic(page: Page, boxes: int, side: int) -> dict[str, Any]:
    """Bars 6 and 7: many boxes of 256 × 256 random numbers."""
    page.evaluate(STAGE)
    page.evaluate(SYNTHETIC, [boxes, side])
    page.wait_for_timeout(1_500)
    page.evaluate("() => window.synthetic(4)")
    before = cpu("gpu-process")
    found = page.evaluate("frames => window.synthetic(frames)", FRAMES)
    return {"gpu_process_ms": 1e3 * (cpu("gpu-process") - before) / FRAMES, **found}


# ---- asking


def answers(page: Page) -> dict[str, Any]:
    """Bar 16: from pointing at a cell to its explanation on the page."""
    took = page.evaluate(
        """async () => {
            const {state} = glassformer, took = [];
            const blocks = state.scene.value.blocks
                .filter(({kind, step_of}) => kind === "computed" && step_of === null);
            for (let i = 0; i < 60; i++) {
                const block = blocks[(i * 7) % blocks.length];
                state.hover.value = null;
                await new Promise(done => setTimeout(done, 30));
                const begun = performance.now();
                state.hover.value = {block: block.id, x: i % block.size[0], y: (3 * i) % block.size[1]};
                while (state.hoverAnswer.value === null) await new Promise(done => setTimeout(done, 1));
                took.push(performance.now() - begun);
            }
            return took.sort((a, b) => a - b);
        }"""
    )
    return {"hover to explanation, ms": {"median": took[len(took) // 2], "largest": took[-1]}}


def stepping(page: Page, tokens: int, steps: int) -> dict[str, float]:
    """Bar 17: milliseconds from the key to the new token's scene, of a text of so many tokens at first; the medians.

    `recorded` is when the server has run and recorded the pass, `fetched` when scene, records and bytes are here.
    """
    took = []
    for n in range(tokens, tokens + steps):
        took.append(
            page.evaluate(
                """async n => {
                    performance.clearResourceTimings();
                    const begun = performance.now();
                    document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "n", bubbles: true}));
                    while (glassformer.state.tokens.value.length <= n) await new Promise(done => setTimeout(done, 1));
                    const asked = performance.getEntriesByType("resource");
                    const end = part => Math.max(...asked.filter(e => e.name.includes(part)).map(e => e.responseEnd));
                    return [end("/next"), end("/api/"), performance.now()].map(t => t - begun);
                }""",
                n,
            )
        )
    recorded, fetched, shown = (statistics.median(times) for times in zip(*took, strict=True))
    return {"recorded_ms": recorded, "fetched_ms": fetched, "shown_ms": shown}


def every_cell(page: Page) -> dict[str, Any]:
    """Bar 12: all cells of all blocks, each explained and recomputed in the page."""
    return dict(
        page.evaluate(
            """async () => {
                const {state, source} = glassformer;
                const {tensors} = state.trace.value;
                let computed = 0, outside = 0, failures = 0;
                const seen = new Set(), begun = performance.now();
                for (const block of state.scene.value.blocks) {
                    const record = tensors[block.tensor];
                    for (let y = 0; y < block.size[1]; y++) for (let x = 0; x < block.size[0]; x++) {
                        const element = block.offset + x * block.strides[0] + y * block.strides[1];
                        const key = block.storage * 2 ** 32 + element;
                        if (seen.has(key)) continue;
                        seen.add(key);
                        let rest = element - record.offset;
                        const index = record.shape.map(() => 0);
                        const order = record.strides.map((_, axis) => axis)
                            .sort((a, b) => record.strides[b] - record.strides[a]);
                        for (const axis of order) {
                            if (record.strides[axis] <= 0 || record.shape[axis] === 1) continue;
                            index[axis] = Math.floor(rest / record.strides[axis]);
                            rest -= index[axis] * record.strides[axis];
                        }
                        const answer = await source.explain(state.run.value, state.step.value, block.tensor, index);
                        if (answer.check === null) outside++;
                        else { computed++; if (!answer.check.passed) failures++; }
                    }
                }
                return {computed, "from outside": outside, failures, seconds: (performance.now() - begun) / 1000};
            }"""
        )
    )


def context_loss(page: Page) -> float:
    """Bar 23: milliseconds from the context's return to a drawn scene."""
    return float(
        page.evaluate(
            """async () => {
                const canvas = document.getElementById("scene");
                const lose = canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
                lose.loseContext();
                await new Promise(done => setTimeout(done, 300));
                const begun = performance.now();
                lose.restoreContext();
                while (glassformer.state.sceneLost.value !== null) await new Promise(done => setTimeout(done, 2));
                await new Promise(requestAnimationFrame);
                return performance.now() - begun;
            }"""
        )
    )


def unlike(browser: Browser, address: str) -> int:
    """Bar 25: how many pixels of the scene are not the same in three fresh pages."""
    pictures = []
    for _ in range(3):
        page = browser.new_page(viewport={"width": 1280, "height": 720}, bypass_csp=True, reduced_motion="reduce")
        page.goto(f"{address}#lang=en&theme=light&run=0&step=0")
        page.wait_for_function("window.glassformer?.state.scene.value && window.glassformer.engine")
        page.evaluate(DRAWN)
        page.wait_for_timeout(1_000)
        pictures.append(np.asarray(Image.open(io.BytesIO(page.locator("#scene").screenshot())).convert("RGB")))
        page.close()
    first, *others = pictures
    return int(np.any([(first != other).any(-1) for other in others], axis=0).sum())


# ---- what holds or does not


def held(path: str, words: str) -> dict[str, int]:
    """Bars 15, 19 to 22 and 24: how many tests pass, and how many do not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", f"--junitxml={report}", "-k", words]
        subprocess.run([*command, f"tests/{path}"], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        counts = ElementTree.parse(report).getroot()[0].attrib
    unlike = sum(int(counts[kind]) for kind in ("failures", "errors", "skipped"))
    return {"passed": int(counts["tests"]) - unlike, "not passed": unlike}


# ---- large models


def large_model(preset: str, positions: int) -> dict[str, Any]:
    """Bars 8 to 11, 16 and 17 on a model that the page cannot hold: random weights, numbers by tile."""
    begun = time.perf_counter()
    model = gf.build(preset)
    session = Session(model, name=preset)
    session.run(tokens=list(range(100, 100 + positions)))
    rows: dict[str, Any] = {f"{preset}: built, recorded and laid out, seconds": time.perf_counter() - begun}
    rows[f"{preset}: blocks"] = len(session.step(0, 0).scene.blocks)
    with chromium(*MEMORY) as browser, address_of(session) as address:
        page = opened(browser, address)
        page.wait_for_timeout(6_000)
        rows[f"frame, {preset}"] = frames(page)
        rows |= {f"{preset}: {key}": value for key, value in answers(page).items()}
        page.evaluate("() => window.gc?.()")
        rows[f"{preset}: JavaScript heap, MB"] = page.evaluate("() => performance.memory.usedJSHeapSize / 1e6")
        if preset == "gpt2":
            rows[f"{preset}: one more token"] = stepping(page, tokens=positions, steps=2)
    return rows


if __name__ == "__main__":
    main()
