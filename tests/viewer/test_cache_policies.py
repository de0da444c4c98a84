"""The chapter on generation shows what each policy keeps of a run's text: the slots that Python's caches have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

import glassformer as gf
from glassformer.nn.kv_cache import KVCache, parse_policy
from glassformer.tokenizers import CharTokenizer
from glassformer.viewer.export import export_html
from glassformer.viewer.session import Session
from support.browser import address_of
from viewer.pages import opened

CHAPTER = "theme=light&chapter=generation&at=7"
CONTEXT = 64
CACHES = """() => [...document.querySelectorAll(".cache")].map((figure) => {
    const cells = (selector) => [...figure.querySelectorAll(selector)];
    const positions = (selector) => cells(selector).map((cell) => Number(cell.dataset.position));
    return {
        name: figure.dataset.policy,
        slots: positions(".slots:not(.forgotten) li"),
        words: cells(".slots li:not(.empty) span").map((word) => word.textContent),
        sinks: positions(".sink"),
        newest: positions(".slots:not(.forgotten) .newest"),
        forgotten: positions(".forgotten li"),
        left: positions(".forgotten .newest"),
    };
})"""


@pytest.fixture
def session() -> Session:
    torch.manual_seed(0)
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": CONTEXT}
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz")
    session = Session(gf.build("gpt2", tokenizer=tokenizer, vocab_size=26, **sizes), name="small")
    session.run(text="abcdefghijk")
    return session


def expected(session: Session, name: str, n: int) -> dict[str, Any]:
    """The slots of a cache that has read the first tokens of the run's text, one by one."""
    assert session.model is not None
    policy = parse_policy(name, CONTEXT)
    text = session.runs[0].steps[-1].inputs.tokens[:n]
    cache = session.model.module.begin(None, policy)
    assert isinstance(cache, KVCache)
    before: list[int] = []
    for token in text:
        before = [] if cache.lengths is None else policy.positions(cache.lengths[:, None], policy.capacity)[0].tolist()
        with torch.inference_mode():
            session.model.module(torch.tensor([[token]]), cache)
    assert cache.lengths is not None
    slots = policy.positions(cache.lengths[:, None], policy.capacity if policy.endless else n)[0].tolist()
    forgotten = sorted(set(range(n)) - set(slots))
    return {
        "name": name,
        "slots": slots,
        "words": [chr(ord("a") + text[position]) for position in [*slots, *forgotten] if position >= 0],
        "sinks": [position for position in slots[: policy.n_sinks] if position >= 0],
        "newest": [n - 1],
        "forgotten": forgotten,
        "left": sorted({position for position in before if position >= 0} - set(slots)),
    }


def agrees(page: Page, session: Session, n: int, names: list[str]) -> None:
    assert page.evaluate(CACHES) == [expected(session, name, n) for name in names]


def test_the_slots_are_those_of_the_caches_at_each_token_and_go_on_with_the_run(page: Page, session: Session) -> None:
    with address_of(session) as address:
        opened(page, address, f"lang=en&{CHAPTER}")
        page.wait_for_selector(".cache")
        names = ["full", "window:6", "sinks:2+4"]
        agrees(page, session, 11, names)
        for n in range(10, 0, -1):
            page.get_by_role("button", name="One token fewer").click()
            agrees(page, session, n, names)
        bad = [one["id"] for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert bad == []
        page.get_by_label("Slots", exact=True).fill("4")
        page.get_by_label("Slots", exact=True).press("Enter")
        page.get_by_label("Sinks", exact=True).fill("3")
        page.get_by_label("Sinks", exact=True).press("Enter")
        names = ["full", "window:4", "sinks:3+1"]
        agrees(page, session, 1, names)
        for n in (12, 13):  # the model writes
            page.get_by_role("button", name="Next token").first.click()
            page.wait_for_function(f"document.querySelectorAll('.cache')[0].querySelectorAll('li').length === {n}")
            agrees(page, session, n, names)
        wide, room = page.evaluate("() => ['scrollWidth', 'clientWidth'].map(n => document.querySelector('.story')[n])")
        assert wide == room, "nothing stands beyond the panel"
        page.goto("about:blank")


def test_an_export_shows_them_too_and_says_it_in_chinese(page: Page, session: Session, tmp_path: Path) -> None:
    export_html(session, tmp_path / "view.html")
    opened(page, (tmp_path / "view.html").as_uri(), f"lang=zh&{CHAPTER}")
    page.wait_for_selector(".cache")
    agrees(page, session, 11, ["full", "window:6", "sinks:2+4"])
    assert page.locator(".cache p").last.inner_text() == "6 个槽位已用 6 个，忘掉了 5 个词元。 位置 6 的“g”刚刚离开。"
