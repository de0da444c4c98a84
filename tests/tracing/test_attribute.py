"""The parts of a logit add up to it, in every model of ours and in others' modules, and are those of the definition."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.errors import TraceError
from glassformer.tracing.attribute import attribute
from glassformer.tracing.recorder import record
from support.commands import run
from support.counts import count
from support.ports import port
from support.tiny import TINY, inputs

CURVED = ("rnn", "seq2seq", "bert", "roberta", "distilbert")  # a curve stands between the stream and their logits


def answer(trace):
    name = next(n for n in trace.names if n.split(".")[0] == "output" and trace[n].record.dtype.is_floating_point)
    return trace[name]


@pytest.mark.parametrize("name", TINY)
def test_the_parts_of_random_logits_add_up_to_them(name):
    torch.manual_seed(0)
    model = gf.build(name, **TINY[name])
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    trace = gf.trace(model, *inputs(model))
    choose = random.Random(0)
    for _ in range(count("attributed logits")):
        cell = answer(trace)[[choose.randrange(n) for n in answer(trace).shape]]
        parts = attribute(trace, cell)
        assert parts.passed, (parts.rounding, parts.bound)
        assert parts.bound < 1e-2 * sum(abs(term.value) for term in parts.terms) + 1e-4
        kinds = {term.kind for term in parts.terms}
        assert {"mlp"} <= kinds
        assert name in CURVED or "head" in kinds


def test_the_parts_of_gpt2_of_transformers_are_those_of_the_definition():
    theirs = port("gpt2")
    theirs.theirs.requires_grad_(False)
    trace = record(theirs.theirs, *theirs.inputs)
    with torch.no_grad():
        theirs.theirs.set_attn_implementation("eager")
        outputs = theirs.theirs(*theirs.inputs, output_attentions=True, output_hidden_states=True)
    model, b, t, token = theirs.theirs.transformer, 1, -1, 7
    final = outputs.hidden_states[-1]  # after the final norm
    before = {}
    hook = model.ln_f.register_forward_pre_hook(lambda module, given: before.update(x=given[0]))
    zs, vs = {}, {}
    hooks = [hook]
    for layer, block in enumerate(model.h):
        hooks.append(
            block.attn.c_proj.register_forward_pre_hook(lambda m, given, layer=layer: zs.update({layer: given[0]}))
        )
        hooks.append(
            block.attn.c_attn.register_forward_hook(lambda m, given, out, layer=layer: vs.update({layer: out}))
        )
    with torch.no_grad():
        theirs.theirs(*theirs.inputs)
    for each in hooks:
        each.remove()
    x = before["x"][b, t].numpy()
    scale = 1 / np.sqrt(x.var() + model.ln_f.eps)
    direction = (model.ln_f.weight * theirs.theirs.lm_head.weight[token]).detach().numpy()

    def share(part):
        return float(((part - part.mean()) * scale) @ direction)

    parts = {str(term): term for term in attribute(trace, f"output.logits[{b},{t},{token}]").terms}
    assert np.isclose(float(final[b, t] @ theirs.theirs.lm_head.weight[token]), sum(p.value for p in parts.values()))
    tokens = theirs.inputs[0]
    assert np.isclose(parts["transformer.wte"].value, share(model.wte.weight[tokens[b, t]].detach().numpy()))
    assert np.isclose(parts["transformer.wpe"].value, share(model.wpe.weight[len(tokens[b]) - 1].detach().numpy()))
    for layer, block in enumerate(model.h):
        output = block.attn.c_proj.weight.detach().numpy()  # rows are inputs
        for head in range(4):
            rows = slice(6 * head, 6 * head + 6)
            term = parts[f"transformer.h.{layer}.attn head {head}"]
            assert np.isclose(term.value, share(zs[layer][b, t, rows].numpy() @ output[rows]))
            pattern = outputs.attentions[layer][b, head, t].numpy()
            values = vs[layer][b, :, 48:][:, rows].numpy()
            sources = [share(p * v @ output[rows]) for p, v in zip(pattern, values, strict=True)]
            assert np.allclose(term.sources, sources)


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_modules_of_others_are_read_by_their_structure(family, decompose):
    theirs = port(family)
    keywords = {"input_ids": theirs.inputs[0]}
    if family == "t5":
        keywords = {"input_ids": theirs.sources[0], "decoder_input_ids": theirs.inputs[0]}
    trace = record(theirs.theirs.float(), decompose=decompose, **keywords)
    parts = attribute(trace, answer(trace)[0, -1, 3])
    assert parts.passed
    heads = [term for term in parts.terms if term.kind == "head"]
    assert len(heads) == (16 if family == "t5" else 8)
    for term in heads:
        assert term.sources.sum().item() == pytest.approx(term.value, rel=1e-4, abs=1e-6)
    assert sum(term.kind == "embedding" for term in parts.terms) == 1
    assert sum(term.kind == "position" for term in parts.terms) == (2 if family == "bert" else 0)  # and types


def test_which_letters_voted_for_a():
    trace = gf.trace(gf.load("nano-sort"), "CBABBC")
    alone = attribute(trace, "logits[0,-1,0]")
    votes = alone.sources()
    assert "CBABBC"[int(votes.argmax())] == "A"
    assert votes.max() > 5 * votes[[0, 1, 3, 4, 5]].max()
    assert str(alone.why(1)[0]) == "blocks.2.mlp"  # which has read what the heads before it brought
    parts = attribute(trace, "logits[0,-1,0]", minus="logits[0,-1,2]")
    single = [attribute(trace, f"logits[0,-1,{token}]") for token in (0, 2)]
    assert parts.value == pytest.approx(single[0].value - single[1].value)
    output = run("attribute", "nano-sort", "--input", "CBABBC", "--cell", "logits[0,-1,0]", "--minus", "logits[0,-1,2]")
    assert output.returncode == 0
    assert "✓" in output.stdout
    output = run("attribute", "nano-sort", "--input", "CBABBC", "--cell", "logits[0,-1,0]", "--json")
    assert json.loads(output.stdout)["sources"] == pytest.approx(single[0].sources().tolist())


def test_cells_that_are_no_logits_get_one_sentence():
    trace = gf.trace(gf.build("nano-sort"), "CBABBC")
    for cell, says in {
        "tokens[0,0]": "is no logit",
        "blocks.0.attn.weights[0,0,0,0]": "is no logit",
        "token_embedding.output[0,0,0]": "is no logit",
        "logits[0,9,0]": "there is no cell",
        "logits": "names no cell",
        "nothing[0]": "no tensor nothing",
    }.items():
        with pytest.raises(TraceError, match=says):
            attribute(trace, cell)
    with pytest.raises(TraceError, match="different tensors"):
        attribute(trace, "logits[0,0,0]", minus="x[0,0,0]")
    with pytest.raises(TraceError, match="no cell of this trace"):
        attribute(trace, record(nn.Linear(2, 2), torch.ones(1, 2))["output"][0, 0])
    assert run("attribute", "nano-sort", "--input", "CBABBC", "--cell", "logits").returncode == 2
