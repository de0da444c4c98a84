"""Vectors of words as a task: what a batch is made of, that neighbours are found, and resumed runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glassformer as gf
from glassformer.checkpoints import word_vectors
from glassformer.config import merge
from glassformer.data.word_corpus import count_words, numbers_of
from glassformer.errors import ConfigError, DataError, GlassformerError
from glassformer.inference.neighbours import nearest
from glassformer.training.config import RunConfig
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.training.tasks.word_vectors import VECTORS, WordEmbedding
from glassformer.viewer.watch import Watch
from training.runs import everything

GROUPS = (("red", "green", "blue"), ("one", "two", "three"), ("Cat", "Dog", "Cow"))  # words that stand together
WORD2VEC = {"architecture": "word2vec", "d_model": 16, "window": 2}


def write_text(path: Path) -> Path:
    """Sentences of six words, all of one group."""
    random = np.random.default_rng(0)
    sentences = [" ".join(random.choice(GROUPS[random.integers(3)], size=6)) for _ in range(600)]
    path.write_text(".\n".join([*sentences, "Seldom is a seldom word"]))
    return path


def config(folder: Path, **changes: Any) -> RunConfig:
    settings = {
        "model": WORD2VEC,
        "data": {"path": str(write_text(folder / "text.txt")), "subsample": 0.0},
        "batch_size": 64,
        "steps": 6,
        "accumulation": 2,
        "eval_interval": 0,
        "save_interval": 3,
        "eval_batches": 2,
        "optimizer": {"lr": 1e-2},
        "schedule": {"kind": "constant", "warmup_steps": 2},
    }
    return resolve(merge(settings, changes))


def made(folder: Path, **changes: Any) -> WordEmbedding:
    return WordEmbedding(config(folder, **changes), folder / "tokens", lambda sentence: None)


def test_a_text_is_cut_into_words_wherever_it_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("Don't stop; the 2nd o'clock—naïve ÉTÉ\nthe end")
    expected = ["don't", "stop", "the", "nd", "o'clock", "naïve", "été", "the", "end"]
    for size in (1, 7, 1 << 20):
        monkeypatch.setattr("glassformer.data.text.READ_BYTES", size)
        assert count_words([tmp_path / "text.txt"]) == {word: expected.count(word) for word in expected}
        ids = {word: id for id, word in enumerate(dict.fromkeys(expected)) if word != "nd"}
        assert numbers_of([tmp_path / "text.txt"], ids).tolist() == [ids[word] for word in expected if word != "nd"]


def test_a_skip_gram_batch_asks_for_words_near_the_given_one(tmp_path: Path) -> None:
    task = made(tmp_path, model={"algorithm": "skip-gram", "window": 3}, batch_size=4000)
    words = np.arange(10_000)  # each word once, so that a word says its place
    task.noise = np.linspace(0, 1, 10_001)[1:]
    batch = task.of(words, np.random.default_rng(0))
    given, candidates, valid = batch.inputs
    assert given.shape == (4000, 1)
    assert candidates.shape == (4000, 6)
    assert valid.all()
    distances = (candidates[:, 0] - given[:, 0]).abs()
    shares = torch.bincount(distances, minlength=4) / 4000
    torch.testing.assert_close(
        shares, torch.tensor([0, 3 / 6, 2 / 6, 1 / 6]), atol=0.03, rtol=0
    )  # a width of 1, 2 or 3


def test_a_cbow_batch_gives_the_words_around_the_one_that_is_asked_for(tmp_path: Path) -> None:
    task = made(tmp_path, model={"window": 3}, batch_size=3000)
    task.noise = np.linspace(0, 1, 10_001)[1:]
    given, candidates, valid = task.of(np.arange(10_000), np.random.default_rng(0)).inputs
    distances = (given - candidates[:, :1]).abs()
    assert distances[0].tolist() == [3, 2, 1, 1, 2, 3]
    widths = (distances * valid).amax(-1)
    assert torch.equal(valid, distances <= widths[:, None])
    shares = torch.bincount(widths, minlength=4)[1:] / 3000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_noise_and_left_out_words_follow_the_counts(tmp_path: Path) -> None:
    task = made(tmp_path, data={"subsample": 0.05}, batch_size=5000)
    counts = np.bincount(task.training, minlength=task.tokenizer.vocab_size)
    assert counts[0] == 0  # the unknown word is in no text
    candidates = torch.cat([task.batch(step, 0).inputs[1][:, 1:] for step in range(4)])
    found = torch.bincount(candidates.flatten(), minlength=len(counts)) / candidates.numel()
    expected = torch.from_numpy(counts**0.75 / (counts**0.75).sum()).float()
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    shares = counts[1:] / counts.sum()
    kept = np.bincount(task._pass[1], minlength=len(counts))[1:] / counts[1:]
    np.testing.assert_allclose(kept, np.minimum(np.sqrt(0.05 / shares), 1), atol=0.1)


@pytest.mark.parametrize("algorithm", ["cbow", "skip-gram"])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_words_that_stand_together_become_neighbours(tmp_path: Path, algorithm: str) -> None:
    run = config(tmp_path, model={"algorithm": algorithm}, steps=150, accumulation=1, save_interval=0)
    ended = train(run, tmp_path / "run")
    assert 0 < ended.figures["loss"] < 6 * np.log(2)  # what it is without having learned
    vectors = word_vectors.read(tmp_path / "run" / VECTORS)
    assert set(vectors.words) == {word.lower() for group in GROUPS for word in group}
    for group in GROUPS:
        word, *others = [word.lower() for word in group]
        assert {found.word for found in nearest(vectors, word, 2)} == set(others)
    model = gf.load(tmp_path / "run")
    assert model.tokenizer is not None
    table: Any = model.module
    id = model.tokenizer.encode("CAT")[0]
    assert torch.equal(table.token_embedding.weight[id], vectors.vectors[vectors.words.index("cat")])


def test_a_resumed_run_is_the_one_that_was_not_stopped(tmp_path: Path) -> None:
    changes = {"data": {"subsample": 0.05}, "batch_size": 500}  # several passes of the text
    train(config(tmp_path, **changes), tmp_path / "whole")
    half = config(tmp_path, steps=3, **changes)
    train(half, tmp_path / "half")
    run = config(tmp_path, **changes)
    (tmp_path / "text.txt").unlink()
    train(run, tmp_path / "half", resume=True)
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")


def test_a_page_can_watch_it(tmp_path: Path) -> None:
    watch = Watch(name="words", on_first=lambda session: None)
    train(config(tmp_path, steps=1), tmp_path / "run", on_event=watch)
    assert watch.session.runs


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"data": {"min_count": 10_000}}, DataError, "has 0 words that come 10000 times or more"),
        ({"data": {"min_count": 0}}, ConfigError, "data.min_count must be from 1"),
        ({"data": {"tokenizer": "bpe:300"}}, ConfigError, "whose tokens are words"),
        ({"data": {"path": ""}}, DataError, "A table of word vectors needs something to learn from"),
        ({"model": {"vocab_size": 5}}, ConfigError, "vocab_size is 5, but the tokenizer has 10"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[GlassformerError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        train(config(tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
