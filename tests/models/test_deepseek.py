"""DeepSeek: published sizes, settings of both versions, and tensors that only other tasks use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import glassformer as gf
from glassformer import models
from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from support.tiny import DEEPSEEK

PARAMETERS = {
    "deepseek_v2": {"deepseek-v2-lite": 15_706_484_224, "deepseek-v2": 235_741_434_880},
    "deepseek_v3": {"deepseek-v3": 671_026_419_200},
}


def published(version: str) -> Any:
    return models.specs()[version].published


@pytest.mark.slow  # tens of thousands of modules
@pytest.mark.parametrize("version", DEEPSEEK)
def test_a_preset_has_the_published_number_of_parameters(version: str) -> None:
    spec = models.specs()[version]
    built = {name: spec.outline(config) for name, config in spec.presets.items()}
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in built.items()}
    assert sizes == PARAMETERS[version]


@pytest.mark.parametrize("way", ["load", "to", "load as it is"])
@torch.no_grad()
def test_what_a_router_prefers_is_not_rounded_with_the_other_weights(way: str, tmp_path: Path) -> None:
    sizes = {"n_layers": 1, "n_dense_layers": 0, "experts": {"n": 16, "top_k": 4}}
    model = gf.build("deepseek_v3", **{**DEEPSEEK["deepseek_v3"], **sizes})
    router: Any = model.module.blocks[0].mlp  # type: ignore[index, union-attr]
    router.router.weight.zero_()  # whatever the token, the balance alone decides
    order = torch.randperm(16)
    router.balance.copy_(6 + order * 1e-4)  # near each other, as published; in bfloat16 all are 6
    gf.save(model, tmp_path / "exact")
    half = {
        "load": lambda: gf.load(tmp_path / "exact", dtype="bfloat16"),
        "to": lambda: model.to(dtype="bfloat16"),
        "load as it is": lambda: gf.load(tmp_path / "half", dtype=None),
    }
    if way == "load as it is":
        gf.save(gf.load(tmp_path / "exact", dtype="bfloat16"), tmp_path / "half")
    half_model = half[way]()
    mlp: Any = half_model.module.blocks[0].mlp  # type: ignore[index, union-attr]
    assert (mlp.router.weight.dtype, mlp.balance.dtype) == (torch.bfloat16, torch.float32)
    chosen = mlp.choose(0.5 + mlp.balance)
    assert set(chosen.tolist()) == set(order.topk(4).indices.tolist())
    gf.save(half_model, tmp_path / "again")
    written = load_file(tmp_path / "again" / "model.safetensors")
    exact = {name for name, tensor in written.items() if tensor.dtype == torch.float32}
    assert exact == {"model.layers.0.mlp.gate.e_score_correction_bias"}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert {weight.dtype for weight in half_model.to(dtype="float64").module.parameters()} == {torch.float64}


@pytest.mark.parametrize("version", DEEPSEEK)
def test_from_huggingface_undoes_to_huggingface(version: str) -> None:
    spec: Any = models.specs()[version]
    scaled = {**DEEPSEEK[version], "rope_scaling": {"kind": "linear", "factor": 4.0}, "mscale": 0.7}
    for config in [*spec.presets.values(), spec.config(), from_mapping(spec.config, scaled)]:
        assert spec.published.from_huggingface(spec.published.to_huggingface(config)) == config


def test_the_settings_of_the_published_model_are_those_of_its_preset_with_a_stretched_context() -> None:
    theirs = {
        "vocab_size": 129280,
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "intermediate_size": 18432,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "hidden_act": "silu",
        "attention_bias": False,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_group": 8,
        "topk_group": 4,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "num_nextn_predict_layers": 1,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "max_position_embeddings": 163840,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    }
    config = published("deepseek_v3").from_huggingface(theirs)
    preset = models.presets()["deepseek-v3"]
    assert config.rope_scaling.amplitude == 1.0
    assert config.score_scale == pytest.approx(192**-0.5 * 1.3688879454113936**2)  # 1 + 0.1 ln 40
    assert replace(config, context_length=4096, rope_scaling=None, mscale=0.0) == preset


def test_scores_are_sharper_where_a_context_is_stretched() -> None:
    spec: Any = models.specs()["deepseek_v3"]
    plain = from_mapping(spec.config, {"mscale": 1.0})
    stretched = from_mapping(spec.config, {"mscale": 1.0, "rope_scaling": {"kind": "linear", "factor": 40.0}})
    assert plain.score_scale == pytest.approx(192**-0.5)
    assert stretched.score_scale == pytest.approx(192**-0.5 * 1.3688879454113936**2)  # 1 + 0.1 ln 40


def test_layers_that_guess_the_tokens_after_the_next_are_left_out(tmp_path: Path) -> None:
    model = gf.build("deepseek_v3", **DEEPSEEK["deepseek_v3"])
    gf.save(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "model.layers.61.eh_proj.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(gf.load(tmp_path)(tokens), model(tokens))


@pytest.mark.parametrize(
    ("version", "theirs", "says"),
    [
        ("deepseek_v3", {"num_key_value_heads": 8}, "num_key_value_heads must be num_attention_heads, 128, not 8"),
        ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func = 'softmax' is not supported"),
        ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq = 2 is not supported"),
        ("deepseek_v3", {"n_group": 7}, "256 experts do not make 7 groups"),
        ("deepseek_v3", {"n_routed_experts": 10**9}, "experts.n must be a whole number from 1 to 10000"),
        ("deepseek_v3", {"qk_rope_head_dim": 3}, "d_rotary must be even, not 3"),
        ("deepseek_v3", {"kv_lora_rank": 0}, "kv_rank must be a whole number from 1"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method must be greedy or group_limited_greedy"),
        ("deepseek_v2", {}, "experts.top_k must be a whole number, not None"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_no_model_of_a_version_has_is_refused_by_name(
    version: str, theirs: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        published(version).from_huggingface(theirs)


@pytest.mark.parametrize(
    ("version", "changes", "says"),
    [
        ("deepseek_v2", {"rope_style": "half"}, "DeepseekV2 cannot express rope_style = 'half'"),
        ("deepseek_v2", {"experts": {"n": 4, "top_k": 2}}, "DeepseekV2 cannot express experts"),
        ("deepseek_v3", {"experts": {"n": 4, "scores": "softmax"}}, "DeepseekV3 cannot express experts.scores"),
    ],
    ids=str,
)
def test_what_no_model_of_a_version_has_is_not_written_as_one(version: str, changes: dict[str, Any], says: str) -> None:
    spec: Any = models.specs()[version]
    with pytest.raises(ExportError, match=says):
        spec.published.to_huggingface(from_mapping(spec.config, DEEPSEEK[version] | changes))
