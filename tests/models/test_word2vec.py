"""Word vectors: scores by hand, and a text whose words fall into two groups."""

from typing import Any

import pytest
import torch

from glassformer import checkpoints, models
from glassformer.errors import ConfigError
from glassformer.models.word2vec import PRESETS, Word2Vec, Word2VecConfig
from glassformer.nn.negative_sampling import negative_sampling_loss
from glassformer.training.adamw import AdamW
from support.tolerances import assert_close


def small(**changes: Any) -> Word2Vec:
    model = Word2Vec(Word2VecConfig(**{"vocab_size": 8, "d_model": 6, "window": 2} | changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_a_score_is_the_product_of_two_vectors() -> None:
    model = small().double()
    v, c = model.token_embedding.weight, model.context_embedding.weight
    scores = model(torch.tensor([[3], [0]]), torch.tensor([[1, 5], [0, 0]]))
    assert_close(scores, torch.stack([torch.stack([c[1] @ v[3], c[5] @ v[3]]), (c[0] @ v[0]).expand(2)]))


def test_a_window_is_the_mean_of_its_words_and_an_absent_one_counts_for_nothing() -> None:
    model = small().double()
    v, c = model.token_embedding.weight, model.context_embedding.weight
    tokens, valid = torch.tensor([[3, 0, 7], [2, 5, 5]]), torch.tensor([[True, False, True], [True, True, True]])
    scores = model(tokens, torch.tensor([[1], [4]]), valid)
    assert_close(scores[0, 0], c[1] @ (v[3] + v[7]) / 2)
    assert_close(scores[1, 0], c[4] @ (v[2] + 2 * v[5]) / 3)
    assert (model(tokens, torch.tensor([[1], [4]]), torch.zeros_like(valid)) == 0).all()


@pytest.mark.parametrize("algorithm", ["cbow", "skip-gram"])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_words_that_stand_together_become_neighbours(algorithm: str) -> None:
    """Words 0 to 3 only ever stand beside each other, and so do 4 to 7."""
    model = small(algorithm=algorithm)
    optimizer = AdamW(model.parameters(), 0.05)
    for _ in range(300):
        group = torch.randint(2, (64, 1)) * 4
        words = torch.randint(4, (64, 5)) + group
        noise = torch.randint(8, (64, 5))
        given, asked = (words[:, 1:], words[:, :1]) if algorithm == "cbow" else (words[:, :1], words[:, 1:2])
        scores = model(given, torch.cat([asked, noise], 1))
        negative_sampling_loss(scores[:, 0], scores[:, 1:]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    v = model.token_embedding.weight
    nearest = (v @ v.mT / v.norm(dim=-1)).fill_diagonal_(-torch.inf).argmax(-1)
    assert (nearest // 4 == torch.arange(8) // 4).all()


def test_a_checkpoint_gives_the_model_back(tmp_path: Any) -> None:
    model = small()
    found: Any = checkpoints.load(checkpoints.save(model, tmp_path / "model"))
    assert found.config == model.config
    assert torch.equal(found.module.token_embedding.weight, model.token_embedding.weight)
    assert models.specs()["word2vec"].kind == "word-vectors"


def test_the_published_sizes() -> None:
    assert set(PRESETS) == {"word2vec", "word2vec-small"}
    with torch.device("meta"):
        assert Word2Vec(PRESETS["word2vec"]).token_embedding.weight.shape == (3_000_000, 300)
    assert PRESETS["word2vec"].context_length == 11


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": 0}, "window must be a whole number"),
        ({"n_negative": 1.5}, "n_negative must be a whole number"),
        ({"algorithm": "glove"}, "algorithm must be one of cbow, skip-gram"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Word2VecConfig(**wrong)  # type: ignore[arg-type]
