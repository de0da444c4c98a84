"""The chapter of tokens shows how a word of the text that is run is merged: on the page the tree that Python has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

import glassformer as gf
from glassformer.printable import visible
from glassformer.tokenizers.steps import Branch, PreToken, merge_trees
from glassformer.viewer.export import export_html
from glassformer.viewer.session import Session
from support.browser import address_of
from viewer.pages import opened

CHAPTER = "theme=light&chapter=tokens&at=2"
TREE = """() => {
    const read = (g) => ({
        text: g.querySelector(":scope > text").textContent,
        step: Number(g.dataset.step),
        parts: [...g.querySelectorAll(":scope > g")].map(read),
    });
    return {
        trees: [...document.querySelectorAll(".merge-tree .trees > g")].map(read),
        ranks: [...document.querySelectorAll(".merge-tree .rank[data-step]")].map((text) => text.textContent),
    };
}"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    corpus = tmp_path_factory.mktemp("merges") / "corpus.txt"
    corpus.write_text("a transformer transforms forms; the former is warmer than the latter. 你好，世界。 " * 40)
    tokenizer = gf.Tokenizer.train([corpus], 330, ["<|endoftext|>"])
    torch.manual_seed(0)
    sizes = {"vocab_size": tokenizer.vocab_size, "n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": 64}
    session = Session(gf.build("gpt2", tokenizer=tokenizer, **sizes), name="small")
    session.run(text="the transformers 你好世")
    return session


def watched(session: Session, word: str) -> PreToken:
    assert session.tokenizer is not None
    (piece,) = session.tokenizer.steps(word)
    assert len(piece.steps) >= 2
    return piece


def as_page(branch: Branch) -> dict[str, Any]:
    return {"text": visible(branch.symbol), "step": branch.step, "parts": list(map(as_page, branch.parts))}


def agrees(page: Page, piece: PreToken) -> None:
    """Whether tree, ranks and rows of the page are those of Python."""
    tree = page.evaluate(TREE)
    assert tree["trees"] == list(map(as_page, merge_trees(piece))), json.dumps(tree, ensure_ascii=False)
    assert tree["ranks"] == [f"{step.rank:,}" for step in piece.steps]
    rows = page.locator(".merges tr").all()[1:-1]
    assert [row.locator(".token").all_inner_texts() for row in rows] == [
        list(map(visible, row)) for row in piece.symbols
    ]
    assert page.locator(".merges tr").last.locator("code").all_inner_texts() == list(map(str, piece.ids))


def test_the_word_with_the_most_merges_is_shown_as_its_tree_and_others_when_chosen(
    page: Page, session: Session
) -> None:
    with address_of(session) as address:
        opened(page, address, f"lang=en&{CHAPTER}")
        page.wait_for_selector(".merge-tree")
        piece = watched(session, " transformers")
        agrees(page, piece)
        wide, room = page.evaluate("() => ['scrollWidth', 'clientWidth'].map(n => document.querySelector('.story')[n])")
        assert wide == room, "nothing stands beyond the panel"
        told = page.locator(".merge-tree [role=status]")
        n = len(piece.steps)
        assert told.inner_text().startswith(f"Merge {n} of {n}: ")
        bad = [one["id"] for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert bad == []
        page.get_by_role("button", name="One merge back").click()
        assert f"rank {piece.steps[-2].rank:,}" in told.inner_text()
        assert page.locator(".merge-tree .trees text.later").count() == 1
        page.locator(".run-pieces .pieces button").last.click()
        agrees(page, watched(session, " 你好世"))
        page.goto("about:blank")


def test_an_export_has_the_tree_too_and_says_it_in_chinese(page: Page, session: Session, tmp_path: Path) -> None:
    export_html(session, tmp_path / "view.html")
    opened(page, (tmp_path / "view.html").as_uri(), f"lang=zh&{CHAPTER}")
    page.wait_for_selector(".merge-tree")
    piece = watched(session, " transformers")
    agrees(page, piece)
    n = len(piece.steps)
    assert page.locator(".merge-tree [role=status]").inner_text().startswith(f"第 {n} / {n} 次合并：")
    assert "在所有相邻的两段中" in page.locator(".made").inner_text()


def test_a_tokenizer_that_merges_nothing_says_so(page: Page) -> None:
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    with address_of(session) as address:
        opened(page, address, f"lang=en&{CHAPTER}")
        page.wait_for_selector(".run-pieces")
        assert "nothing is merged" in page.locator(".made").inner_text()
        assert page.locator(".merge-tree").count() == 0
        page.goto("about:blank")
