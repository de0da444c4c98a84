"""The families of the modern decoder: published sizes, and windows as configuration files say them."""

from typing import Any

import pytest

from glassformer import models
from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from support.tiny import FAMILIES

SCALED = {"rope_type": "linear", "factor": 2.0}
PARAMETERS = {
    "mistral": {"mistral-7b-v0.1": 7_241_732_096, "mistral-7b-v0.3": 7_248_023_552},
    "qwen2": {
        "qwen2.5-0.5b": 494_032_768,
        "qwen2.5-1.5b": 1_543_714_304,
        "qwen2.5-3b": 3_085_938_688,
        "qwen2.5-7b": 7_615_616_512,
        "qwen2.5-14b": 14_770_033_664,
        "qwen2.5-32b": 32_763_876_352,
    },
    "qwen3": {
        "qwen3-0.6b": 596_049_920,
        "qwen3-1.7b": 1_720_574_976,
        "qwen3-4b": 4_022_468_096,
        "qwen3-8b": 8_190_735_360,
        "qwen3-14b": 14_768_307_200,
        "qwen3-32b": 32_762_123_264,
    },
    "mixtral": {"mixtral-8x7b": 46_702_792_704, "mixtral-8x22b": 140_620_634_112},
    "qwen3_moe": {"qwen3-30b-a3b": 30_532_122_624, "qwen3-235b-a22b": 235_093_634_560},
    "olmo2": {
        "olmo-2-1b": 1_484_916_736,
        "olmo-2-7b": 7_298_617_344,
        "olmo-2-13b": 13_716_198_400,
        "olmo-2-32b": 32_234_279_936,
    },
    "granite": {"granite-3.0-2b": 2_533_531_648, "granite-3.0-8b": 8_170_848_256},
    "smollm3": {"smollm3-3b": 3_075_098_624},
    "phi3": {"phi-3-mini-4k": 3_821_079_552, "phi-3-medium-4k": 13_960_238_080, "phi-4": 14_659_507_200},
    "gemma2": {"gemma-2-2b": 2_614_341_888, "gemma-2-9b": 9_241_705_984, "gemma-2-27b": 27_227_128_320},
    "gemma3": {"gemma-3-270m": 268_098_176, "gemma-3-1b": 999_885_952},
}


def to_huggingface(family: str, **changes: Any) -> dict[str, Any]:
    spec: Any = models.specs()[family]
    config = from_mapping(spec.config, FAMILIES[family] | changes)
    written: dict[str, Any] = spec.published.to_huggingface(config)
    return written


def from_huggingface(family: str, **theirs: Any) -> Any:
    published: Any = models.specs()[family].published
    return published.from_huggingface({"num_hidden_layers": 3, **theirs})


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=pytest.mark.slow) if name == "qwen3_moe" else name for name in FAMILIES],
)
def test_a_preset_has_the_published_number_of_parameters(family: str) -> None:
    spec = models.specs()[family]
    built = {name: spec.outline(config) for name, config in spec.presets.items()}
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in built.items()}
    assert sizes == PARAMETERS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_from_huggingface_undoes_to_huggingface(family: str) -> None:
    spec: Any = models.specs()[family]
    for config in [*spec.presets.values(), spec.config()]:
        assert spec.published.from_huggingface(spec.published.to_huggingface(config)) == config


