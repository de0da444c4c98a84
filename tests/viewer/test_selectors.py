"""The cases that selectors in Python and in the page share."""

import json
from pathlib import Path
from typing import Any

import pytest

from glassformer.viewer.scene import Block, Group, Scene, Text, Token
from glassformer.viewer.selectors import Cells, SelectorError, select
from support.tiny import DEEPSEEK
from support.viewed import OURS, recorded

SHARED = json.loads((Path(__file__).parent / "selectors.json").read_text("utf-8"))


def scene() -> Scene:
    """The small scene of the shared cases, which say of each record what selectors look at."""
    given = SHARED["scene"]
    unseen: Any = {
        "name": "",
        "kind": "computed",
        "label": Text("", ""),
        "tensor": 0,
        "storage": 0,
        "dtype": "float32",
        "pos": (0, 0, 0),
        "strides": (0, 0),
        "offset": 0,
        "start": (0, 0),
        "scale": 0.0,
        "layer": None,
        "head": None,
    }
    pairs = ("size", "axes", "start")
    return Scene(
        model={},
        lazy=False,
        tokens=[Token(token["id"], "", "") for token in given["tokens"]],
        sizes=given["sizes"],
        groups=[Group(**group, path="", label=Text("", "")) for group in given["groups"]],
        blocks=[
            Block(**unseen | block | {pair: tuple(block[pair]) for pair in pairs if pair in block})
            for block in given["blocks"]
        ],
    )


@pytest.mark.parametrize("case", SHARED["cases"], ids=lambda case: case["selector"])
def test_a_selector_finds(case: dict[str, Any]) -> None:
    assert select(scene(), case["selector"], case["vars"]) == [Cells(*cells) for cells in case["cells"]]


@pytest.mark.parametrize("case", SHARED["errors"], ids=lambda case: case["selector"])
def test_what_is_no_selector_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(SelectorError):
        select(scene(), case["selector"], case["vars"])


@pytest.mark.parametrize("name", OURS)
def test_every_head_finds_what_it_works_with(name: str) -> None:
    found = recorded(name)[1]
    weights = () if name in DEEPSEEK else ("q_weight", "k_weight", "v_weight")  # those of latents belong to all heads
    for head in range(found.sizes["H"]):
        for role in ("q", "k", "v", *weights, "scores", "weights", "out"):
            cells = select(found, "@layer[last].head[h]." + role, {"h": head})
            assert len(cells) == 1, (role, head)
    (cell,) = select(found, "@probs{t=last,v=last}")
    block = found.blocks[cell.block]
    assert (cell.x0 + block.start[0], cell.y0 + block.start[1]) == (found.sizes["T"] - 1, found.sizes["V"] - 1)
