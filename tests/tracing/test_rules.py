"""Every rule: it recomputes what torch computed, in all its options, and notices when a number is another."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassformer.errors import TraceError
from glassformer.tracing.check import check
from glassformer.tracing.explain import explain
from glassformer.tracing.recorder import record
from glassformer.tracing.rules import RULES, load
from glassformer.tracing.rules.rule import RuleFault
from glassformer.tracing.trace import Recorded
from glassformer.tracing.trace_file import load as load_trace
from glassformer.tracing.trace_file import save
from support.rule_cases import CASES, MASK, OPTIONS, POSITIVE, A, Run, recorded

UNPROVEN = ("native_dropout",)  # its mask is drawn by chance


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_the_rule_recomputes_every_number(name):
    trace = recorded(name)
    report = check(trace)
    assert report.failures == [], {k: v.reason for k, v in report.by_operation.items() if v.failures}
    assert report.checked == report.total > 0


def largest(values: Tensor) -> tuple[int, ...]:
    """The place of the largest finite number."""
    finite = (values.abs() if values.dtype != torch.bool else values.float()).nan_to_num(0, 0, 0)
    return tuple(int(i) for i in torch.unravel_index(finite.argmax(), values.shape)) if values.ndim else ()


def another(value: Tensor) -> Tensor:
    """A number that is a little larger, by more than rounding explains."""
    if value.dtype == torch.bool:
        return ~value
    if not (value.is_floating_point() or value.is_complex()):
        return value + 1
    share = 0.1 if value.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return value.nan_to_num(1.0) + share * (1 + value.nan_to_num(1.0).abs())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_number_that_is_another_is_noticed(name):
    """Every operation's result is spoilt at one cell, by a thousandth of the largest: the check must fail there."""
    trace = recorded(name)
    for operation, output in list(trace.computed()):
        spoilt = trace.tensors[output]
        if spoilt.n_cells == 0 or operation.base in UNPROVEN:
            continue
        values = trace.value(output)
        index = largest(values)
        kept = values[index].clone()
        values[index] = another(kept)
        trace._arrays.clear()
        trace.movements.clear()
        only = {str(cell) for cell in check(trace).failures}
        assert f"{spoilt.name}[{','.join(map(str, index))}]" in only, operation.name
        values[index] = kept


@pytest.mark.filterwarnings("ignore")
def test_every_rule_has_a_case():
    load()
    met = {operation.base for name in CASES for operation in recorded(name).operations}
    assert set(RULES) - met == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPTIONS)
def test_options_and_number_types_are_followed(name):
    report = check(recorded(name))
    assert report.failures == [], {k: v.reason for k, v in report.by_operation.items() if v.failures}


def test_a_choice_is_explained_by_the_cell_that_was_chosen_and_not_by_one_found_again():
    """An unordered top k, unstable sorts, ties: the recorded places say which cell it was."""
    ties = torch.randint(5, (2, 200), generator=torch.Generator().manual_seed(0)).float()
    for numbers, function in ((A.repeat(1, 30), lambda a: a.topk(7, sorted=False)), (ties, lambda a: a.sort())):
        trace = record(Run(function), numbers)
        (operation,) = (operation for operation in trace.operations if operation.base in ("topk", "sort"))
        values, places = operation.outputs
        for cell in Recorded(trace, values).cells():
            place = int(trace.array(places)[cell.index])
            formula = explain(cell).formula
            assert formula.parts[0].cells()[0].index == (cell.index[0], place)
            assert formula.value == cell.value


@pytest.mark.parametrize(
    "function",
    [
        *(F.glu, F.mish, F.hardswish, F.hardsigmoid, F.logsigmoid, lambda a: F.prelu(a, torch.tensor([0.2]))),
        *(lambda a, loss=loss: loss(a, POSITIVE) for loss in (F.mse_loss, F.smooth_l1_loss)),
        lambda a: F.binary_cross_entropy_with_logits(a, MASK.float()),
    ],
)
def test_what_has_no_rule_in_one_piece_is_recorded_in_steps_that_have_some(function):
    trace = record(Run(function), A)
    assert check(trace).failures == []
    torch.testing.assert_close(trace["output"].value, function(A))


@pytest.mark.parametrize(
    "function",
    [
        lambda a: F.avg_pool2d(a[None, None], 2, ceil_mode=True),
        lambda a: a.round(decimals=1),
        lambda a: torch.zeros(3, 4).scatter(1, torch.zeros(3, 4, dtype=torch.int64), a, reduce="add"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_option_that_no_rule_knows_fails(function):
    assert check(record(Run(function), A)).failures


def test_a_rule_that_breaks_is_a_fault_of_ours_and_has_a_name(monkeypatch, tmp_path):
    trace = record(Run(lambda a: -a), A)
    kept = load_trace(save(trace, tmp_path / "trace.gft"))
    load()
    kind, _ = RULES["neg"]
    monkeypatch.setitem(RULES, "neg", (kind, lambda step, index: step.at("no such argument", index)))
    for ask in (lambda: check(trace), lambda: explain(trace["output"][0, 0])):
        with pytest.raises(RuleFault, match=r"rule for neg breaks at output\[0,0\]: KeyError, 'no such argument'"):
            ask()
    report = check(kept)  # here the operands may be a stranger's, so that its cells are not explained
    assert len(report.failures) == A.numel()
    assert "its operands do not fit it: KeyError" in report.by_operation["neg"].reason
    with pytest.raises(TraceError, match="cannot be explained: its operands do not fit it"):
        explain(kept["output"][0, 0])


def test_an_operation_without_a_rule_fails_the_check_and_is_no_fault(monkeypatch):
    trace = record(Run(lambda a: -a), A)
    load()
    monkeypatch.delitem(RULES, "neg")
    report = check(trace)
    assert len(report.failures) == A.numel()
    assert report.by_operation["neg"].reason == "there is no rule for neg"
