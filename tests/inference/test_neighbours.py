"""Neighbours are those that numpy finds in float64; words and tokens get the rows that they are named by."""

import numpy as np
import pytest
import torch

from glassformer import api
from glassformer.checkpoints.word_vectors import WordVectors, embedding_rows
from glassformer.errors import DataError, TokenizerError
from glassformer.inference.neighbours import embedding_of, nearest
from glassformer.models.bert import Bert, BertConfig
from glassformer.tokenizers import CharTokenizer, Tokenizer, WordTokenizer
from glassformer.tokenizers.subword import SPECIAL, SubwordTokenizer
from support.oracles import array

SQUARE = WordVectors(
    words=("east", "north", "far east", " west", "nowhere"),
    vectors=torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]),
)


def test_neighbours_are_those_of_numpy() -> None:
    found = WordVectors(words=tuple(f"w{i}" for i in range(500)), vectors=torch.randn(500, 20))
    table = array(found.vectors)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    for place in (0, 17, 499):
        cosines = table @ table[place]
        order = [other for other in np.argsort(-cosines) if other != place][:7]
        neighbours = nearest(found, f"w{place}", 7)
        assert [neighbour.word for neighbour in neighbours] == [f"w{other}" for other in order]
        np.testing.assert_allclose([neighbour.cosine for neighbour in neighbours], cosines[order], atol=1e-6)


def test_length_counts_nothing_and_a_space_before_a_word_may_be_left_out() -> None:
    assert [neighbour.word for neighbour in nearest(SQUARE, "east")] == ["far east", "north", "nowhere", " west"]
    assert [neighbour.word for neighbour in nearest(SQUARE, "west", 1)] == ["north"]
    assert [neighbour.cosine for neighbour in nearest(SQUARE, "nowhere", 9)] == [0.0] * 4


def test_a_word_without_a_vector_is_refused_with_the_nearest_spellings() -> None:
    with pytest.raises(TokenizerError, match=r"no vector for 'nort' among 5 words\. Near in spelling: north"):
        nearest(SQUARE, "nort")
    with pytest.raises(DataError, match="n must be at least 1, not 0"):
        nearest(SQUARE, "east", 0)


def test_a_model_s_tokens_are_its_words() -> None:
    model = api.load("nano-sort")
    assert model.tokenizer is not None
    found = embedding_of(model.module, model.tokenizer)
    assert found.words == ("A", "B", "C")
    assert torch.equal(found.vectors, dict(model.module.named_parameters())["token_embedding.weight"])
    bert = Bert(BertConfig(vocab_size=7, context_length=4, d_model=4, n_layers=1, n_heads=1))
    assert embedding_of(bert, CharTokenizer("abc")).vectors.shape == (3, 4)


def test_a_tokenizer_s_rows_are_the_vectors_of_its_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    words = WordTokenizer(["<unk>", "East", "up", "north"], ["<unk>"])
    rows, known = embedding_rows(SQUARE, words)
    assert known.tolist() == [False, True, False, True]
    assert rows.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]
    pieces = SubwordTokenizer([], [*SPECIAL, "north", "eas@@"])
    assert embedding_rows(SQUARE, pieces)[1].tolist() == [False] * 4 + [True, False]
    corpus = tmp_path_factory.mktemp("corpus") / "text"
    corpus.write_text("east north " * 50)
    trained = Tokenizer.train([corpus], vocab_size=265)
    rows, known = embedding_rows(SQUARE, trained)
    for text in (" north", " east"):
        (id,) = trained.encode(text)
        assert known[id]
        assert rows[id].tolist() == SQUARE.vectors[SQUARE.words.index(text.strip())].tolist()
