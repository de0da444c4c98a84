"""A browser for all tests of the page, and a page for each."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from support.browser import chromium, chromium_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        reason = "a browser test: there is no chromium on the PATH"
        if os.environ.get("GLASSFORMER_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium() as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1280 × 720 in a profile of its own; a test fails where the page has said an error.

    Waiting for a condition takes `eval`, which the page's own policy forbids, so the policy is put aside here.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US", bypass_csp=True)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield opened
    context.close()
    assert errors == []
