"""Pointing at a number explains it by what has a name: a score by its query and its key, and no copy under a mask."""

import math
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.tracing.trace import Trace
from glassformer.viewer.folding import steps_of
from glassformer.viewer.pack import pack_scene, record
from glassformer.viewer.responses import answer
from glassformer.viewer.scene import Scene
from support.viewed import recorded


def folded(recording: tuple[Trace, Scene], name: str, *index: int) -> dict[str, Any]:
    trace, scene = recording
    return answer(trace, trace[name].id, index, steps_of(scene))


def test_a_score_is_its_query_times_its_key():
    found = folded(recorded("nano-sort"), "blocks.0.attn.scores", 0, 1, 5, 3)
    assert found["text"] == "(∑ᵢ blocks.0.attn.q[0,1,5,i] · blocks.0.attn.k[0,1,3,i]) / 4"
    read = {(cell["name"].rpartition(".")[2], cell["index"][2]) for cell in found["sources"]}
    assert read == {("q", 5), ("k", 3)}
    assert found["n_sources"] == 32
    assert sum(term["value"] for term in found["terms"]) == pytest.approx(found["cell"]["value"], abs=1e-6)
    assert "q @ k.mT" in found["source"]["text"]


def test_a_weight_is_its_share_and_an_exponential_has_its_score():
    recording = recorded("nano-sort")
    share = folded(recording, "blocks.0.attn.weights", 0, 1, 5, 3)
    assert share["text"] == "blocks.0.attn.exponentials[0,1,5,3] / blocks.0.attn.total[0,1,5,0]"
    power = folded(recording, "blocks.0.attn.exponentials", 0, 1, 5, 3)
    assert power["text"] == "exp(blocks.0.attn.scores[0,1,5,3] − blocks.0.attn.highest[0,1,5,0])"


def test_where_the_mask_hides_a_score_it_is_the_mask_that_explains_it():
    found = folded(recorded("nano-sort"), "blocks.0.attn.scores", 0, 1, 3, 5)
    assert found["cell"]["value"] == str(-math.inf)
    assert any("bitwise_and" in cell["name"] for cell in found["sources"])


def test_a_bias_and_the_weights_stand_in_one_sum():
    found = folded(recorded("nano-sort"), "blocks.0.attn.q", 0, 0, 5, 0)
    assert found["n_terms"] == 48 + 1
    assert sum(term["value"] for term in found["terms"]) == pytest.approx(found["cell"]["value"], abs=1e-5)


def number(value: float | str) -> complex:
    """As it is written: infinities and complex numbers are words."""
    return complex(value.replace("i", "j") if isinstance(value, str) and value.endswith("i") else value)


@pytest.mark.parametrize("name", ["nano-sort", "llama", "gemma3", "t5", "gru", "luong fed", "vit", "whisper", "bert"])
def test_every_folded_number_recomputes_to_what_it_was(name: str):
    trace, scene = recorded(name)
    steps, single = steps_of(scene), 0
    for block in scene.blocks:
        if block.step_of is None and block.kind == "computed":
            index = [n // 2 for n in trace.tensors[block.tensor].shape]
            plain, found = answer(trace, block.tensor, index), answer(trace, block.tensor, index, steps)
            assert found["check"]["passed"], block.name
            before, after = (number(one["check"]["recomputed"]) for one in (plain, found))
            assert after == pytest.approx(before, rel=1e-4, abs=1e-5, nan_ok=True), block.name
            single += found["text"] != plain["text"]
    assert single > 5


def test_what_was_rounded_on_the_way_is_told_step_by_step():
    """In bfloat16 a score's sum has been rounded before it was divided."""
    sizes = {"vocab_size": 5, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2}
    module = gf.build("gpt2", **sizes).module.to(torch.bfloat16)
    trace = record(module, torch.tensor([[2, 1, 0, 1]]))
    scene = pack_scene(trace, module=module, config=module.config, name="half", tokens=[])
    for name in ("scores", "q", "weights"):
        tensor = trace[f"blocks.0.attn.{name}"]
        index = [0] * len(tensor.shape)
        assert answer(trace, tensor.id, index, steps_of(scene)) == answer(trace, tensor.id, index)
