"""Models of every kind behind the one facade: called, recorded, recomputed to the last number, saved and loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import models
from glassformer.errors import ConfigError, GenerationError
from glassformer.nn.rope import KINDS
from glassformer.training.load_config import resolve
from support.counts import count
from support.tiny import TINY, inputs


def test_every_architecture_is_here() -> None:
    assert {*TINY, "word2vec"} == set(models.specs())  # word vectors have no text to read


@pytest.mark.parametrize("name", TINY)
def test_every_number_of_a_pass_recomputes(name: str) -> None:
    model = gf.build(name, **TINY[name])
    given = inputs(model)
    trace = gf.trace(model, *given)
    report = trace.check(cells=count("cells of a model"))
    assert report.failures == []
    assert report.checked > 500
    with gf.use("readable", attention="naive"), torch.no_grad():
        assert torch.equal(trace["logits"].value, model(*given))


def test_every_number_of_a_decoder_with_experts_windows_and_norms_of_queries_recomputes() -> None:
    choices = {"experts": {"n": 3, "top_k": 2}, "sliding_windows": (3, 0), "qk_norm": True, "qkv_bias": True}
    model = gf.build("llama", **TINY["llama"] | {"n_layers": 2}, **choices)
    report = gf.trace(model, *inputs(model)).check(cells=count("cells of a model"))
    assert report.failures == []
    assert report.checked > 500


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_decoder_with_scaled_rotary_positions_recomputes(kind: str) -> None:
    scaling: dict[str, Any] = {"kind": kind, "factor": 2.0, "original_context_length": 3}
    if kind == "longrope":
        scaling |= {"short_factors": [1.0, 1.5], "long_factors": [2.0, 3.0]}
    sizes = {**TINY["phi3"], "d_model": 12, "d_rotary": 4}
    model = gf.build("phi3", **sizes, rope_scaling=scaling)
    report = gf.trace(model, *inputs(model)).check(cells=count("cells of a model"))
    assert report.failures == []
    assert report.checked > 500


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_is_the_model(name: str, tmp_path: Path) -> None:
    model = gf.build(name, **TINY[name])
    gf.save(model, tmp_path / name)
    again = gf.load(tmp_path / name)
    given = inputs(model)
    assert again.config == model.config
    assert torch.equal(again(*given), model(*given))


@pytest.mark.parametrize("name", ["bert", "seq2seq", "transformer", "whisper", "vit"])
def test_what_a_kind_cannot_do_is_said_in_a_sentence(name: str) -> None:
    model = gf.build(name, **TINY[name])
    with pytest.raises(GenerationError, match=r"This takes a language model, and the model is an? "):
        model.generate_ids(torch.ones(1, 2, dtype=torch.long), max_new_tokens=2)


def test_a_model_that_no_task_trains_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="No task trains an encoder"):
        resolve({"model": {"architecture": "bert", **TINY["bert"]}})
    with pytest.raises(ConfigError, match="'sort' trains a language model, and this is an encoder-decoder"):
        resolve({"task": "sort", "model": {"architecture": "transformer", **TINY["transformer"]}})
