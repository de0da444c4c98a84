"""A site of models: an index with their pictures, and the page of each, which opens by itself.

Nothing in it needs a server, a network or a script beyond the pages': it opens from the disk, and any web server serves
it. The same models give the same bytes.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.errors import ExportError
from glassformer.http_guard import content_security_policy
from glassformer.viewer import assets
from glassformer.viewer.chapters import load_chapters, missing_roles
from glassformer.viewer.drawing import drawing
from glassformer.viewer.export import MAX_FILE, page_of
from glassformer.viewer.session import Session

STYLE = """
:root { color-scheme: dark; --paper: #0e141c; --card: #151d28; --ink: #e6ecf3; --quiet: #a3b1c2; --accent: #5fd6b2; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.7rem; margin: 0; } h1 + p, footer { color: var(--quiet); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.25rem; }
article { background: var(--card); border-radius: 12px; padding: 1rem 1.2rem 1.2rem; }
article svg { display: block; width: 100%; height: auto; } h2 { margin: .4rem 0 .2rem; font-size: 1.2rem; }
a { color: var(--accent); } a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); } ul { margin: .5rem 0 0; padding: 0; list-style: none; }
li { display: inline-block; margin: 0 .9rem .15rem 0; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A model in the index, and its page."""

    name: str
    page: str
    card: str


def write_gallery(
    sessions: Iterable[Session], directory: Path, *, overwrite: bool = False, on_page: Callable[[str], None] = print
) -> list[str]:
    """Write the site; the names of its pages. Each session is let go before the next is asked for.

    `on_page` hears of each page that is written.
    """
    exhibits: list[Exhibit] = []
    with files.new_directory(directory, overwrite=overwrite) as folder:
        for session in sessions:
            exhibit = _exhibit(session, {each.page for each in exhibits})
            try:
                text = page_of(session)
            except ExportError:
                raise ExportError(
                    f"{session.name} does not fit into a page, which carries at most {MAX_FILE >> 20} MiB of numbers: "
                    "leave it out, or let it write fewer tokens."
                ) from None
            files.write(folder / exhibit.page, text.encode())
            exhibits.append(exhibit)
            on_page(exhibit.page)
        if not exhibits:
            raise ExportError("A gallery needs a model.")
        files.write(folder / "index.html", _index(exhibits).encode())
    return [each.page for each in exhibits]


def _exhibit(session: Session, pages: set[str]) -> Exhibit:
    slug = re.sub(r"[^a-z0-9.]+", "-", session.name.lower()).strip("-.") or "model"
    slug = "model" if slug == "index" else slug
    numbered = (f"{slug}.html" if n == 1 else f"{slug}-{n}.html" for n in range(1, len(pages) + 2))
    page = next(name for name in numbered if name not in pages)
    return Exhibit(name=session.name, page=page, card="\n".join(_card(session, page)))


def _card(session: Session, page: str) -> Iterator[str]:
    scene = session.step(session.runs[0].id, 0).scene
    about: dict[str, str] | None = scene.model["about"]
    yield "<article>"
    yield f'<a href="{page}" aria-hidden="true" tabindex="-1">{drawing(scene)}</a>'
    yield f'<h2><a href="{page}">{escape(session.name)}</a></h2>'
    for language, full_stop in (("en", "."), ("zh", "。")):
        if about is not None:
            yield f'<p lang="{language}">{escape(about[language])}{full_stop}</p>'
    if about is not None and about["input"]:
        yield f"<p><code>{escape(about['input'])}</code> → <code>{escape(about['output'])}</code></p>"
    weights = ", random" if scene.model["random"] else ", without their numbers" if scene.model["shapes_only"] else ""
    yield f'<p class="quiet">{scene.model["n_parameters"]:,} parameters{weights}</p>'
    yield f'<p><a href="{page}#lang=zh" lang="zh">用中文看</a></p>'
    yield "<ul>"
    for chapter in _chapters(session):
        yield f'<li><a href="{page}#chapter={chapter["id"]}&amp;at=0">{escape(chapter["title"]["en"])}</a></li>'
    yield "</ul></article>"


def _chapters(session: Session) -> list[dict[str, Any]]:
    scenes = [step.scene for _, _, step in session.steps()]
    return [one for one in load_chapters() if any(not missing_roles(scene, one) for scene in scenes)]


def _index(exhibits: Iterable[Exhibit]) -> str:
    cards = "\n".join(each.card for each in exhibits)
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Transformers you can see through</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Transformers you can see through</h1>
<p>Each page is a model in 3D with every number that it computed. Point at any of them, and see where it came from.
<span lang="zh">每一页都是一个三维的模型，算出的每个数都在里面；指向任何一个数，就能看到它的来历。</span></p>
</header>
<main>
{cards}
</main>
<footer><p>Made by <code>glassformer gallery</code>. The pages need no network.</p></footer>
</body>
</html>
"""
    policy = content_security_policy("'none'", *assets.inline_hashes(text)).partition("; frame-ancestors")[0]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
    return text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)
