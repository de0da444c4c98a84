"""Explanations as JSON: all of what the page's types ask for, expressions that compute, and no files of strangers."""

import json
import linecache
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glassformer as gf
from glassformer.errors import TraceError
from glassformer.tracing import trace_file
from glassformer.tracing.recorder import record
from glassformer.viewer.responses import MAX_SOURCES, MAX_TERMS, answer
from support.rule_cases import CASES, OPTIONS, Run, recorded, sampled

TYPES = (Path(__file__).resolve().parents[2] / "web" / "src" / "types.ts").read_text("utf-8")
TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2]])

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def nano_sort():
    torch.manual_seed(0)
    return gf.trace(gf.build("nano-sort"), TOKENS)


def fields(name: str) -> list[str]:
    body = re.search(rf"export interface {name} {{(.*?)}}\n", TYPES, re.DOTALL)[1]
    return re.findall(r"^\s*(\w+)\??:", body, re.MULTILINE)


def test_an_answer_has_the_fields_that_the_page_expects(nano_sort):
    for name in ("blocks.0.attn.scores", "blocks.0.attn.q_proj.weight"):
        found = answer(nano_sort, nano_sort[name].id, [0] * len(nano_sort[name].shape))
        assert sorted(found) == sorted(fields("Explanation"))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert sorted(answer(nano_sort, nano_sort["logits"].id, [0, 0, 0])["source"]) == sorted(fields("SourceRecord"))
    for limit, value in {"MAX_TERMS": MAX_TERMS, "MAX_SOURCES": MAX_SOURCES}.items():
        assert f"export const {limit} = {value};" in TYPES


def test_a_product_is_explained(nano_sort):
    found = answer(nano_sort, nano_sort["blocks.0.attn.q_proj.y#1"].id, [0, 5, 18])
    assert re.fullmatch(r"∑ᵢ blocks\.0\.attn_norm\.\S+ · blocks\.0\.attn\.q_proj\.weight\[18,i\]", found["text"])
    assert found["numpy"].startswith("np.float32(np.dot([")
    assert found["n_terms"] == 48 and found["n_sources"] == 96  # noqa: PT018
    sizes = [abs(term["value"]) for term in found["terms"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(term["value"] for term in found["terms"]) == pytest.approx(found["cell"]["value"], abs=1e-6)
    assert found["check"]["passed"]


def gives_the_number(found: dict[str, Any]) -> bool:
    """The expression computes what was recorded, as well as the check allows, in the precision of its type."""
    made = complex(eval(found["numpy"], {"np": np}))
    text = found["cell"]["value"]
    recorded = complex(text.replace("i", "j") if isinstance(text, str) and text.endswith("i") else text)
    epsilon = {"float16": 2**-10, "bfloat16": 2**-7, "float64": 2**-52}.get(found["dtype"], 2**-23)
    allowed = (found["check"]["bound"] if found["check"] else 0) + epsilon * abs(recorded)
    return made == recorded or str(made) == str(recorded) or abs(made - recorded) <= allowed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*CASES, *OPTIONS])
def test_the_expression_gives_the_number(name):
    trace = recorded(name)
    for cell in sampled(trace, 20):
        found = answer(trace, *cell)
        assert gives_the_number(found), found["numpy"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*CASES, *OPTIONS])
def test_a_term_that_is_a_product_is_its_operands_multiplied(name):
    trace = recorded(name)
    for cell in sampled(trace, 5):
        for term in answer(trace, *cell)["terms"]:
            operands = [operand["value"] for operand in term["operands"]]
            if term["product"] and not any(isinstance(value, str) for value in [*operands, term["value"]]):
                assert term["value"] == pytest.approx(math.prod(operands), rel=1e-6)


def test_a_lookup_or_a_mask_is_no_product_whatever_the_numbers_are():
    """The vector of the token with the id 1, and a score that nothing hides: both times 1 would be themselves."""
    table, scores = torch.tensor([[0.5], [0.25]]), torch.tensor([3.0])
    looked_up = record(Run(torch.nn.functional.embedding), torch.tensor([1]), table)
    masked = record(Run(lambda a, hidden: a.masked_fill(hidden, 0.0)), scores, torch.tensor([True]))
    scaled = record(Run(lambda a, b: (a * b) / 4), scores, scores)
    for trace in (looked_up, masked, scaled):
        (term,) = answer(trace, trace["output"].id, [0] * len(trace["output"].shape))["terms"]
        assert not term["product"], term
    multiplied = record(Run(lambda a: a * a), scores)
    (term,) = answer(multiplied, multiplied["output"].id, [0])["terms"]
    assert term["product"]
    assert [operand["value"] for operand in term["operands"]] == [3.0, 3.0]


def test_large_sums_are_cut():
    trace = record(Run(lambda a: a.sum()), torch.randn(5_000))
    found = answer(trace, trace["output"].id, [])
    assert (len(found["terms"]), found["n_terms"]) == (MAX_TERMS, 5_000)
    assert (len(found["sources"]), found["n_sources"]) == (MAX_SOURCES, 5_000)
    assert found["numpy"] == ""
    assert found["check"]["passed"]


def test_numbers_that_json_lacks_are_words():
    trace = record(Run(lambda a: [a / 0, -a / 0, a * float("nan"), torch.complex(a, -a)]), torch.ones(1))
    values = [answer(trace, trace[f"output.{i}"].id, [0])["cell"]["value"] for i in range(4)]
    assert values == ["inf", "-inf", "nan", "1-1i"]


def test_the_source_stands_in_its_context(nano_sort, tmp_path, monkeypatch):
    scores = nano_sort["blocks.0.attn.scores"].id
    source = answer(nano_sort, scores, [0, 0, 1, 0])["source"]
    assert len(source["context"]) == 7
    assert source["context"][source["line"] - source["first"]].strip() == source["text"]

    loaded = trace_file.load(trace_file.save(nano_sort, tmp_path / "trace.gft"))
    monkeypatch.setattr(linecache, "getlines", lambda file: pytest.fail(f"{file} was opened"))
    assert answer(loaded, scores, [0, 0, 1, 0])["source"]["context"] == []


@pytest.mark.parametrize(("tensor", "index"), [(10**6, [0]), (-1, [0]), (0, [0] * 9), (0, [10**6, 0])])
def test_a_cell_that_is_not_there_is_refused(nano_sort, tensor, index):
    with pytest.raises(TraceError):
        answer(nano_sort, tensor, index)
