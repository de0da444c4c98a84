"""A gallery is a site of pages that open from the disk and from any web server, with links into their chapters."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page

import glassformer as gf
from glassformer.viewer.drawing import drawing
from glassformer.viewer.gallery import write_gallery
from glassformer.viewer.session import Session
from support.commands import run
from support.viewed import recorded


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "site"
    done = run("gallery", str(folder), "nano-sort", "shapes:gpt2", "shapes:gpt2", "--steps", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert '"nano-sort.html"' in done.stdout
    return folder


def test_each_model_has_a_page_and_two_of_one_name_have_two(site: Path) -> None:
    assert {path.name for path in site.glob("*.html")} == {
        "index.html",
        "nano-sort.html",
        "gpt2.html",
        "gpt2-2.html",
    }
    index = (site / "index.html").read_text("utf-8")
    assert index.count("<article>") == 3
    for text in ("It sorts six letters.", "它把六个字母按字母顺序排好。", "85,728 parameters", "without their numbers"):
        assert text in index
    assert "<script" not in index
    assert "http:" not in index.replace("http://www.w3.org/2000/svg", "")


class Quiet(SimpleHTTPRequestHandler):
    """It tells nobody."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_links_lead_into_chapters_from_the_disk_and_from_a_server(site: Path, served: str, page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    for address in (f"file://{site}", served):
        page.goto(f"{address}/index.html")
        page.locator("article").first.get_by_role("link", name="Softmax").click()
        page.wait_for_function("window.glassformer?.state.chapter.value === 'softmax'", timeout=60_000)
        assert page.url.startswith(f"{address}/nano-sort.html")
        assert page.evaluate("glassformer.state.steps.value.length") == 2  # the text grows by a letter
        page.goto("about:blank")
    assert faults == []


@pytest.mark.parametrize("name", ["nano-sort", "encoder-decoder pre-norm", "vit"])
def test_a_picture_is_a_drawing_within_its_frame(name: str) -> None:
    scene = Session.of_trace(recorded(name)[0]).step(0, 0).scene
    drawn = ElementTree.fromstring(drawing(scene, 300, 200))
    paths = [path.attrib["d"] for path in drawn if path.tag.endswith("path")]
    assert len(paths) >= 3 * min(len(scene.blocks), 30)
    corners = [tuple(map(float, corner.split())) for path in paths for corner in path.strip("MZ").split("L")]
    assert all(0 <= x <= 300 and 0 <= y <= 200 for x, y in corners)
    assert max(x for x, _ in corners) > 200 or max(y for _, y in corners) > 150


def test_what_cannot_be_shown_leaves_no_site_behind(tmp_path: Path) -> None:
    for arguments in (("no-such-folder",), ("nano-sort", "--steps", "-1"), ("preset:nothing",)):
        done = run("gallery", str(tmp_path / "site"), *arguments)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) <= 2
        assert not (tmp_path / "site").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassformer.viewer.export.MAX_FILE", 1000)
        done = run("gallery", str(tmp_path / "site"), "nano-sort", "--steps", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("nano-sort does not fit into a page")
    assert not (tmp_path / "site").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = run("gallery", str(tmp_path / "mine"), "nano-sort")
    assert done.returncode == 2
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    with pytest.raises(gf.GlassformerError, match="needs a model"):
        write_gallery([], tmp_path / "site")
