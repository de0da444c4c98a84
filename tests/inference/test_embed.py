"""Sentence embeddings: means over the right tokens, lengths of 1, and sentences for what cannot be embedded."""

import pytest
import torch

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.embed import embed, padded, pool, unit
from glassformer.models.bert import Bert, BertConfig

CONFIG = BertConfig(vocab_size=9, context_length=8, d_model=6, n_layers=1, n_heads=2, head="none")


def test_texts_are_padded_on_the_right() -> None:
    tokens, valid = padded([[1, 2, 3], [4]], 8)
    assert tokens.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert valid.tolist() == [[True, True, True], [True, False, False]]


def test_the_mean_counts_no_padding_whatever_stands_there() -> None:
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [torch.nan, torch.inf]]])
    assert pool(vectors, torch.tensor([[True, True, False]])).tolist() == [[2.0, 4.0]]
    assert pool(vectors, torch.tensor([[True, True, False]]), "cls").tolist() == [[1.0, 2.0]]


def test_a_vector_is_brought_to_length_one_and_zero_stays_zero() -> None:
    assert torch.allclose(unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_a_text_has_the_same_vector_alone_and_in_company() -> None:
    model = Bert(CONFIG).eval()
    together = embed(model, [[1, 2, 3], [4], [5, 6]])
    for text, vector in zip([[1, 2, 3], [4], [5, 6]], together, strict=True):
        torch.testing.assert_close(embed(model, [text])[0], vector)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("texts", [[], [[]], [[1], []]])
def test_no_text_is_refused(texts: list[list[int]]) -> None:
    with pytest.raises(GenerationError, match="at least one"):
        embed(Bert(CONFIG), texts)


def test_a_text_that_is_too_long_is_named() -> None:
    with pytest.raises(GenerationError, match="Text 1 has 9 tokens; this model reads at most 8"):
        embed(Bert(CONFIG), [[1], [1] * 9])


@pytest.mark.usefixtures("unchecked")
def test_another_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match="pooling must be"):
        embed(Bert(CONFIG), [[1]], pooling="max")  # type: ignore[arg-type]
