"""GPT-NeoX: published sizes, and settings by the names of both versions of `transformers`."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from glassformer.errors import ConfigError, ExportError
from glassformer.models.gpt_neox import PRESETS, SPEC, GPTNeoXConfig
from glassformer.models.published.gpt_neox import PUBLISHED, head_by_head
from glassformer.nn.rope import RopeScaling

PARAMETERS = {
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "gpt-neox-20b": 20_554_567_680,
}
SIZES: dict[str, Any] = {"vocab_size": 11, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}


def test_a_preset_has_the_published_number_of_parameters() -> None:
    sizes = {name: sum(p.numel() for p in SPEC.outline(config).parameters()) for name, config in PRESETS.items()}
    assert sizes == PARAMETERS


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        GPTNeoXConfig(),
        GPTNeoXConfig(**SIZES, d_rotary=8, parallel=False, attn_bias=False, tied_head=True, activation="relu"),
        GPTNeoXConfig(
            **SIZES, rope_theta=77.0, rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_context_length=4)
        ),
    ],
    ids=str,
)
def test_from_huggingface_undoes_to_huggingface(config: GPTNeoXConfig) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] == "gpt_neox"
    assert PUBLISHED.from_huggingface(written) == config


def test_every_part_of_a_head_is_written_so_that_as_many_features_turn() -> None:
    for d_head in range(2, 200, 3):
        for d_rotary in range(2, d_head + 1, 2):
            config = GPTNeoXConfig(**SIZES | {"n_heads": 1, "d_model": d_head}, d_rotary=d_rotary)
            assert int(d_head * PUBLISHED.to_huggingface(config)["rotary_pct"]) == d_rotary


def test_rotary_settings_are_read_where_version_4_and_where_version_5_write_them() -> None:
    old = PUBLISHED.from_huggingface({"rotary_pct": 0.5, "rotary_emb_base": 500})
    new = PUBLISHED.from_huggingface({"rope_parameters": {"rope_theta": 500, "partial_rotary_factor": 0.5}})
    assert old == new
    assert (old.rope_theta, old.d_rotary) == (500.0, 48)
    assert PUBLISHED.from_huggingface({}).d_rotary == 24


def test_heads_of_a_fused_projection_stand_one_after_the_other() -> None:
    q, k, v = (torch.arange(6.0) + 10 * n for n in range(3))
    rename = head_by_head(("q", "k", "v"), "qkv", 2)
    fused = torch.tensor([0.0, 1, 2, 10, 11, 12, 20, 21, 22, 3, 4, 5, 13, 14, 15, 23, 24, 25])
    assert torch.equal(rename.write([q, k, v]), fused)
    assert all(map(torch.equal, rename.read(fused), (q, k, v)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"d_rotary": 10}, "d_rotary must be an even number from 0 to d_head 8, not 10"),
        ({"d_rotary": -2}, "d_rotary must be a whole number"),
        ({"n_heads": 3}, "does not divide"),
        ({"rope_theta": 0.0}, "rope_theta must be a positive number"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"parallel": 2}, "parallel must be one of True, False"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GPTNeoXConfig(**SIZES | wrong)


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"rotary_pct": 0.0}, "the part of a head that turns must be above 0 and at most 1, not 0.0"),
        ({"rotary_pct": "all"}, "the part of a head that turns must be above 0 and at most 1, not 'all'"),
        ({"rotary_pct": 0.01}, "0.01 of a head's features are 0, which do not turn in pairs"),
        ({"num_attention_heads": 0}, "hidden_size, num_attention_heads and head_dim must be whole numbers from 1"),
        ({"rope_scaling": {"type": "other"}}, "rope_type 'other' is not supported"),
        ({"hidden_act": "tanh"}, "hidden_act 'tanh' is not one of"),
        ({"use_parallel_residual": 1}, "parallel must be true or false"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PUBLISHED.from_huggingface(theirs)


def test_dynamic_scaling_that_reaches_elsewhere_is_not_written() -> None:
    scaling = RopeScaling(kind="dynamic", factor=2.0, original_context_length=8)
    config = GPTNeoXConfig(**SIZES, rope_scaling=scaling, d_rotary=4)
    assert PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(config)) == config
    with pytest.raises(ExportError, match="GPT-NeoX cannot express context_length = 15 with dynamic scaling"):
        PUBLISHED.to_huggingface(replace(config, context_length=15))
