"""The real nano-sort weights reading CBABBC: every computed number and every weight, and the bugs that are noticed."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import glassformer as gf
from glassformer.tracing.check import check
from glassformer.tracing.explain import derive
from glassformer.tracing.formula import Operand
from glassformer.tracing.trace import Cell, Trace

CBABBC = [2, 1, 0, 1, 1, 2, 0, 0, 0, 0, 0]  # padded to the context, as the published activations are


pytestmark = pytest.mark.usefixtures("unchecked")  # some hundred thousand formulas


@pytest.fixture(scope="module")
def model(data_dir) -> gf.Model:
    return gf.load(data_dir / "gpt2" / "gpt-nano-sort-model.json")


@pytest.fixture(scope="module")
def whole(model):
    return gf.trace(model, CBABBC)


def test_every_computed_number_recomputes(whole):
    report = whole.check()
    assert report.failures == []
    assert report.checked == report.total == 121_660
    assert max(tally.worst for tally in report.by_operation.values()) < 0.5, "the bound is not met by luck"


def test_every_weight_is_explained_as_what_it_is(model, whole):
    weights = 0
    for name, parameter in model.module.named_parameters():
        recorded = whole[name]
        weights += recorded.record.n_cells
        assert torch.equal(recorded.value, parameter)
        for cell in list(recorded.cells())[:: max(recorded.record.n_cells // 50, 1)]:
            found = gf.explain(cell)
            assert found.formula is None
            assert found.check().passed
            assert whole.tensors[cell.tensor].kind == "weight"
    assert weights == 85_728


def test_the_published_probability_comes_out(whole):
    probs = whole["logits"].value[0, 5].softmax(-1)
    assert abs(probs[0].item() - 0.99998236) < 1e-6


def test_every_weight_is_met_by_some_formula(model, whole):
    """None is left out: each is an operand of a number that recomputes."""
    met = set()
    for operation, output in whole.computed():
        if operation.base in ("mm", "add", "mul", "index"):
            shape = whole.tensors[output].shape
            last = Cell(whole, output, tuple(n - 1 for n in shape))
            met |= {whole.home(leaf.tensor, leaf.index)[0] for leaf in derive(last, operation).leaves()}
    assert {name for name, _ in model.module.named_parameters()} <= {whole.tensors[tensor].name for tensor in met}


# ---- bugs: a trace that claims another arithmetic than the one that ran


def operation_of(trace: Trace, path: str, base: str) -> int:
    return next(o.id for o in trace.operations if o.base == base and o.module == path)


def with_argument(path: str, base: str, **changes: object) -> Callable[[Trace], None]:
    def seed(trace: Trace) -> None:
        number = operation_of(trace, path, base)
        old = trace.operations[number]
        trace.operations[number] = dataclasses.replace(old, arguments={**old.arguments, **changes})

    return seed


def with_values(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Trace], None]:
    """As if the operation had read something else than what is recorded."""

    def seed(trace: Trace) -> None:
        record = trace[name].record
        values = change(trace.value(record.id)).contiguous()
        trace.storages[record.storage] = dataclasses.replace(
            trace.storages[record.storage], bytes=values.untyped_storage()
        )
        trace.parameters.pop(record.id, None)

    return seed


def without_bias(trace: Trace) -> None:
    """y = y + bias, explained as if there were none."""
    number = next(o.id for o in trace.operations if o.module == "blocks.0.attn.q_proj" and o.base == "add")
    old = trace.operations[number]
    trace.operations[number] = dataclasses.replace(old, arguments={**old.arguments, "other": 0})


def another_gelu(trace: Trace) -> None:
    """The constant of the tanh approximation as that of another approximation."""
    number = next(o.id for o in trace.operations if o.module == "blocks.0.mlp" and 0.044715 in o.arguments.values())
    old = trace.operations[number]
    changed = {name: 0.044 if value == 0.044715 else value for name, value in old.arguments.items()}
    trace.operations[number] = dataclasses.replace(old, arguments=changed)


def another_mask(trace: Trace) -> None:
    """Keys before the query, the query itself left out."""
    number = next(o.id for o in trace.operations if o.module == "blocks.0.attn" and o.base == "le")
    trace.operations[number] = dataclasses.replace(trace.operations[number], name="lt.Tensor")


BUGS: dict[str, Callable[[Trace], None]] = {
    "row": with_values("blocks.0.attn.q_proj.weight", lambda weight: weight.roll(1, 0)),
    "token": with_values("tokens", lambda tokens: (tokens + 1) % 3),
    "bias": without_bias,
    "scale": with_argument("blocks.0.attn", "div", other=1.0),
    "epsilon": with_argument("blocks.0.attn_norm", "add", other=1e-6),
    "gelu": another_gelu,
    "mask": another_mask,
    "half": with_values("blocks.0.attn.k_proj.weight", lambda weight: weight.half().float()),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_noticed(model, bug):
    trace = gf.trace(model, CBABBC)
    BUGS[bug](trace)
    trace._arrays.clear()
    report = check(trace, modules=("blocks.0*", "token_embedding"))
    assert report.failures, bug


def test_an_operation_without_a_rule_fails(model, monkeypatch):
    from glassformer.tracing import rules

    trace = gf.trace(model, CBABBC)
    rules.load()
    monkeypatch.delitem(rules.RULES, "tanh")
    report = check(trace, cells=500)
    assert {trace.operations[trace.tensors[cell.tensor].made_by].base for cell in report.failures} == {"tanh"}
    assert "no rule" in report.by_operation["tanh"].reason


def test_terms_are_recorded_cells_and_sum_to_the_value(whole):
    found = gf.explain(whole["blocks.1.mlp.down_proj.y#1"][0, 5, 7])
    assert len(found.terms) == 192
    assert sum(term.value for term in found.terms) == pytest.approx(found.value, abs=1e-6)
    for term in found.terms:
        a, b = term.operands
        assert a.value * b.value == pytest.approx(term.value, rel=1e-12)
        assert str(a).startswith("blocks.1.mlp.activated[0,5,")
        assert str(b).startswith("blocks.1.mlp.down_proj.weight[7,")
    assert found.why(3) == sorted(found.terms, key=lambda term: -abs(term.value))[:3]
    assert isinstance(next(iter(found.formula.leaves())), Operand)


def test_walking_back_leads_to_the_token(whole):
    """From a score through queries, norm and residual stream to the row of the embedding, and to the token's id."""
    waiting, met = [whole["blocks.0.attn.scores"][0, 1, 5, 2]], set()
    while waiting:
        cell = waiting.pop()
        if str(cell) not in met:
            met.add(str(cell))
            waiting += gf.explain(cell).sources[:200]
    assert {"tokens[0,5]", "tokens[0,2]"} <= met
    assert not any(name.startswith("blocks.1") for name in met)


