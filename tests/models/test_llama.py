"""Llama and the course's language model: sizes, ablations, and the configuration in Hugging Face's format."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from glassformer.errors import ConfigError, ExportError
from glassformer.models.llama import PRESETS, Llama, LlamaConfig
from glassformer.models.published.llama import PUBLISHED
from glassformer.nn.rope import RopeScaling
from support import oracles
from support.oracles import array
from support.tolerances import assert_close

PARAMETERS = {
    "cs336": 22_696_448,
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


def test_the_courses_base_model_has_its_rounded_width_and_its_style_of_rotation() -> None:
    config = PRESETS["cs336"]
    assert (config.d_ff, config.d_head, config.rope_style, config.norm_eps) == (1344, 32, "interleaved", 1e-5)
    assert PARAMETERS["cs336"] - config.vocab_size * config.d_model == 17_576_448


def test_rotary_tables_are_no_part_of_the_weights() -> None:
    names = set(Llama(LlamaConfig(**SIZES)).state_dict())
    assert not any("rope" in name or "cos" in name for name in names)
    assert "blocks.1.mlp.gate_proj.weight" in names
    assert not any(name.endswith("bias") for name in names)


# The course's ablations


def random_llama(**changes: Any) -> Llama:
    model = Llama(LlamaConfig(**SIZES | changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.5)
    return model.requires_grad_(False)


def test_without_norms_there_is_none_and_no_weight_of_one() -> None:
    model = random_llama(norm_placement="none")
    assert not any("norm" in name for name in model.state_dict())
    silent = random_llama(norm_placement="none", n_layers=1)
    for name, parameter in silent.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
    tokens = torch.tensor([[3, 1]])
    assert_close(silent(tokens), silent.token_embedding.weight[tokens] @ silent.lm_head.weight.mT)


def test_post_norm_normalises_the_sum() -> None:
    model = random_llama(norm_placement="post", n_layers=1)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
    x = array(model.token_embedding.weight[[4, 2]])
    for norm in (model.blocks[0].attn_norm, model.blocks[0].mlp_norm, model.final_norm):
        x = oracles.rms_norm(x, array(norm.weight), 1e-5)
    assert_close(model(torch.tensor([[4, 2]]))[0], x @ array(model.lm_head.weight).T)


def test_a_silu_network_has_two_matrices_and_no_gate() -> None:
    block = random_llama(ffn="silu").blocks[0]
    assert set(dict(block.mlp.named_parameters())) == {"up_proj.weight", "down_proj.weight"}
    x = torch.randn(3, 12, dtype=torch.float64)
    expected = oracles.silu(array(x) @ array(block.mlp.up_proj.weight).T) @ array(block.mlp.down_proj.weight).T
    assert_close(block.mlp(x), expected)


def test_without_positions_the_order_of_what_came_before_does_not_matter_to_one_layer() -> None:
    model = random_llama(position="none", n_layers=1)
    one, other = model(torch.tensor([[1, 2, 3, 4], [3, 1, 2, 4]]))
    assert_close(one[3], other[3])
    rotary_one, rotary_other = random_llama(n_layers=1)(torch.tensor([[1, 2, 3, 4], [3, 1, 2, 4]]))
    assert not torch.allclose(rotary_one[3], rotary_other[3])


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
        *(config for name, config in PRESETS.items() if name != "cs336"),
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


def test_interleaved_rotation_is_exported_as_halves_since_the_rows_are_put_in_that_order() -> None:
    assert PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(PRESETS["cs336"])) == dataclasses.replace(
        PRESETS["cs336"], rope_style="half"
    )


def test_rotary_settings_are_read_where_version_4_and_where_version_5_write_them() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 8192
    old = PUBLISHED.from_huggingface({"rope_theta": 500_000.0, "rope_scaling": rope})
    new = PUBLISHED.from_huggingface({"rope_parameters": rope | {"rope_theta": 500_000.0}})
    assert old == new
    assert new.rope_theta == 500_000.0
    assert new.rope_scaling == RopeScaling(factor=8.0)


@pytest.mark.parametrize(
    "ablation", [{"norm_placement": "post"}, {"norm_placement": "none"}, {"ffn": "silu"}, {"position": "none"}], ids=str
)
def test_an_ablation_that_the_format_cannot_express_is_refused_with_a_sentence(ablation: dict[str, str]) -> None:
    ((name, value),) = ablation.items()
    with pytest.raises(ExportError, match=f"Llama cannot express {name} = '{value}'"):
        PUBLISHED.to_huggingface(LlamaConfig(**SIZES | ablation))


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
        ({"norm_placement": "middle"}, "norm_placement must be one of pre, post, none, not 'middle'"),
        ({"ffn": "relu"}, "ffn must be one of swiglu, silu, not 'relu'"),
        ({"position": "learned"}, "position must be one of rope, none, not 'learned'"),
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1"),
        ({"tied_head": None}, "tied_head must be one of True, False"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LlamaConfig(**SIZES | wrong)


def test_an_odd_head_is_fine_where_nothing_turns() -> None:
    Llama(LlamaConfig(**SIZES | {"d_head": 3, "position": "none"}))(torch.tensor([[1, 2]]))


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"attention_bias": True}, "attention_bias = True is not supported"),
        ({"mlp_bias": True}, "mlp_bias = True is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn' is not supported"),
        ({"rope_scaling": "llama3"}, "the rotary settings must be an object"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling.factor must be a number, not None"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "8"}}, "rope_scaling.factor must be a number, not '8'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PUBLISHED.from_huggingface(theirs)
