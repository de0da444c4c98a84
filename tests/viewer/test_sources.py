"""What the page computes from bytes, in a real browser: the numbers that the library has, wherever they come from."""

import base64
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

import glassformer as gf
from glassformer.viewer import assets, tiles
from glassformer.viewer.export import export
from glassformer.viewer.responses import answer
from glassformer.viewer.session import Session
from viewer.live import TOKEN, running

BASE64 = """
(array) => {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
"""
NUMBERS = f"""
async () => {{
  const base64 = {BASE64};
  const {{ source }} = window.glassformer;
  const {{ blocks }} = await source.scene(0, 0);
  const numbers = (b) => source.numbers(0, 0, b, 0, 0, b.size[0], b.size[1]);
  return Promise.all(blocks.map(async (block) => base64(await numbers(block))));
}}
"""
TILES = f"""
async (level) => {{
  const base64 = {BASE64};
  const {{ source }} = window.glassformer;
  const {{ blocks }} = await source.scene(0, 0);
  const tile = (b) => source.tile(0, 0, b, level, 0, 0);
  const found = await Promise.all(blocks.map(tile));
  return found.map((one) => [one.width, one.height, base64(one.values), base64(one.rms)]);
}}
"""
EXPLAIN = "([tensor, index]) => window.glassformer.source.explain(0, 0, tensor, index)"


@pytest.fixture(scope="module")
def session() -> Session:
    if not assets.page("app.js"):
        pytest.skip("the page has not been built: npm run build in web/")
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    return session


@pytest.fixture(params=["live", "lazy", "file", "folder"])
def opened(request: pytest.FixtureRequest, session: Session, tmp_path: Path, page: Page) -> Iterator[Page]:
    """The page on the same pass: from the server, from the server number by number, from a file, from a folder."""
    match request.param:
        case "live":
            with running(session) as live:
                yield went(page, f"http://localhost:{live.port}/?token={TOKEN}")
                assert "token" not in page.url
                left(page)
        case "lazy":
            scene = session.step(0, 0).scene
            scene.lazy = True
            with running(session) as live:
                yield went(page, f"http://localhost:{live.port}/?token={TOKEN}")
                left(page)
            scene.lazy = False
        case "file":
            page.context.set_offline(True)
            yield went(page, export(session, tmp_path / "view.html").as_uri())
        case "folder":
            handler = functools.partial(Quiet, directory=export(session, tmp_path / "view"))
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                yield went(page, f"http://127.0.0.1:{server.server_port}/")
                left(page)
                server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def went(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_function("window.glassformer?.ready", timeout=60_000)
    page.evaluate("window.glassformer.ready")
    return page


def left(page: Page) -> None:
    """Before the server ends, so that the page asks for nothing more."""
    page.goto("about:blank")


def test_the_page_has_the_library_s_numbers_bit_for_bit(opened: Page, session: Session):
    step = session.step(0, 0)
    found = opened.evaluate(NUMBERS)
    assert len(found) == len(step.scene.blocks) > 100
    for block, text in zip(step.scene.blocks, found, strict=True):
        expected = tiles.block_window(step.trace, block).astype("<f8")
        assert base64.b64decode(text) == expected.tobytes(), block.name
    for level in (0, 2):
        for block, (width, height, values, rms) in zip(step.scene.blocks, opened.evaluate(TILES, level), strict=True):
            theirs = session.tile(0, 0, block.id, level, 0, 0)
            for text, expected in zip((values, rms), theirs, strict=True):
                array = np.frombuffer(base64.b64decode(text), "<f4").reshape(height, width)
                assert np.array_equal(array, expected) or (
                    level and np.allclose(array, expected, rtol=2e-6, atol=1e-6, equal_nan=True)
                ), (block.name, level)


@pytest.mark.parametrize("cell", [("blocks.0.attn.scores", (0, 1, 5, 2)), ("blocks.1.mlp.activated", (0, 3, 7))])
def test_the_page_explains_as_python_does(opened: Page, session: Session, cell: tuple[str, tuple[int, ...]]):
    path, index = cell
    trace = session.step(0, 0).trace
    found = opened.evaluate(EXPLAIN, [trace[path].id, list(index)])
    expected = answer(trace, trace[path].id, index)
    assert found["cell"] == expected["cell"]
    assert found["check"]["passed"]
    assert [source["name"] for source in found["sources"]] == [source["name"] for source in expected["sources"]]


def test_a_page_of_another_origin_reads_nothing(session: Session, page: Page, browser: Any):
    with running(session) as live:
        own = f"http://localhost:{live.port}"
        went(page, f"{own}/?token={TOKEN}")
        stranger = page.context.new_page()  # with the same cookies
        stranger.route("http://evil.example/", lambda route: route.fulfill(body="<p>", content_type="text/html"))
        stranger.goto("http://evil.example/")
        attempts = """async (own) => {
          const tries = [
            fetch(`${own}/api/session`, { credentials: "include" }).then((r) => r.text()),
            fetch(`${own}/api/session`, { mode: "no-cors", credentials: "include" }).then((r) => r.text()),
            fetch(`${own}/api/runs`, { method: "POST", mode: "no-cors", credentials: "include", body: '{"text":"A"}' })
              .then((r) => r.text()),
            fetch(`${own}/api/runs`, { method: "POST", credentials: "include", body: '{"text":"A"}',
              headers: { "Content-Type": "application/json" } }).then((r) => r.text()),
            new Promise((done) => {
              const frame = document.body.appendChild(document.createElement("iframe"));
              frame.onload = () => { try { done(frame.contentDocument.body.textContent); } catch { done(""); } };
              frame.src = own;
            }),
            new Promise((done) => {
              const script = document.body.appendChild(document.createElement("script"));
              script.onload = () => done("ran");
              script.onerror = () => done("");
              script.src = `${own}/app.js`;
            }),
            new Promise((done) => {
              const socket = new WebSocket(own.replace("http", "ws") + "/api/events");
              socket.onopen = () => done("open");
              socket.onerror = () => done("");
            }),
          ];
          return Promise.all(tries.map((one) => one.catch(() => "")));
        }"""
        assert set(stranger.evaluate(attempts, own)) == {""}
        assert len(session.runs) == 1
        left(page)


def test_no_text_that_is_typed_runs_as_a_script(page: Page, session: Session):
    from glassformer.tokenizers import CharTokenizer
    from viewer.attacks import ATTACKS

    tokenizer = CharTokenizer("".join(sorted(set("".join(ATTACKS)))))
    size = tokenizer.vocab_size
    small = gf.build("gpt2", vocab_size=size, n_layers=1, d_model=8, n_heads=1, context_length=80, tokenizer=tokenizer)
    hostile = Session(small, name=ATTACKS[0])
    for attack in ATTACKS[::6]:
        hostile.run(text=attack)
    page.add_init_script("window.alert = () => { window.ran = true; };")
    with running(hostile) as live:
        for run in range(0, len(hostile.runs), 6):
            went(page, f"http://localhost:{live.port}/?token={TOKEN}#run={run}")
            page.wait_for_timeout(500)
            assert page.evaluate("window.ran") is None
        left(page)