def test_mistral_has_one_window_or_none() -> None:
    assert from_huggingface("mistral").sliding_windows == (4096,)
    assert from_huggingface("mistral", sliding_window=None).sliding_windows == ()
    assert from_huggingface("mistral", sliding_window=64, max_position_embeddings=64).sliding_windows == (64,)
    dynamic = {"kind": "dynamic", "factor": 4.0, "original_context_length": 16}
    written = to_huggingface("mistral", context_length=64, sliding_windows=(20,), rope_scaling=dynamic)
    assert (written["max_position_embeddings"], written["sliding_window"]) == (16, 20)
    assert from_huggingface("mistral", **written).sliding_windows == (20,)
    by_type = {"full_attention": {"rope_type": "dynamic", "factor": 4.0}, "sliding_attention": {"rope_type": "default"}}
    scaled = from_huggingface("gemma3", max_position_embeddings=16, sliding_window=20, rope_parameters=by_type)
    assert (scaled.context_length, scaled.sliding_windows) == (64, (20,))
    assert to_huggingface("mistral", n_layers=2, sliding_windows=(3, 3))["sliding_window"] == 3
    assert to_huggingface("mistral", sliding_windows=())["sliding_window"] is None
    with pytest.raises(ExportError, match=r"Mistral cannot express sliding_windows = \(3, 0\); it has one for all"):
        to_huggingface("mistral", n_layers=2, sliding_windows=(3, 0))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_qwens_windows_are_in_the_layers_that_are_named_or_counted(family: str) -> None:
    uses = {"use_sliding_window": True, "sliding_window": 9}
    assert from_huggingface(family, sliding_window=9, max_window_layers=0).sliding_windows == ()
    assert from_huggingface(family, **uses).sliding_windows == ()  # from layer 28 on
    assert from_huggingface(family, **uses, max_window_layers=1).sliding_windows == (0, 9, 9)
    assert from_huggingface(family, **uses, max_window_layers=0).sliding_windows == (9,)
    types = ["sliding_attention", "full_attention", "full_attention"]
    assert from_huggingface(family, **uses, max_window_layers=1, layer_types=types).sliding_windows == (9, 0, 0)
    written = to_huggingface(family, n_layers=3, sliding_windows=(0, 0, 5))
    assert (written["sliding_window"], written["max_window_layers"]) == (5, 2)
    assert written["layer_types"] == ["full_attention", "full_attention", "sliding_attention"]
    with pytest.raises(ExportError, match="they are all of one size there"):
        to_huggingface(family, n_layers=2, sliding_windows=(3, 4))


def test_smollm3_lists_or_counts_the_layers_that_rotate() -> None:
    """A list of that name has 1 for a layer with rotation; windows are for the layers without, or as named."""
    five = {"num_hidden_layers": 5}
    assert from_huggingface("smollm3", **five).rotary_layers == (True, True, True, False)
    assert from_huggingface("smollm3", **five, no_rope_layer_interval=2).rotary_layers == (True, False)
    assert from_huggingface("smollm3", no_rope_layers=[1, 1, 1]).rotary_layers == (True,)
    assert from_huggingface("smollm3", no_rope_layers=[0, 1, 1, 0, 0]).rotary_layers == (False, True, True)
    uses = {"use_sliding_window": True, "sliding_window": 9, "no_rope_layers": [1, 0, 0]}
    assert from_huggingface("smollm3", **uses).sliding_windows == (0, 9, 9)
    named = ["sliding_attention", "full_attention", "full_attention"]
    assert from_huggingface("smollm3", **uses, layer_types=named).sliding_windows == (9, 0, 0)
    written = to_huggingface("smollm3", n_layers=3, rotary_layers=(False, True), sliding_windows=(0, 0, 5))
    assert written["no_rope_layers"] == [0, 1, 0]
    assert written["layer_types"] == ["full_attention", "full_attention", "sliding_attention"]
    with pytest.raises(ConfigError, match="rotary_layers must be a list of true and false, not \\(\\)"):
        from_mapping(models.specs()["smollm3"].config, {"rotary_layers": []})


