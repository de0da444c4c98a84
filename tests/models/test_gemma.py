"""Gemma: caps, the precision of its embeddings, windows by turns, and angles that differ between layers."""

from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import models
from glassformer.errors import ConfigError
from glassformer.models.gemma import rounded
from glassformer.nn import kv_cache
from support.tiny import FAMILIES


def from_huggingface(family: str, **theirs: Any) -> Any:
    published: Any = models.specs()[family].published
    return published.from_huggingface(theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_rounded_number_is_that_of_the_precision(dtype: torch.dtype) -> None:
    for d_model in (1, 2, 3, 640, 1152, 2304, 3584, 4608, 5376):
        assert rounded(d_model**0.5, dtype) == torch.tensor(d_model**0.5, dtype=torch.float64).to(dtype).item()


def test_embeddings_are_multiplied_in_the_precision_of_the_model() -> None:
    model = gf.build("gemma2", **FAMILIES["gemma2"] | {"d_model": 48}).to(dtype="bfloat16")
    module, tokens, read = model.module, torch.tensor([[1, 2, 3]]), []
    module.blocks[0].register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    module(tokens)
    assert torch.equal(read[0], module.token_embedding(tokens) * torch.tensor(48**0.5).bfloat16())


@torch.no_grad()
def test_caps_keep_logits_within_them() -> None:
    model = gf.build("gemma2", **FAMILIES["gemma2"], logit_softcap=0.5)
    for parameter in model.module.parameters():
        parameter.mul_(30)
    logits = model(torch.tensor([[1, 2, 3, 4]]))
    assert 0.4 < logits.abs().max() <= 0.5


def test_windows_are_in_all_layers_but_every_second_or_sixth_unless_the_file_says_otherwise() -> None:
    assert from_huggingface("gemma2").sliding_windows == (4096, 0)
    assert from_huggingface("gemma2", num_hidden_layers=1, sliding_window=9).sliding_windows == (9,)
    assert from_huggingface("gemma2", sliding_window_pattern=3).sliding_windows == (4096, 0)  # which is Gemma 3's
    assert from_huggingface("gemma3").sliding_windows == (4096, 4096, 4096, 4096, 4096, 0)
    assert from_huggingface("gemma3", sliding_window_pattern=2).sliding_windows == (4096, 0)
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = from_huggingface("gemma3", num_hidden_layers=3, sliding_window=5, layer_types=types)
    assert config.sliding_windows == (0, 5)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_without_a_window_one_as_long_as_the_context_is_written_since_transformers_takes_no_null(family: str) -> None:
    spec: Any = models.specs()[family]
    config = spec.config(**FAMILIES[family] | {"sliding_windows": ()})
    written = spec.published.to_huggingface(config)
    assert (written["sliding_window"], set(written["layer_types"])) == (8, {"full_attention"})
    assert spec.published.from_huggingface(written) == config


def test_the_angles_of_both_kinds_of_layers_are_read_where_either_version_of_transformers_writes_them() -> None:
    scaled = {"rope_type": "linear", "factor": 8.0}
    old = from_huggingface("gemma3", rope_theta=5.0, rope_local_base_freq=3.0, rope_scaling=scaled)
    by_type = {"full_attention": {**scaled, "rope_theta": 5.0}, "sliding_attention": {"rope_theta": 3.0}}
    assert from_huggingface("gemma3", rope_parameters=by_type) == old
    assert (old.rope_theta, old.rope_theta_local, old.rope_scaling.factor) == (5.0, 3.0, 8.0)
    assert (from_huggingface("gemma3").rope_theta, from_huggingface("gemma3").rope_theta_local) == (1e6, 1e4)


def test_the_settings_of_a_published_model_are_those_of_its_preset() -> None:
    theirs = {
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "cache_implementation": "hybrid",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    }
    assert from_huggingface("gemma3", **theirs) == models.presets()["gemma-3-1b"]


@torch.no_grad()
def test_a_layer_with_a_window_keeps_no_sinks_where_it_turns_by_angles_of_its_own() -> None:
    sizes = {**FAMILIES["gemma3"], "context_length": 24, "sliding_windows": (9,), "rope_theta_local": 3.0}
    module = gf.build("gemma3", **sizes).module.double()
    tokens = torch.randint(11, (1, 20))

    def step_by_step(policy: kv_cache.Policy) -> torch.Tensor:
        state = module.begin(None, policy)
        return torch.cat([module(tokens[:, t : t + 1], state) for t in range(20)], 1)

    torch.testing.assert_close(step_by_step(kv_cache.sinks(2, 3)), step_by_step(kv_cache.window(5)))


def test_experts_are_refused() -> None:
    with pytest.raises(ConfigError, match="experts must be one of None"):
        gf.build("gemma2", **FAMILIES["gemma2"], experts={"n": 2, "top_k": 1})
