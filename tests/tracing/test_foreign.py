"""Modules that others wrote: every kind of operation in them has a rule, and every number recomputes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from glassformer.tracing.check import check
from glassformer.tracing.recorder import record
from support.counts import count
from support.foreign import FOREIGN, TAKEN_APART

CASES = [(name, decompose) for name in FOREIGN for decompose in (True, False)]


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
    if name in TAKEN_APART:  # to rounding
        assert any(output.shape == first.shape and torch.allclose(output, first, 1e-5, 1e-5) for output in outputs)
    else:
        assert any(torch.equal(output, first) for output in outputs)


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
LEFT_OUT = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...], dict[str, Any]]] = {
    "LSTM": (lambda: nn.LSTM(16, 6, 2, batch_first=True, bidirectional=True), (X,), {}),
    "LSTM with projections": (lambda: nn.LSTM(16, 6, proj_size=4), (X,), {}),
    "GRU": (lambda: nn.GRU(16, 6, 2), (X,), {}),
    "RNN": (lambda: nn.RNN(16, 6, nonlinearity="relu"), (X,), {}),
    "LSTMCell": (lambda: nn.LSTMCell(16, 6), (X[0],), {}),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(16, 2, batch_first=True), (X, X, X), {}),
    "MultiheadAttention without weights": (
        lambda: nn.MultiheadAttention(16, 2, batch_first=True), (X, X, X), {"need_weights": False},
    ),
    "MultiheadAttention with padding": (
        lambda: nn.MultiheadAttention(16, 2, batch_first=True), (X, X, X), {"key_padding_mask": LEFT_OUT},
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2), (X,), {},
    ),
    "TransformerEncoder with padding": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2),
        (X,),
        {"src_key_padding_mask": LEFT_OUT},
    ),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 24, batch_first=True), 1), (X, X), {},
    ),
    "Transformer": (lambda: nn.Transformer(16, 2, 1, 1, 24, batch_first=True), (X, X[:, :4]), {}),
    "a convolution before an LSTM": (lambda: nn.Sequential(nn.Conv1d(5, 5, 3, padding=1), nn.LSTM(16, 6)), (X,), {}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_torch_in_one_kernel_explains_itself_without_an_option(name):
    """Its values are those of the plain run, to rounding: positions that are left out have none there."""
    build, inputs, keywords = LAYERS[name]
    torch.manual_seed(0)
    module = build().eval()
    with torch.no_grad():
        expected = module(*inputs, **keywords)
    trace = record(module, *inputs, **keywords)
    assert check(trace, cells=500).failures == []
    first = expected if isinstance(expected, torch.Tensor) else expected[0]
    output = trace["output" if "output" in trace else "output.0"].value
    kept = ~keywords["src_key_padding_mask"] if "src_key_padding_mask" in keywords else slice(None)
    torch.testing.assert_close(output[kept], first[kept])
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch._C._get_mkldnn_enabled()


def test_names_are_those_of_the_source():
    module, inputs, keywords = FOREIGN["transformers GPT-2"]()
    trace = record(module, *inputs, decompose=True, **keywords)
    for name in ("query_states", "key_states", "value_states", "attn_output", "output.0"):
        assert f"transformer.h.1.attn.{name}" in trace, name
    assert "logits" in trace
