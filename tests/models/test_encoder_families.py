"""RoBERTa and DistilBERT: sizes, positions, heads, and the names of their configurations in Hugging Face's format."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError, ExportError
from glassformer.models import specs
from glassformer.models.bert import Bert
from glassformer.models.roberta import Roberta, RobertaConfig
from models.test_models import JSON
from support.tolerances import assert_close

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 12, "n_layers": 2, "n_heads": 3}
PARAMETERS = {  # as transformers counts their models of masked tokens
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "distilbert-base": 66_985_530,
}
FAMILIES = ("roberta", "distilbert")
HEADS = ("masked-token", "none", "classes")


def build(family: str, **changes: Any) -> Any:
    spec = specs()[family]
    module = spec.build(spec.config(**SMALL | changes)).double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return module


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    spec = next(spec for spec in specs().values() if name in spec.presets)
    assert set(spec.presets) <= set(PARAMETERS)
    module = spec.outline(spec.presets[name])
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("side", ["left", "right", "between"])
def test_padding_leaves_a_robertas_logits_as_they_are_wherever_it_stands(side: str) -> None:
    model = build("roberta", padding_id=3)
    text = torch.tensor([5, 4, 9, 12])
    start = {"left": 0, "right": 4, "between": 2}[side]
    tokens = torch.cat([text[: 4 - start] if side == "left" else text[:start], torch.full((3,), 3), text[start:]])
    tokens = torch.cat([torch.full((3,), 3), text]) if side == "left" else tokens
    valid = tokens != 3
    assert_close(model(tokens[None], valid[None])[0][valid], model(text[None])[0])


def test_the_first_token_of_a_roberta_has_the_row_behind_that_of_padding() -> None:
    model = build("roberta", padding_id=3, context_length=5, head="none")
    assert model.encoder.position_embedding.weight.shape[0] == 3 + 1 + 5
    tokens = torch.tensor([[1, 2, 4, 5, 6]])  # as many as it reads
    before = model(tokens)
    model.encoder.position_embedding.weight[:4] += 1  # rows of no token
    assert torch.equal(model(tokens), before)
    model.encoder.position_embedding.weight[8, 0] += 1  # that of the last token; a norm would lose one number for all
    assert not torch.allclose(model(tokens), before)


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_classes_are_told_by_the_first_tokens_vector_alone(family: str) -> None:
    model = build(family, head="classes", n_classes=4)
    tokens, valid = torch.randint(4, 13, (2, 6)), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    logits = model(tokens, valid)
    assert logits.shape == (2, 4)
    first = model.encode(tokens, valid)[:, 0]
    hidden = model.head.proj(first)
    hidden = hidden.clamp(min=0) if family == "distilbert" else hidden.tanh()
    assert_close(logits, model.head.out_proj(hidden))
    assert_close(model(tokens[1:, :4])[0], logits[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_from_huggingface_undoes_to_huggingface(family: str, head: str) -> None:
    spec = specs()[family]
    assert spec.published is not None
    changes: dict[str, Any] = {"d_ff": 20, "activation": "gelu_tanh", "dropout": 0.1, "head": head}
    if head == "classes":
        changes |= {"n_classes": 3, "labels": ("a", "b", "c")}
    for config in (*spec.presets.values(), spec.config(**SMALL | changes)):
        written = spec.published.to_huggingface(config)
        assert written["model_type"] == family
        assert ("id2label" in written) is (config.head == "classes")
        assert spec.published.from_huggingface(written) == config


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
@pytest.mark.parametrize("head", HEADS)
def test_every_weight_has_one_name_in_the_published_format(family: str, head: str) -> None:
    spec = specs()[family]
    assert spec.published is not None
    config = spec.config(**SMALL | {"head": head})
    named = [name for _, ours, _ in spec.published.renames(config) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {name for name, _ in spec.outline(config).named_parameters()}


@pytest.mark.parametrize(
    ("family", "theirs"),
    [
        ("roberta", {"is_decoder": True}),
        ("roberta", {"architectures": ["RobertaForTokenClassification"]}),
        ("roberta", {"max_position_embeddings": 2}),
        ("roberta", {"max_position_embeddings": 20, "pad_token_id": None}),
        ("roberta", {"hidden_act": "tanh"}),
        ("distilbert", {"tie_word_embeddings": False}),
        ("distilbert", {"architectures": ["DistilBertForQuestionAnswering"]}),
        ("distilbert", {"activation": "tanh"}),
    ],
    ids=str,
)
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(family: str, theirs: dict[str, Any]) -> None:
    published = specs()[family].published
    assert published is not None
    with pytest.raises(ConfigError, match=f"config.json: {next(iter(theirs))}"):
        published.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("family", "wrong", "says"),
    [
        ("roberta", {"padding_id": -1}, "padding_id must be a token"),
        ("roberta", {"padding_id": 50265}, "padding_id must be a token"),
        ("roberta", {"n_token_types": 0}, "n_token_types must be a whole number"),
        ("distilbert", {"n_token_types": 2}, "n_token_types must be one of 0"),
        ("distilbert", {"head": "pooler"}, "head must be one of masked-token, none, classes"),
        ("bert", {"labels": ("a",)}, "There are 1 labels for 2 classes"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(family: str, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        specs()[family].config(**wrong)


def test_a_distilbert_of_another_epsilon_is_not_written() -> None:
    spec = specs()["distilbert"]
    assert spec.published is not None
    with pytest.raises(ExportError, match="DistilBERT cannot express norm_eps"):
        spec.published.to_huggingface(spec.config(**SMALL, norm_eps=1e-5))


@settings(max_examples=100)
@given(st.sampled_from(FAMILIES), st.data())
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(family: str, data: st.DataObject) -> None:
    spec = specs()[family]
    assert spec.published is not None
    wrong = data.draw(st.dictionaries(st.sampled_from(sorted(spec.published.settings)), JSON, max_size=3))
    try:
        config = spec.published.from_huggingface(spec.published.to_huggingface(spec.config(**SMALL)) | wrong)
    except ConfigError:
        return
    assert 1 <= config.vocab_size < 2**31


def test_a_roberta_is_a_bert_with_other_positions() -> None:
    """Where no token is padding, a BERT whose table of positions begins at RoBERTa's first row says the same."""
    ours = build("roberta", padding_id=0)
    assert isinstance(ours, Roberta)
    assert isinstance(ours.config, RobertaConfig)
    spec = specs()["bert"]
    config = spec.config(**SMALL, n_token_types=1, norm_eps=1e-5)
    other = Bert(config).double().eval().requires_grad_(False)
    weights = ours.state_dict()
    weights["encoder.position_embedding.weight"] = weights["encoder.position_embedding.weight"][1:]
    other.load_state_dict(weights)
    tokens = torch.randint(1, 13, (2, 16))
    assert_close(other(tokens), ours(tokens))
