"""Pages without a server: whole, the same every time, and closed to the network."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glassformer as gf
from glassformer.errors import CheckpointError, ExportError
from glassformer.inference.logits import Sampling
from glassformer.viewer import assets, export, notebook, pack
from glassformer.viewer.chapters import load_chapters, missing_roles
from glassformer.viewer.session import Session
from support.commands import run


@pytest.fixture(scope="module")
def session() -> Session:
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    return session


def unpacked(page: str) -> tuple[Any, dict[str, bytes]]:
    """What the page finds in itself, read as `web/src/data/pack.ts` reads it."""
    content, data = (
        gzip.decompress(base64.b64decode(re.search(rf'<script id="{name}"[^>]*>([^<]*)</script>', page)[1]))  # type: ignore[index]
        for name in ("pack", "data")
    )
    found = json.loads(content)
    joined = np.frombuffer(data, np.uint8).reshape(4, -1).T.tobytes()
    blobs, at = {}, 0
    for name, nbytes in found["blobs"].items():
        blobs[name] = joined[at : at + nbytes]
        at += -(-nbytes // 4) * 4
    assert at == len(joined)
    return found, blobs


def test_one_file_has_every_number_bit_for_bit(session: Session, tmp_path: Path):
    path = export.export_html(session, tmp_path / "new" / "view.html")
    found, blobs = unpacked(path.read_text())
    (step,) = found["steps"]
    trace = session.step(0, 0).trace
    for record, storage in zip(step["trace"]["storages"], trace.storages, strict=True):
        assert blobs[record["blob"]] == bytes(pack.blob_bytes(storage.bytes))
    assert found["session"]["live"] is False
    assert not any(found["session"]["can"].values())
    fitting = [one["id"] for one in load_chapters() if not missing_roles(session.step(0, 0).scene, one)]
    assert len(fitting) == 16
    assert [one["id"] for one in found["chapters"]] == fitting


def test_the_nano_sorter_is_at_most_a_megabyte(session: Session, tmp_path: Path):
    assert export.export_html(session, tmp_path / "view.html").stat().st_size <= 1_000_000


def test_the_same_session_gives_the_same_bytes_and_so_does_the_same_model_again(session: Session):
    again = Session(gf.load("nano-sort"), name="nano-sort")
    again.run(text="CBABBC")
    first = export.page_of(session)
    assert first == export.page_of(session)
    assert first == export.page_of(again)


def test_a_page_from_the_disk_may_run_its_own_script_and_reach_nothing(session: Session):
    page = export.page_of(session)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "connect-src &#x27;none&#x27;" in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    assert assets.digest(scripts[0]) in policy[1]
    addresses = re.findall(r"(?:src|href)=\"(?!data:|#)([^\"]*)\"", page.partition("<script")[0])
    assert addresses == [], "nothing is fetched"


def test_hostile_text_stays_within_the_pack(tmp_path: Path):
    from glassformer.tokenizers import CharTokenizer

    text = "</script><script>alert(1)</script><!--"
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    size = tokenizer.vocab_size
    small = gf.build("gpt2", vocab_size=size, n_layers=1, d_model=8, n_heads=1, context_length=64, tokenizer=tokenizer)
    session = Session(small, name=text)
    session.run(text=text)
    page = export.page_of(session)
    assert "alert(1)" not in page
    assert unpacked(page)[0]["session"]["model"]["name"] == text


def test_recorded_steps_share_the_weights(tmp_path: Path):
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    session.next(0, Sampling(temperature=0.0))
    apart = sum(storage.nbytes() for _, _, step in session.steps() for storage in step.blobs.values())
    found, blobs = unpacked(export.page_of(session))
    assert [(step["run"], step["step"]) for step in found["steps"]] == [(0, 0), (0, 1)]
    assert [token["text"] for token in found["session"]["runs"][0]["steps"][1]["tokens"]] == list("CBABBCA")
    weights = 4 * 85_728
    assert sum(map(len, blobs.values())) <= apart - weights


def test_a_folder_has_the_same_in_files_and_replaces_only_itself(session: Session, tmp_path: Path):
    folder = tmp_path / "view"
    export.export(session, folder)
    content = json.loads((folder / "pack.json").read_text())
    found, blobs = unpacked(export.page_of(session))
    assert content == found
    for name, data in blobs.items():
        assert (folder / "data" / f"{name}.bin").read_bytes() == data
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="is there already"):
        export.export(session, folder)
    export.export(session, folder, overwrite=True)
    assert before == {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    page = (folder / "index.html").read_text()
    assert 'data-src="pack.json"' in page
    if "app.js" in page:
        assert page.index("pack.json") < page.index("app.js"), "the script finds it when it begins"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.txt"):
        export.export(session, tmp_path / "mine", overwrite=True)


def test_a_model_that_is_too_large_is_refused_with_a_sentence(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "MAX_FILE", 1 << 16)
    with pytest.raises(ExportError, match=r"a shorter input or fewer steps, or look at it with gf\.view"):
        export.page_of(session)


def test_a_trace_exports_itself(tmp_path: Path):
    trace = gf.trace(gf.load("nano-sort"), "CAB")
    path = trace.export(tmp_path / "view.html")
    found, _ = unpacked(path.read_text())
    assert [token["id"] for token in found["session"]["runs"][0]["steps"][0]["tokens"]] == [2, 0, 1]


def test_a_stranger_s_trace_cannot_have_our_files_shown(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the key is 1234\n")
    trace = gf.trace(gf.load("nano-sort"), "CAB")
    trace.save(tmp_path / "cab")
    records = (tmp_path / "cab" / "trace.json").read_text()
    first = json.loads(records)["sources"][0]["file"]
    (tmp_path / "cab" / "trace.json").write_text(records.replace(json.dumps(first), json.dumps(str(secret))))
    (tmp_path / "cab" / "manifest.json").unlink()
    session = Session.of_trace(gf.load_trace(tmp_path / "cab"))
    assert "1234" not in json.dumps(session.step(0, 0).records)


def test_a_notebook_shows_the_page_in_a_frame():
    shown = notebook.Frame('<p title="x">1 < 2</p>', 500)._repr_html_()
    assert 'sandbox="allow-scripts"' in shown
    assert "&lt;p title=&quot;x&quot;&gt;1 &lt; 2&lt;/p&gt;" in shown
    assert not notebook.in_notebook()
    pytest.importorskip("anywidget", reason="the extra notebook: anywidget is not installed")
    widget = notebook.shown("<p>1</p>")
    assert (widget.page, widget.height) == ("<p>1</p>", notebook.HEIGHT)


def test_the_command_writes_a_file_with_recorded_steps(tmp_path: Path):
    told = json.loads(run("view", "nano-sort", "--steps", "2", "--export", "v.html", "--json", cwd=tmp_path).stdout)
    assert told == {"path": "v.html", "bytes": (tmp_path / "v.html").stat().st_size}
    assert len(unpacked((tmp_path / "v.html").read_text())[0]["steps"]) == 3


def test_a_place_that_is_no_folder_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    done = run("view", "nano-sort", "--export", "file/view.html", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "x"
