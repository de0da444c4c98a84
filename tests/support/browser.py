"""A real browser: Debian's Chromium, headless, with WebGL2 drawn by the processor (SwiftShader)."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from glassformer.viewer.serve import listen, served
from glassformer.viewer.session import Session

ARGUMENTS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
)


def chromium_path() -> str | None:
    """The browser's program, if this machine has it."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser of its own, closed at the end."""
    path = chromium_path()
    if path is None:
        raise FileNotFoundError("There is no chromium on the PATH.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()


@contextmanager
def address_of(session: Session) -> Iterator[str]:
    """Where the session's page is served while the block runs."""
    with listen("127.0.0.1", 0) as listening, served(session, listening) as address:
        yield address
