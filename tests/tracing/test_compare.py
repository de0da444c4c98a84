"""Ports of published models: a right one shows no difference, and of a wrong one the step that is wrong is named."""

import copy
import json
import os
import random

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.errors import TraceError
from glassformer.inference.quantize import quantize
from glassformer.tracing.compare import compare_traces
from support.commands import run
from support.counts import count
from support.port_faults import FAULTS
from support.ports import MODELS, port

FEW = (
    "gpt2: k and v swapped",
    "gpt2: eps 1e-6 for 1e-5",
    "llama: heads of k in another order",
    "bert: norm before for after",
)


@pytest.mark.parametrize("name", FAULTS if os.environ.get("GLASSFORMER_FULL") == "1" else FEW)
def test_the_step_that_is_wrong_is_named(name, monkeypatch):
    fault = FAULTS[name]
    faulty = fault.port(monkeypatch)
    comparison = compare_traces(faulty.trace_of(faulty.theirs), faulty.trace_of(faulty.ours))
    assert not comparison.same
    assert fault.is_named_by(*comparison.places), comparison


@pytest.mark.parametrize("family", MODELS)
def test_a_right_port_shows_no_difference(family):
    for seed in range(1, 1 + count("right ports")):
        choose = random.Random(seed)
        right = port(family, seed, **({"num_key_value_heads": choose.choice([1, 2, 4])} if family == "llama" else {}))
        comparison = compare_traces(right.trace_of(right.theirs), right.trace_of(right.ours))
        assert comparison.same, comparison
        assert comparison.growth


def test_weights_that_are_mapped_crosswise_are_said(monkeypatch):
    faulty = FAULTS["llama: gate and up swapped"].port(monkeypatch)
    comparison = gf.compare(faulty.theirs, faulty.ours, *faulty.inputs)
    assert any("mapped crosswise" in reason for reason in comparison.parting.because)
    assert "blocks.1.mlp.gate_proj.weight" in str(comparison)
    before = [pair.difference for pair in comparison.growth if pair.b.operation.module.startswith("blocks.0")]
    after = comparison.growth[-1].difference
    assert before
    assert max(before) <= comparison.tolerance < after


@pytest.fixture
def model():
    return gf.build("gpt2", n_layers=2, n_heads=2, d_model=8, vocab_size=7, context_length=6)


def test_kept_recordings_and_what_is_quantized_are_compared_too(model, tmp_path):
    tokens = torch.tensor([[1, 4, 2, 0, 6]])
    traces = [
        gf.trace(each, tokens)
        for each in (model, gf.build("gpt2", n_layers=2, n_heads=2, d_model=8, vocab_size=7, context_length=6, seed=1))
    ]
    for trace, name in zip(traces, "ab", strict=True):
        trace.save(tmp_path / name)
    again = [gf.load_trace(tmp_path / name) for name in "ab"]
    assert gf.compare(traces[0], again[0]).same
    parting = gf.compare(*again).parting
    assert parting.b.operation.module == "token_embedding"
    small = copy.deepcopy(model)
    quantize(small.module, "int8")
    comparison = gf.compare(model, small, tokens)
    assert not comparison.same
    assert gf.compare(model, small, tokens, tolerance=0.5).same
    assert run("compare", str(tmp_path / "a"), str(tmp_path / "a")).returncode == 0
    output = run("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json")
    assert output.returncode == 1
    assert json.loads(output.stdout)["parting"]["b"]["module"] == "token_embedding"


def test_what_cannot_be_compared_gets_one_sentence(model):
    tokens = torch.tensor([[1, 2]])
    with pytest.raises(TraceError, match="no numbers in common"):
        gf.compare(nn.Embedding(9, 4), nn.Embedding(9, 5), tokens)
    with pytest.raises(TraceError, match="B does not run on this input"):
        gf.compare(model.module, nn.Linear(3, 3), tokens)
    with pytest.raises(TraceError, match="between 0 and 1"):
        gf.compare(model, model, tokens, tolerance=2.0)
    with pytest.raises(TraceError, match="returns no tensor with a fraction"):
        gf.compare(nn.Identity(), nn.Identity(), tokens)
    output = run("compare", "nano-sort", "nano-sort")
    assert (output.returncode, output.stderr.count("\n")) == (2, 1)
