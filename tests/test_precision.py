"""Models of every kind in half precision, on the CPU: they run, and differ from float32 by rounding alone."""

from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.errors import ConfigError
from support.tiny import TINY, inputs

SMALL: dict[str, dict[str, Any]] = {**TINY, "word2vec": {"vocab_size": 11, "d_model": 8}}
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
ROUNDINGS = 24  # one after the other, at most, between the weights of one layer and a logit, all to one side


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", SMALL)
def test_half_precision_differs_from_float32_by_rounding(name: str, dtype: str, unchecked: None) -> None:
    half = gf.build(name, **SMALL[name]).to("cpu", dtype)
    precision = next(half.module.parameters()).dtype
    assert str(precision) == f"torch.{dtype}"
    given = [each.to(precision) if each.is_floating_point() else each for each in inputs(half)]
    given = given * 2 if half.kind == "word-vectors" else given  # a word, and those that it is compared with
    with torch.no_grad():
        found = half(*given)
        wide = half.to(dtype=torch.float32)  # the same rounded weights
        expected = wide(*(each.float() if each.is_floating_point() else each for each in given))
    assert found.dtype == precision
    assert expected.isfinite().all()
    largest = float(expected.abs().max())
    assert float((found.float() - expected).abs().max()) <= ROUNDINGS * ROUNDING[precision] * largest


def test_every_architecture_is_among_these() -> None:
    from glassformer.models import specs

    assert set(SMALL) == set(specs())


@pytest.mark.parametrize("name", ["gpt2", "llama", "rnn"])
def test_half_precision_generates(name: str) -> None:
    model = gf.build(name, **SMALL[name]).to(dtype="bfloat16")
    assert model.generate_ids(torch.tensor([[1, 2]]), max_new_tokens=3).shape == (1, 5)


def test_a_model_is_loaded_onto_a_device_in_a_precision() -> None:
    model = gf.load("nano-sort", device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.bfloat16}
    assert "".join(model.generate("CBABBC", max_new_tokens=6, temperature=0.0)) == "ABBBCC"
    assert gf.load("preset:nano-sort", dtype=torch.float16).module.lm_head.weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "meta"}, "device is 'meta', and this machine has cpu"),
        ({"device": "cuda:99"}, "device is 'cuda:99', and this machine has cpu"),
        ({"device": "graphics"}, "device is 'graphics', and this machine has cpu"),
        ({"dtype": "int8"}, "dtype is int8, and models run in float32, bfloat16, float16, float64"),
        ({"dtype": torch.int8}, "dtype is torch.int8, and models run in"),
    ],
)
def test_what_no_model_runs_on_or_in_is_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gf.load("nano-sort", **settings)
    with pytest.raises(ConfigError, match=says):
        gf.build("nano-sort").to(**settings)
