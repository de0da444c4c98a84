"""A session without its server: one file that opens from the disk, or a folder for any web server.

    export_html(trace, Path("view.html"))        page, records and numbers in one, about a megabyte for nano-sort
    export_folder(session, Path("site/view"))    the same in files; a browser reads them through http only

The same session gives the same bytes. What is inside is described where it is read: `web/src/data/pack.ts`.
"""

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glassformer import files
from glassformer.errors import ExportError
from glassformer.http_guard import content_security_policy
from glassformer.tracing.trace import Trace
from glassformer.viewer import assets
from glassformer.viewer.chapters import load_chapters, missing_roles
from glassformer.viewer.pack import blob_bytes
from glassformer.viewer.session import Session

MAX_FILE = 64 << 20  # bytes of numbers that a page carries in itself
MAX_TOKENS = 65_536  # of the vocabulary whose texts a page knows
MAX_FOLDER = 512 << 20  # and beside itself; a browser loads all those of a step
STYLE = re.compile(r"<link[^>]*href=\"[./]*app\.css\"[^>]*>")
SCRIPT = re.compile(r"<script[^>]*src=\"[./]*app\.js\"[^>]*></script>")


def export(shown: Session | Trace, path: Path, *, overwrite: bool = False) -> Path:
    """One file where the path ends in .html, else a folder."""
    write = export_html if is_file(path) else export_folder
    return write(shown, path, overwrite=overwrite)


def is_file(path: Path) -> bool:
    """Whether an export of this name is one file."""
    return path.suffix in (".html", ".htm")


def export_html(shown: Session | Trace, path: Path, *, overwrite: bool = False) -> Path:
    """Write one file that needs nothing else: no network, no server, no package."""
    text = page_of(shown)
    files.write_file(path, text.encode(), overwrite=overwrite)
    return path


def page_of(shown: Session | Trace) -> str:
    """The text of that file."""
    pack, blobs = _packed(shown, MAX_FILE)
    style = assets.page("app.css").decode()
    script = assets.page("app.js").decode().replace("</script", "<\\/script").replace("<!--", "<\\!--")
    parts = [
        _data("pack", "application/json", _zipped(_text(pack))),
        _data("data", "application/octet-stream", _zipped(_shuffled(blobs))),
        f"<script>{script}</script>",
    ]
    text = assets.page("index.html").decode()
    text = STYLE.sub(lambda _: f"<style>{style}</style>", text)
    text = SCRIPT.sub("", text).replace("</body>", "\n".join([*parts, "</body>"]))
    policy = content_security_policy("'none'", *assets.inline_hashes(text)).partition("; frame-ancestors")[0]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'
    return re.sub(r"(<meta charset=[^>]*>)", lambda match: f"{match[0]}\n{meta}", text, count=1)


def export_folder(shown: Session | Trace, directory: Path, *, overwrite: bool = False) -> Path:
    """Write a folder for a web server; one that holds other files than ours is refused."""
    pack, blobs = _packed(shown, MAX_FOLDER)
    with files.new_directory(directory, overwrite=overwrite) as folder:
        text = assets.page("index.html").decode()
        beside = '<script id="pack" type="application/json" data-src="pack.json"></script>'
        (folder / "index.html").write_text(SCRIPT.sub(lambda script: f"{beside}\n{script[0]}", text), "utf-8")
        for name in ("app.js", "app.css"):
            (folder / name).write_bytes(assets.page(name))
        (folder / "pack.json").write_bytes(_text(pack))
        (folder / "data").mkdir()
        for name, data in blobs.items():
            files.write(folder / "data" / f"{name}.bin", data)
    return directory


def _packed(shown: Session | Trace, limit: int) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """What the page reads, and the bytes that it names."""
    session = shown if isinstance(shown, Session) else Session.of_trace(shown)
    blobs: dict[str, memoryview] = {}
    for _, _, step in session.steps():
        blobs |= {name: blob_bytes(storage) for name, storage in step.blobs.items()}
    total = sum(data.nbytes for data in blobs.values())
    if total > limit:
        raise ExportError(
            f"The numbers of this model take {total / 2**20:,.0f} MiB, and at most {limit >> 20} fit into such a page: "
            f"take a shorter input or fewer steps, or",
            python="look at it with gf.view.",
            command="look at it in the browser, without --export.",
        )
    names = {name: str(number) for number, name in enumerate(blobs)}  # digests are nothing that zip could make smaller
    scenes = [step.scene for _, _, step in session.steps()]
    pack = {
        "session": session.to_json(live=False),
        "chapters": [one for one in load_chapters() if any(not missing_roles(scene, one) for scene in scenes)],
        "tokens": session.vocabulary()[:MAX_TOKENS],
        "pieces": {run.id: session.pieces(run.id) for run in session.runs},
        "steps": [
            {
                "run": run,
                "step": number,
                "scene": step.scene.to_json() | {"lazy": False},
                "trace": _named(step.records, names),
            }
            for run, number, step in session.steps()
        ],
        "blobs": {names[name]: data.nbytes for name, data in blobs.items()},
    }
    return pack, {names[name]: data for name, data in blobs.items()}


def _named(records: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The records of a step whose storages have these names for their blobs."""
    return records | {"storages": [each | {"blob": names[each["blob"]]} for each in records["storages"]]}


def _text(pack: dict[str, Any]) -> bytes:
    return json.dumps(pack, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _shuffled(blobs: dict[str, memoryview]) -> bytes:
    """All blobs, each filled up to a multiple of 4 bytes, first bytes first: what is alike stands together."""
    joined = b"".join(bytes(data) + bytes(-data.nbytes % 4) for data in blobs.values())
    return np.frombuffer(joined, np.uint8).reshape(-1, 4).T.tobytes()


def _zipped(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _data(name: str, media_type: str, content: str) -> str:
    return f'<script id="{name}" type="{media_type}">{content}</script>'
