"""GPT-2: sizes, laws, and the names of its configuration in Hugging Face's format."""

import pytest
import torch
from torch import nn

from glassformer.errors import ConfigError
from glassformer.models.gpt2 import GPT2, PRESETS, GPT2Config
from glassformer.models.published.gpt2 import PUBLISHED

PARAMETERS = {
    "nano-sort": 85_728,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


def test_there_are_no_other_presets() -> None:
    assert set(PRESETS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = GPT2(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not() -> None:
    sizes = {"vocab_size": 5, "context_length": 4, "d_model": 6, "n_layers": 1, "n_heads": 2}
    tied, untied = GPT2(GPT2Config(**sizes)), GPT2(GPT2Config(**sizes, tied_head=False))
    assert tied.lm_head.weight is tied.token_embedding.weight
    assert untied.lm_head.weight is not untied.token_embedding.weight


def test_a_position_is_told_from_another() -> None:
    model = GPT2(GPT2Config(vocab_size=5, context_length=8, d_model=6, n_layers=1, n_heads=2))
    nn.init.normal_(model.position_embedding.weight)
    logits = model(torch.full((1, 8), 3))[0]
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        GPT2Config(vocab_size=7, d_model=12, n_heads=3, d_ff=20, activation="gelu", dropout=0.1, norm_eps=1e-6),
        GPT2Config(vocab_size=7, d_model=12, n_heads=3, activation="relu", tied_head=False),
        GPT2Config(vocab_size=7, d_model=12, n_heads=3, activation="silu"),
    ],
    ids=str,
)
def test_from_huggingface_undoes_to_huggingface(config: GPT2Config) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] == PUBLISHED.model_types[0]
    assert PUBLISHED.from_huggingface(written) == config


def test_an_empty_config_json_is_the_smallest_published_model() -> None:
    assert PUBLISHED.from_huggingface({"resid_pdrop": 0.0}) == PRESETS["gpt2"]
    assert PUBLISHED.from_huggingface({"activation_function": "gelu_pytorch_tanh"}).activation == "gelu_tanh"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"vocab_size": True}, "vocab_size must be a whole number"),
        ({"context_length": -1}, "context_length must be a whole number"),
        ({"d_model": 12.0}, "d_model must be a whole number"),
        ({"n_layers": "2"}, "n_layers must be a whole number"),
        ({"n_layers": 2**31}, "n_layers must be a whole number"),
        ({"n_heads": 5}, "d_model 768 does not divide into 5 heads"),
        ({"d_ff": -3}, "d_ff must be a whole number"),
        ({"activation": "swish"}, "activation must be one of gelu, gelu_tanh, relu, silu, not 'swish'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1"),
        ({"norm_eps": "1e-5"}, "norm_eps must be at least 0 and below 1"),
        ({"tied_head": "no"}, "tied_head must be one of True, False"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GPT2Config(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "theirs",
    [
        {"scale_attn_weights": False},
        {"add_cross_attention": True},
        {"activation_function": "tanh"},
    ],
    ids=str,
)
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"config.json: {next(iter(theirs))}"):
        PUBLISHED.from_huggingface(theirs)
