"""The course's language model: its sizes, its ablations, and what it is written as."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from glassformer import models
from glassformer.errors import ConfigError, ExportError
from glassformer.models.cs336 import CS336, PRESETS, CS336Config
from glassformer.models.llama import LlamaConfig
from glassformer.models.published import llama
from glassformer.models.published.cs336 import PUBLISHED
from support import oracles
from support.oracles import array
from support.tolerances import assert_close

SIZES: dict[str, Any] = {"vocab_size": 11, "context_length": 16, "d_model": 12, "n_layers": 2, "n_heads": 2, "d_ff": 10}


def test_the_courses_base_model_has_its_rounded_width_and_its_style_of_rotation() -> None:
    config = PRESETS["cs336"]
    assert (config.d_ff, config.d_head, config.rope_style, config.norm_eps) == (1344, 32, "interleaved", 1e-5)
    with torch.device("meta"):
        n = sum(parameter.numel() for parameter in CS336(config).parameters())
    assert n == 22_696_448
    assert n - config.vocab_size * config.d_model == 17_576_448


def random_model(**changes: Any) -> CS336:
    model = CS336(CS336Config(**SIZES | changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.5)
    return model.requires_grad_(False)


def test_without_norms_there_is_none_and_no_weight_of_one() -> None:
    model = random_model(norm_placement="none")
    assert not any("norm" in name for name in model.state_dict())
    silent = random_model(norm_placement="none", n_layers=1)
    for name, parameter in silent.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
    tokens = torch.tensor([[3, 1]])
    assert_close(silent(tokens), silent.token_embedding.weight[tokens] @ silent.lm_head.weight.mT)


def test_post_norm_normalises_the_sum() -> None:
    model = random_model(norm_placement="post", n_layers=1)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
    x = array(model.token_embedding.weight[[4, 2]])
    for norm in (model.blocks[0].attn_norm, model.blocks[0].mlp_norm, model.final_norm):
        x = oracles.rms_norm(x, array(norm.weight), 1e-5)
    assert_close(model(torch.tensor([[4, 2]]))[0], x @ array(model.lm_head.weight).T)


def test_a_silu_network_has_two_matrices_and_no_gate() -> None:
    block = random_model(ffn="silu").blocks[0]
    assert set(dict(block.mlp.named_parameters())) == {"up_proj.weight", "down_proj.weight"}
    x = torch.randn(3, 12, dtype=torch.float64)
    expected = oracles.silu(array(x) @ array(block.mlp.up_proj.weight).T) @ array(block.mlp.down_proj.weight).T
    assert_close(block.mlp(x), expected)


def test_without_positions_the_order_of_what_came_before_does_not_matter_to_one_layer() -> None:
    model = random_model(position="none", n_layers=1)
    one, other = model(torch.tensor([[1, 2, 3, 4], [3, 1, 2, 4]]))
    assert_close(one[3], other[3])
    rotary_one, rotary_other = random_model(n_layers=1)(torch.tensor([[1, 2, 3, 4], [3, 1, 2, 4]]))
    assert not torch.allclose(rotary_one[3], rotary_other[3])


# Hugging Face


def test_interleaved_rotation_is_exported_as_halves_since_the_rows_are_put_in_that_order() -> None:
    written = PUBLISHED.to_huggingface(PRESETS["cs336"])
    assert PUBLISHED.from_huggingface(written) == dataclasses.replace(PRESETS["cs336"], rope_style="half")
    sizes = {"vocab_size": 10_000, "context_length": 256, "d_model": 512, "n_layers": 4, "n_heads": 16, "d_ff": 1344}
    assert llama.PUBLISHED.from_huggingface(written) == LlamaConfig(**sizes)


@pytest.mark.parametrize(
    "ablation", [{"norm_placement": "post"}, {"norm_placement": "none"}, {"ffn": "silu"}, {"position": "none"}], ids=str
)
def test_an_ablation_that_the_format_cannot_express_is_refused_with_a_sentence(ablation: dict[str, str]) -> None:
    ((name, value),) = ablation.items()
    with pytest.raises(ExportError, match=f"Llama cannot express {name} = '{value}'"):
        PUBLISHED.to_huggingface(CS336Config(**SIZES | ablation))


def test_an_odd_head_is_fine_where_nothing_turns() -> None:
    CS336(CS336Config(**SIZES | {"d_head": 3, "position": "none"}))(torch.tensor([[1, 2]]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"norm_placement": "middle"}, "norm_placement must be one of pre, post, none, not 'middle'"),
        ({"ffn": "relu"}, "ffn must be one of swiglu, silu, not 'relu'"),
        ({"position": "learned"}, "position must be one of rope, none, not 'learned'"),
        ({"d_head": 3}, "d_head must be even, not 3"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CS336Config(**SIZES | wrong)


def test_a_run_in_which_ablations_are_those_of_a_llama_is_understood() -> None:
    before = {**SIZES, "rope_style": "half", "norm_placement": "pre", "ffn": "swiglu", "position": "rope"}
    assert models.configure("llama", before) == LlamaConfig(**SIZES)
    assert models.configure("llama", before | {"ffn": "silu"}) == CS336Config(**SIZES, rope_style="half", ffn="silu")
    few = models.configure("llama", {"norm_placement": "post", "d_model": 16, "n_heads": 2, "n_layers": 1})
    assert isinstance(few, CS336Config)
    assert (few.vocab_size, few.context_length, few.d_ff, few.rope_style) == (32000, 2048, 11008, "half")