@pytest.mark.parametrize(
    ("family", "theirs", "says"),
    [
        ("mistral", {"sliding_window": 0}, "config.json: sliding_window must be a whole number from 1 on, or null"),
        ("mistral", {"sliding_window": "all"}, "sliding_window must be a whole number from 1 on, or null, not 'all'"),
        ("qwen2", {"max_window_layers": None}, "max_window_layers must be a whole number, not None"),
        ("qwen2", {"num_hidden_layers": 10**12}, "num_hidden_layers must be a whole number from 1 to 10,000"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types must name full_attention or sliding_attention for"),
        ("qwen3", {"layer_types": ["linear_attention"] * 3}, "layer_types must name full_attention or"),
        ("qwen3", {"attention_bias": "yes"}, "qkv_bias must be true or false"),
        ("qwen3_moe", {"mlp_only_layers": 1}, "mlp_only_layers must be a list of numbers of layers, not 1"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step must be a whole number from 1 on, not 0"),
        ("qwen3_moe", {"decoder_sparse_step": 2, "intermediate_size": 0}, "d_dense must be"),
        ("qwen3_moe", {"num_experts": 10**9}, "experts.n must be a whole number from 1 to 10000"),
        ("granite", {"logits_scaling": 0}, "logits_scaling must be a positive number, not 0"),
        ("granite", {"residual_multiplier": "small"}, "residual_multiplier must be a number"),
        ("mixtral", {"num_experts_per_tok": 0}, "experts.top_k must be a whole number from 1 to 8, not 0"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers must be 0 or 1 for each of the 3 layers"),
        ("smollm3", {"no_rope_layers": [1, 0, 2]}, "no_rope_layers must be 0 or 1 for each of the 3 layers"),
        ("smollm3", {"no_rope_layer_interval": 0}, "no_rope_layer_interval must be a whole number from 1 on, not 0"),
        ("smollm3", {"num_hidden_layers": 10**12}, "num_hidden_layers must be a whole number from 1 to 10,000"),
        ("mixtral", {"num_experts_per_tok": 9}, "experts.top_k must be a whole number from 1 to 8, not 9"),
        ("phi3", {"partial_rotary_factor": 0.01}, "0.01 of a head's features are 0, which do not turn in pairs"),
        (
            "phi3",
            {"partial_rotary_factor": 1.5},
            "the part of a head that turns must be above 0 and at most 1, not 1.5",
        ),
        (
            "phi3",
            {"partial_rotary_factor": 0.5, "hidden_size": "8"},
            "num_attention_heads and head_dim must be whole",
        ),
        ("phi3", {"rope_scaling": {"type": "linear"}}, "rope_type 'linear' is not supported; default and longrope are"),
        ("phi3", {"rope_scaling": {"type": "su"}}, "rope_scaling.short_factors must be a list, not None"),
        (
            "gemma2",
            {"layer_types": ["full_attention"]},
            "layer_types must name full_attention or sliding_attention for",
        ),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_scalar must be a whole number from 1"),
        ("gemma2", {"final_logit_softcapping": -1.0}, "logit_softcap must be a number from 0 on, not -1.0"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation = 'gelu' is not supported"),
        ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern must be a whole number from 1 on, not 0"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not supported"),
        ("gemma3", {"rope_parameters": [1]}, r"the rotary settings must be an object, not \[1\]"),
        ("gemma3", {"rope_parameters": {"sliding_attention": SCALED}}, "settings of sliding_attention are scaled"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_no_model_of_a_family_has_is_refused_by_name(
    family: str, theirs: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        from_huggingface(family, **theirs)


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("mixtral", {"experts": {"n": 3, "norm_top_k": False}}, "Mixtral cannot express experts.norm_top_k = False"),
        ("phi3", {"rope_style": "interleaved"}, "Phi3 cannot express rope_style = 'interleaved'"),
        ("phi3", {"rope_scaling": {"kind": "linear"}}, "Phi3 cannot express a rope_scaling of kind linear"),
        ("qwen3_moe", {"n_layers": 2, "sliding_windows": [3, 0]}, "Qwen3MoE cannot express sliding_windows"),
        ("gemma2", {"rope_theta_local": 5.0}, "Gemma2 cannot express rope_theta_local = 5.0"),
        ("gemma2", {"qk_norm": True}, "Gemma2 cannot express qk_norm = True"),
        ("gemma3", {"score_softcap": 3.0}, "Gemma3 cannot express score_softcap = 3.0"),
        (
            "gemma3",
            {"rope_theta_local": 0.0, "rope_scaling": {"kind": "linear"}},
            "Gemma3 cannot express rope_theta_lo",
        ),
    ],
    ids=str,
)
def test_what_no_model_of_a_family_has_is_not_written_as_one(family: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        to_huggingface(family, **changes)


def test_the_number_of_experts_is_read_by_either_name() -> None:
    for name in ("num_experts", "num_local_experts"):
        assert from_huggingface("qwen3_moe", **{name: 24}).experts.n == 24
