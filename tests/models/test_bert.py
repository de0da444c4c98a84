"""BERT: sizes, laws, and the names of its configuration in Hugging Face's format."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.models.bert import PRESETS, Bert, BertConfig
from glassformer.models.published.bert import PUBLISHED
from models.test_models import JSON
from support.tolerances import assert_close

PARAMETERS = {"bert-base": 109_514_298, "bert-large": 335_174_458, "minilm-l6": 22_565_376}
SMALL = {"vocab_size": 13, "context_length": 16, "d_model": 12, "n_layers": 2, "n_heads": 3}


@pytest.fixture
def model() -> Bert:
    bert = Bert(BertConfig(**SMALL)).double().eval().requires_grad_(False)
    for parameter in bert.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return bert


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    """As transformers counts BertForMaskedLM, and all-MiniLM-L6-v2 without its pooler of 384 · 385."""
    assert set(PRESETS) == set(PARAMETERS)
    with torch.device("meta"):
        model = Bert(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_every_token_sees_every_other(model: Bert) -> None:
    tokens = torch.randint(13, (1, 9))
    for place in range(9):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 13
        assert ((model(tokens) - model(changed)).abs().amax(-1) > 1e-9).all()


def test_padding_on_the_right_leaves_the_logits_of_the_text_as_they_are(model: Bert) -> None:
    tokens = torch.randint(13, (3, 8))
    valid = torch.arange(8) < torch.tensor([8, 5, 1])[:, None]
    logits = model(tokens, valid)
    for row, length in enumerate((8, 5, 1)):
        assert_close(logits[row, :length], model(tokens[row : row + 1, :length])[0])


def test_token_types_tell_two_texts_apart_and_are_zero_at_first(model: Bert) -> None:
    tokens, types = torch.randint(13, (1, 6)), torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert not torch.allclose(model(tokens, None, types), model(tokens))
    assert torch.equal(model(tokens, None, types * 0), model(tokens))


def test_dropout_acts_while_training_alone() -> None:
    model, tokens = Bert(BertConfig(**SMALL, dropout=0.5)), torch.randint(13, (1, 9))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(
    "config",
    [*PRESETS.values(), BertConfig(**SMALL, d_ff=20, activation="gelu_tanh", dropout=0.1, n_token_types=1)],
    ids=str,
)
def test_from_huggingface_undoes_to_huggingface(config: BertConfig) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] == PUBLISHED.model_types[0]
    assert PUBLISHED.from_huggingface(written) == config


@pytest.mark.parametrize(
    "theirs",
    [
        {"is_decoder": True},
        {"add_cross_attention": True},
        {"position_embedding_type": "relative_key"},
        {"tie_word_embeddings": False},
        {"architectures": ["BertForQuestionAnswering"]},
        {"architectures": 3},
        {"hidden_act": "tanh"},
    ],
    ids=str,
)
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"config.json: {next(iter(theirs))}"):
        PUBLISHED.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n_token_types": 0}, "n_token_types must be a whole number"),
        ({"n_heads": 5}, "d_model 768 does not divide into 5 heads"),
        ({"head": "pooler"}, "head must be one of masked-token, none"),
        ({"activation": "tanh"}, "activation must be one of"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        BertConfig(**wrong)  # type: ignore[arg-type]


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(PUBLISHED.settings)), JSON, max_size=3))
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(wrong: dict[str, object]) -> None:
    try:
        config = PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(BertConfig(**SMALL)) | wrong)
    except ConfigError:
        return
    assert 1 <= config.vocab_size < 2**31
