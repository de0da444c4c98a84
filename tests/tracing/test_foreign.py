"""Modules that others wrote: every kind of operation in them has a rule, and every number recomputes."""

import pytest
import torch

from counts import count
from foreign import FOREIGN, NEEDS_DECOMPOSING
from glassformer.tracing.check import check
from glassformer.tracing.record import record

CASES = [(name, True) for name in FOREIGN] + [(name, False) for name in FOREIGN if name not in NEEDS_DECOMPOSING]


@pytest.mark.parametrize(("name", "decompose"), CASES)
def test_every_number_recomputes(name, decompose):
    module, inputs, keywords = FOREIGN[name]()
    trace = record(module, *inputs, decompose=decompose, **keywords)
    report = check(trace, cells=count("cells of a foreign module"))
    assert report.failures == [], {k: v.reason for k, v in report.by_operation.items() if v.failures}
    sizes: dict[str, int] = {}
    for operation, output in trace.computed():
        sizes[operation.base] = sizes.get(operation.base, 0) + trace.tensors[output].n_cells
    for base, tally in report.by_operation.items():
        assert tally.cells >= min(200, sizes[base]), base
    assert report.checked >= min(count("cells of a foreign module"), report.total)


@pytest.mark.parametrize("name", FOREIGN)
def test_recording_changes_no_bit(name):
    module, inputs, keywords = FOREIGN[name]()
    with torch.no_grad():
        expected = module(*inputs, **keywords)
    trace = record(module, *inputs, **keywords)
    first = expected if isinstance(expected, torch.Tensor) else expected[0]
    outputs = [trace[path].value for path in trace.names if path.partition(".")[0] == "output"]
    assert any(torch.equal(output, first) for output in outputs)


def test_names_are_those_of_the_source():
    module, inputs, keywords = FOREIGN["transformers GPT-2"]()
    trace = record(module, *inputs, decompose=True, **keywords)
    for name in ("query_states", "key_states", "value_states", "attn_output", "output.0"):
        assert f"transformer.h.1.attn.{name}" in trace, name
    assert "logits" in trace
