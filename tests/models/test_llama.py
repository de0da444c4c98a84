"""Llama: sizes, and the configuration in Hugging Face's format."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from glassformer.errors import ConfigError, ExportError
from glassformer.models.llama import PRESETS, Llama, LlamaConfig
from glassformer.models.published.llama import PUBLISHED
from glassformer.nn.rope import RopeScaling
from support.tolerances import assert_close

PARAMETERS = {
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
}

SIZES: dict[str, Any] = {"vocab_size": 11, "context_length": 16, "d_model": 12, "n_layers": 2, "n_heads": 2, "d_ff": 10}


def test_there_are_no_other_presets() -> None:
    assert set(PRESETS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = Llama(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_rotary_tables_are_no_part_of_the_weights() -> None:
    names = set(Llama(LlamaConfig(**SIZES)).state_dict())
    assert not any("rope" in name or "cos" in name for name in names)
    assert "blocks.1.mlp.gate_proj.weight" in names
    assert not any(name.endswith("bias") for name in names)


def random_llama(**changes: Any) -> Llama:
    model = Llama(LlamaConfig(**SIZES | changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.5)
    return model.requires_grad_(False)


def test_rotary_logits_do_not_depend_on_where_the_text_begins() -> None:
    """Padding moves a text's tokens to other columns, and an empty cache's first position is free to choose."""
    model = random_llama()
    tokens = torch.randint(11, (1, 6))
    shifted = torch.cat([torch.zeros(1, 4, dtype=torch.long), tokens], 1)
    valid = torch.arange(10)[None] >= 4
    assert_close(model(shifted, None, valid)[:, 4:], model(tokens))


# Hugging Face


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        LlamaConfig(**SIZES, n_kv_heads=1, d_head=4, tied_head=True, norm_eps=1e-6, rope_theta=123.0, dropout=0.1),
        LlamaConfig(**SIZES, rope_scaling=RopeScaling(kind="linear", factor=4.0)),
        LlamaConfig(**SIZES, rope_scaling=RopeScaling(low_freq_factor=2.0, original_context_length=64)),
    ],
    ids=str,
)
def test_from_huggingface_undoes_to_huggingface(config: LlamaConfig) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] == PUBLISHED.model_types[0]
    back = PUBLISHED.from_huggingface(written)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        assert back.rope_scaling is not None
        assert (back.rope_scaling.kind, back.rope_scaling.factor) == ("linear", config.rope_scaling.factor)
        back = dataclasses.replace(back, rope_scaling=config.rope_scaling)
    assert back == config


def test_rotary_settings_are_read_where_version_4_and_where_version_5_write_them() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 8192
    old = PUBLISHED.from_huggingface({"rope_theta": 500_000.0, "rope_scaling": rope})
    new = PUBLISHED.from_huggingface({"rope_parameters": rope | {"rope_theta": 500_000.0}})
    assert old == new
    assert new.rope_theta == 500_000.0
    assert new.rope_scaling == RopeScaling(factor=8.0)


@pytest.mark.parametrize("kind", ["yarn", "longrope", "llama3"])
def test_the_original_context_stands_with_the_scaling_or_outside_or_is_the_whole_context(kind: str) -> None:
    rope = {"rope_type": kind, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 64, "long_factor": [2] * 64}
    inside = {**rope, "original_max_position_embeddings": 512}
    settings = {"max_position_embeddings": 1024, "rope_scaling": inside, "original_max_position_embeddings": 256}
    assert PUBLISHED.from_huggingface(settings).rope_scaling.original_context_length == 256
    del settings["original_max_position_embeddings"]
    assert PUBLISHED.from_huggingface(settings).rope_scaling.original_context_length == 512
    assert PUBLISHED.from_huggingface(settings | {"rope_scaling": rope}).rope_scaling.original_context_length == 1024


def test_a_factor_that_is_left_out_follows_from_both_contexts() -> None:
    rope = {"type": "yarn", "original_max_position_embeddings": 256, "factor": None}
    settings = {"max_position_embeddings": 1024, "rope_scaling": rope}
    assert PUBLISHED.from_huggingface(settings).rope_scaling == RopeScaling(
        kind="yarn", factor=4.0, original_context_length=256
    )
    scales = rope | {"mscale": 1.0, "mscale_all_dim": 1.0}
    assert PUBLISHED.from_huggingface(settings | {"rope_scaling": scales}).rope_scaling.amplitude == 1.0


def test_dynamic_scaling_reaches_factor_times_as_far() -> None:
    settings = {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.5}}
    config = PUBLISHED.from_huggingface(settings)
    assert (config.context_length, config.rope_scaling.original_context_length) == (160, 64)
    assert PUBLISHED.to_huggingface(config)["max_position_embeddings"] == 64
    with pytest.raises(ExportError, match=r"cannot express context_length = 100 with dynamic scaling by 2\.5"):
        PUBLISHED.to_huggingface(dataclasses.replace(config, context_length=100))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"d_model": 13}, "d_model 13 does not divide into 2 heads; set d_head"),
        ({"d_head": -2}, "d_head must be a whole number"),
        ({"d_head": 3}, "d_head must be even, not 3"),
        ({"n_kv_heads": 3}, "n_heads 2 is not a multiple of n_kv_heads 3"),
        ({"n_heads": 0}, "must be a whole number"),
        ({"rope_theta": 0.0}, "rope_theta must be a positive number"),
        ({"rope_theta": float("inf")}, "rope_theta must be a positive number"),
        ({"rope_theta": 10**400}, "rope_theta must be a positive number"),
        ({"rope_style": "whole"}, "rope_style must be one of half, interleaved, not 'whole'"),
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1"),
        ({"qkv_bias": 1.5}, "qkv_bias must be one of True, False"),
        ({"sliding_windows": (-1,)}, "sliding_windows must be whole numbers from 0 to 2³¹ − 1, not -1"),
        ({"sliding_windows": (2**31,)}, "sliding_windows must be whole numbers from 0 to 2³¹ − 1, not 2147483648"),
        ({"tied_head": None}, "tied_head must be one of True, False"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LlamaConfig(**SIZES | wrong)


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"attention_bias": "yes"}, "qkv_bias must be"),
        ({"mlp_bias": None}, "mlp_bias must be"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"rope_scaling": {"rope_type": "proportional"}}, "rope_type 'proportional' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 0.5}}, "rope_scaling.factor is 0.5; it must be at least 1"),
        ({"rope_scaling": {"rope_type": "yarn", "mscale": "2", "mscale_all_dim": 1}}, "mscale and mscale_all_dim must"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 1e300}}, "context_length must be a whole number"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_scaling.short_factors must be a list"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
        ({"rope_scaling": "llama3"}, "the rotary settings must be an object"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling.factor must be a number, not None"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "8"}}, "rope_scaling.factor must be a number, not '8'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PUBLISHED.from_huggingface(theirs)


@pytest.mark.parametrize("changes", [{"qkv_bias": True}, {"qk_norm": True}, {"sliding_windows": (4, 0)}], ids=str)
def test_what_no_llama_has_is_not_written_as_one(changes: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=f"Llama cannot express {next(iter(changes))}"):
        PUBLISHED.to_huggingface(LlamaConfig(**SIZES | changes))


def test_longrope_has_an_old_name() -> None:
    factors = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
    scaling = {**factors, "factor": 4.0, "original_max_position_embeddings": 512}
    old, new = (PUBLISHED.from_huggingface({"rope_scaling": {"type": kind, **scaling}}) for kind in ("su", "longrope"))
    assert old == new
    assert old.rope_scaling.kind == "longrope"


def test_biases_that_llamas_of_transformers_cannot_have_are_not_written() -> None:
    with pytest.raises(ExportError, match="Llama cannot express qkv_bias = True with o_bias = False"):
        PUBLISHED.to_huggingface(LlamaConfig(qkv_bias=True))
