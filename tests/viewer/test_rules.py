"""What the page explains is what Python explains: every rule in both languages, on the same bytes, field by field."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

import glassformer as gf
from glassformer.tracing.recorder import record
from glassformer.tracing.rules import RULES, load
from glassformer.tracing.trace import Trace
from glassformer.viewer import assets
from glassformer.viewer.folding import steps_of
from glassformer.viewer.pack import blob_bytes, pack_trace
from glassformer.viewer.responses import MAX_TERMS, answer
from support.counts import count
from support.foreign import FOREIGN
from support.rule_cases import CASES, OPTIONS, Cells, Run, recorded, sampled
from support.viewed import recorded as viewed

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def rules(browser: Browser) -> Iterator[Page]:
    """An empty page with the script of the built one, for its rules."""
    context = browser.new_context()
    page = context.new_page()
    page.add_script_tag(content=assets.page("app.js").decode())
    helpers = (Path(__file__).parent / "rules.js").read_text("utf-8").strip().rstrip(";")
    page.evaluate(f"({helpers})(window.glassformer.rules)")
    yield page
    context.close()


def put(page: Page, trace: Trace) -> None:
    records, storages = pack_trace(trace)
    give(page, records, {name: bytes(blob_bytes(storage)) for name, storage in storages.items()})


def give(page: Page, records: dict[str, Any], blobs: dict[str, bytes]) -> None:
    """Bring a trace into the page."""
    encoded = {name: base64.b64encode(content).decode() for name, content in blobs.items()}
    page.evaluate("(packed) => load(packed)", {"records": records, "blobs": encoded})


# ---- what is equal


EXACT = ("cell", "computed", "kind", "dtype", "text", "numbers", "latex", "mathml", "n_terms", "sources", "n_sources")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def number(value: float | str) -> complex:
    """A number of an explanation; words stand for those that JSON lacks."""
    return complex(value.replace("i", "j") if isinstance(value, str) and value.endswith("i") else value)


def close(mine: float | str, theirs: float | str, allowed: float) -> bool:
    a, b = number(mine), number(theirs)
    return a == b or str(a) == str(b) or abs(a - b) <= allowed + 1e-12 * abs(a)


def differences(mine: dict[str, Any], page: dict[str, Any]) -> list[str]:
    """The fields that differ. Float64 sums may be taken in another order: by 1e-12 of the largest of their terms."""
    if "error" in page:
        return [page["error"]]
    assert mine.keys() == page.keys()
    found = [name for name in (*EXACT, "operation", "source") if mine[name] != page[name]]
    sums = 0.0
    if mine["check"] is not None:
        a, b = mine["check"], page["check"]
        double = mine["dtype"] in ("float64", "complex128")
        sums = a["bound"] if double else 1e-6 * a["bound"]  # the bound has u = 2⁻²⁴ or 2⁻⁵³ as a factor
        equal = a["passed"] == b["passed"] and close(a["recomputed"], b["recomputed"], sums)
        if not (equal and close(a["difference"], b["difference"], sums) and close(a["bound"], b["bound"], 0)):
            found.append("check")
    elif page["check"] is not None:
        found.append("check")
    if not same_terms(mine["terms"], page["terms"], mine["n_terms"], sums):
        found.append("terms")
    if not same_expressions(mine["numpy"], page["numpy"]):
        found.append("numpy")
    return [f"{name}: {mine[name]} … {page[name]}"[:2000] for name in found]


def same_terms(mine: list[Any], page: list[Any], total: int, sums: float) -> bool:
    """Equal up to the order of terms of one size."""
    allowed = sums + 1e-12 * max((abs(number(term["value"])) for term in mine), default=0)
    if len(mine) != len(page) or math.isnan(allowed):
        return len(mine) == len(page)
    if total > MAX_TERMS:
        return all(
            abs(abs(number(a["value"])) - abs(number(b["value"]))) <= allowed for a, b in zip(mine, page, strict=True)
        )

    def by_operands(terms: list[Any]) -> list[Any]:
        return sorted(terms, key=lambda term: json.dumps([(o["tensor"], o["index"]) for o in term["operands"]]))

    pairs = list(zip(by_operands(mine), by_operands(page), strict=True))
    return all(
        (a["operands"], a["product"]) == (b["operands"], b["product"]) and close(a["value"], b["value"], allowed)
        for a, b in pairs
    )


def same_expressions(mine: str, page: str) -> bool:
    """Equal but for the last digits of constants, such as roots of unity."""
    if mine == page:
        return True
    values = [[float(text) for text in NUMBER.findall(written)] for written in (mine, page)]
    return NUMBER.sub("#", mine) == NUMBER.sub("#", page) and np.allclose(*values, rtol=1e-12, atol=1e-12)


def compare(page: Page, trace: Trace, cells: Cells, steps: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    """Explain cells here and there."""
    mine = [json.loads(json.dumps(answer(trace, *cell, steps), allow_nan=False)) for cell in cells]
    text = page.evaluate("([cells, steps]) => JSON.stringify(answers(cells, steps))", [cells, sorted(steps)])
    explained = json.loads(text, parse_int=lambda digits: float(digits) if len(digits) > 16 else int(digits))
    for explanation, theirs in zip(mine, explained, strict=True):
        assert differences(explanation, theirs) == []
    return mine


# ---- every rule


@pytest.mark.parametrize("name", [*CASES, *OPTIONS])
def test_the_page_explains_as_python_does(rules, name):
    trace = recorded(name)
    put(rules, trace)
    for explanation in compare(rules, trace, sampled(trace, count("cells explained in the page"))):
        assert explanation["check"] is None or explanation["check"]["passed"]
    assert rules.evaluate("() => checkAll().failed") == []


def test_numbers_are_printed_alike(rules):
    """Of all sizes, whole ones, and those that lie between two of four digits."""
    draw = torch.Generator().manual_seed(0)
    ties = (torch.randint(1_000, 10_000, (300,), generator=draw) + 0.5) * 2.0 ** torch.arange(300).remainder(12)
    sizes = torch.randn(300, generator=draw).double() * 10.0 ** torch.randint(-30, 30, (300,), generator=draw)
    whole = torch.randint(-(10**7), 10**7, (100,), generator=draw).double()
    some = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e16, 1e-4, 1e-5, 9999.5, 0.99995, 2.0**60])
    trace = record(Run(lambda a: -a), torch.cat([ties.double(), sizes, whole, some.double()]))
    put(rules, trace)
    compare(rules, trace, [(trace["output"].id, [i]) for i in range(trace["output"].shape[0])])


def test_every_rule_of_python_is_there(rules):
    load()
    operation = {"number": 0, "arguments": {}, "outputs": [1], "module": "", "source": 0, "writes": True}
    tensor = {"dtype": "float32", "shape": [], "strides": [], "offset": 0, "name": "a", "axes": [], "derived": False}
    for name in (*RULES, "unknown"):
        records = {
            "storages": [{"blob": "a", "nbytes": 4, "written_by": by, "previous": None} for by in (None, 0)],
            "tensors": [
                {**tensor, "storage": 0, "kind": "input", "made_by": None},
                {**tensor, "storage": 1, "kind": "computed", "made_by": 0},
            ],
            "operations": [{**operation, "name": name}],
            **{"sources": [], "modules": [], "names": {}},  # noqa: PIE800
        }
        give(rules, records, {"a": bytes(4)})
        (found,) = rules.evaluate("() => answers([[1, []]])")
        unknown = found.get("error") == f"a[] cannot be explained: there is no rule for {name}."
        assert unknown == (name == "unknown"), found


# ---- whole models


SMALL = {"vocab_size": 11, "context_length": 12, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24}
TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2, 0, 0]])


def foreign(name: str) -> Trace:
    module, inputs, keywords = FOREIGN[name]()
    return record(module, *inputs, decompose=True, **keywords)


MODELS: dict[str, Callable[[], Trace]] = {
    "nano-sort": lambda: gf.trace(gf.build("nano-sort"), TOKENS),
    "Llama": lambda: gf.trace(gf.build("llama", **SMALL, n_kv_heads=2), TOKENS),
    "a convolutional network": lambda: foreign("a small convolutional network"),
    "an LSTM": lambda: foreign("torch.nn.LSTM"),
    "Whisper": lambda: foreign("transformers Whisper"),
    "a Fourier transform": lambda: record(Run(lambda a: torch.fft.irfft(torch.fft.rfft(a) * 2)), torch.randn(3, 50)),
    "sums of many": lambda: record(Run(lambda a: [a.sum(), a.double().mean(), (a @ a.T).max()]), torch.randn(3, 1400)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_explains_whole_models(rules, name):
    trace = MODELS[name]()
    put(rules, trace)
    for explanation in compare(rules, trace, sampled(trace, count("cells explained in the page"), outside=80)):
        assert explanation["check"] is None or explanation["check"]["passed"]
    assert rules.evaluate("() => checkAll().failed") == []


@pytest.mark.parametrize("name", ["nano-sort", "llama", "gru"])
def test_the_page_folds_as_python_does(rules, name):
    trace, scene = viewed(name)
    put(rules, trace)
    cells = [(block.tensor, [n // 2 for n in trace.tensors[block.tensor].shape]) for block in scene.blocks]
    for explanation in compare(rules, trace, cells, steps_of(scene)):
        assert explanation["check"] is None or explanation["check"]["passed"]


@pytest.fixture(scope="module")
def nano_sort(data_dir):
    return gf.trace(gf.load(data_dir / "gpt2" / "gpt-nano-sort-model.json"), [2, 1, 0, 1, 1, 2, 0, 0, 0, 0, 0])


def test_every_number_of_nano_sort_recomputes_in_the_page(rules, nano_sort):
    put(rules, nano_sort)
    assert rules.evaluate("() => checkAll()") == {"n": 121_660, "failed": []}


# ---- bugs


def test_a_flipped_bit_is_noticed_in_the_page(rules, nano_sort):
    """One bit of a number's exponent, or of a whole number, in one tensor of each kind of operation."""
    put(rules, nano_sort)
    met = set()
    for operation, output in nano_sort.computed():
        if operation.base in met:
            continue
        met.add(operation.base)
        tensor = nano_sort.tensors[output]
        index = [n // 2 for n in tensor.shape]
        byte = tensor.dtype.itemsize * (tensor.offset + sum(i * s for i, s in zip(index, tensor.strides, strict=True)))
        flip = (byte + tensor.dtype.itemsize - 1, 0x40) if tensor.dtype.is_floating_point else (byte, 1)
        found = rules.evaluate("(arguments) => flipped(...arguments)", [output, index, *flip])
        assert found["check"]["passed"] is False, operation.base
    assert len(met) > 15
