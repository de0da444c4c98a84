"""The page as the package carries it, built from web/ at the top of the repository."""

import base64
import hashlib
import re
from importlib.resources import files

PAGE = {  # all there is: a request names one of these or finds nothing
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
}
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page(name: str) -> bytes:
    """One of the files of the page; empty where the page was built without it."""
    file = files(__package__) / "web" / name
    return file.read_bytes() if name in PAGE and file.is_file() else b""


def inline_hashes(html: str) -> list[str]:
    """What Content-Security-Policy calls the scripts and styles that stand in a page, so that only these run."""
    return [digest(content) for _, content in INLINE.findall(html)]


def digest(content: str) -> str:
    """The hash of a script or a style in the form of Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