def test_walking_far_back_explains_each_number_once(whole):
    found = gf.explain(whole["logits"][0, 5, 0], depth=30, terms=2)
    explained, waiting = {found.cell: found}, [found]
    while waiting:
        for cell, inner in waiting.pop().inner.items():
            if cell not in explained:
                explained[cell] = inner
                waiting.append(inner)
            assert explained[cell] is inner
    assert any(str(cell).startswith("blocks.0.") for cell in explained)


def test_a_view_is_explained_by_what_wrote_its_bytes(whole):
    found = gf.explain(whole["blocks.0.attn.q"][0, 1, 5, 2])
    assert str(found.computed) == "blocks.0.attn.q_proj.y[0,5,18]"
    assert found.source.text == "y = y + bias"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_a_trace_in_half_precision_is_the_plain_run_where_squares_would_overflow(dtype):
    model = gf.build("gpt2", n_layers=2, d_model=32, n_heads=2, vocab_size=50, context_length=16, tied_head=False)
    model.module.position_embedding.weight.mul_(30_000)  # deviations of some hundred, whose squares float16 lacks
    model.module.lm_head.weight.mul_(10)
    tokens = torch.arange(8)[None]
    wide = model.module(tokens)
    model.module.to(dtype)
    plain, traced = model.module(tokens), gf.trace(model, tokens)["logits"].value
    assert plain.abs().max() > 1
    for run in (plain, traced):
        assert (run - wide).abs().max() < 32 * torch.finfo(dtype).eps
