"""What a run begins with where that is not chance: a checkpoint's weights, and word vectors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.checkpoints import word_vectors
from glassformer.config import to_mapping
from glassformer.errors import CheckpointMismatch, ConfigError, DataError
from glassformer.tokenizers import CharTokenizer
from glassformer.tokenizers.word_level import WordTokenizer
from glassformer.training.config import RunConfig
from glassformer.training.events import Event, Notice
from glassformer.training.load_config import load_run_config, resolve
from glassformer.training.loop import train
from training.runs import everything, small


def tuned(folder: Path, **changes: Any) -> RunConfig:
    """A run that begins with the weights of the run `first`."""
    base = to_mapping(small(folder, **changes))
    names = ("batch_size", "accumulation", "steps", "save_interval", "seed", "data", "optimizer")
    settings = {name: base[name] for name in names}
    return resolve(settings | {"model": {"from": str(folder / "first"), **changes.get("model", {})}})


def weights(folder: Path) -> list[torch.Tensor]:
    return list(gf.load(folder).module.parameters())


def test_a_run_begins_with_the_weights_configuration_and_tokenizer_of_another(tmp_path: Path) -> None:
    train(small(tmp_path, steps=3), tmp_path / "first")
    run = tuned(tmp_path, steps=1, optimizer={"lr": 0.0}, model={"dropout": 0.5})
    assert (run.task, run.data.tokenizer) == ("language-model", str(tmp_path / "first"))
    train(run, tmp_path / "second")
    first, second = gf.load(tmp_path / "first"), gf.load(tmp_path / "second")
    assert second.config.dropout == 0.5
    assert second.tokenizer is not None
    assert first.tokenizer is not None
    assert second.tokenizer.vocab == first.tokenizer.vocab
    for old, new in zip(weights(tmp_path / "first"), weights(tmp_path / "second"), strict=True):
        assert torch.equal(old, new)


def test_weights_are_taken_with_no_second_model_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(small(tmp_path, steps=1), tmp_path / "first")
    monkeypatch.delattr("glassformer.checkpoints.load")
    train(tuned(tmp_path, steps=1, optimizer={"lr": 0.0}), tmp_path / "second")


def test_another_tokenizer_than_the_weights_were_trained_with_is_said(tmp_path: Path) -> None:
    train(small(tmp_path, steps=1), tmp_path / "first")
    alphabet = sorted(set((tmp_path / "text.txt").read_text()), reverse=True)
    CharTokenizer("".join(alphabet)).save(tmp_path / "reversed")
    for data, is_said in ({}, False), ({"tokenizer": str(tmp_path / "reversed")}, True):
        events: list[Event] = []
        train(tuned(tmp_path, steps=1, data=data), tmp_path / f"{is_said}", on_event=events.append)
        texts = [event.text for event in events if isinstance(event, Notice)]
        assert any("are others than those that" in text for text in texts) == is_said


def test_a_resumed_run_needs_what_it_began_with_no_more(tmp_path: Path) -> None:
    train(small(tmp_path, steps=3), tmp_path / "first")
    train(tuned(tmp_path, steps=4), tmp_path / "whole")
    train(tuned(tmp_path, steps=4), tmp_path / "half")
    for late in (tmp_path / "half" / "checkpoints").iterdir():
        shutil.rmtree(late)
    train(load_run_config(tmp_path / "half" / "run.json"), tmp_path / "half", resume=True)  # from `first` again
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")
    shutil.rmtree(tmp_path / "first")
    assert train(load_run_config(tmp_path / "half" / "run.json"), tmp_path / "half", resume=True).finished


def test_what_lies_beside_the_weights_goes_along_with_what_is_learned_from_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train(small(tmp_path, steps=1), first)
    (first / "manifest.json").unlink()  # as a stranger publishes it
    beside = {"LICENSE": "MIT", "README.md": "# A model", "chat_template.jinja": "{{ messages }}", "scores.json": "{}"}
    for name, text in beside.items():
        (first / name).write_text(text)
    chosen = json.loads((first / "generation_config.json").read_text()) | {"temperature": 0.7}
    (first / "generation_config.json").write_text(json.dumps(chosen))
    said: list[str] = []
    train(tuned(tmp_path, steps=1), second, on_event=lambda event: said.append(getattr(event, "text", "")))
    assert "The model leaves out scores.json: not true of other weights." in said
    shutil.rmtree(first)
    train(replace(load_run_config(second / "run.json"), steps=2), second, resume=True)
    for folder in (second, *(second / "checkpoints").iterdir()):
        assert (folder / "LICENSE").read_text() == "MIT"
        assert (folder / "README.source.md").read_text() == "# A model"
        assert (folder / "chat_template.jinja").exists()
        assert not (folder / "README.md").exists()
        assert json.loads((folder / "generation_config.json").read_text()) == chosen


def test_what_cannot_be_begun_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.from names the folder .* there is no .*first"):
        tuned(tmp_path)
    train(small(tmp_path, steps=1), tmp_path / "first")
    with pytest.raises(CheckpointMismatch, match="has d_model = 16, and the settings 32: leave out"):
        train(tuned(tmp_path, model={"d_model": 32}), tmp_path / "second")
    with pytest.raises(ConfigError, match="either preset"):
        small(tmp_path, model={"from": str(tmp_path / "first"), "preset": "gpt2"})
    assert not (tmp_path / "second").exists()


# ---- word vectors


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    found = word_vectors.WordVectors(words=("fox", "dog", "unicorn"), vectors=torch.arange(48.0).reshape(3, 16))
    word_vectors.write(tmp_path / "vectors.txt", found, "word2vec")
    return tmp_path / "vectors.txt"


def begun(folder: Path, vectors: Path, **changes: Any) -> gf.Model:
    WordTokenizer(["<unk>", "the", "fox", "dog."], ["<unk>"]).save(folder / "words", overwrite=True)
    settings = {"data": {"tokenizer": str(folder / "words")}, "steps": 1, "optimizer": {"lr": 0.0}}
    model = {"embedding_init": str(vectors)} | changes
    train(small(folder, model=model, **settings), folder / "run", overwrite=True)
    return gf.load(folder / "run")


def test_a_model_s_embedding_can_start_from_word_vectors(tmp_path: Path, vectors: Path) -> None:
    module: Any = begun(tmp_path, vectors).module
    table = module.token_embedding.weight
    assert torch.equal(table[2], torch.arange(16.0))
    assert not torch.equal(table[3], torch.arange(16.0, 32.0))  # "dog." is no word of the file


def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, vectors: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="have 16 numbers, and the model's 32"):
        begun(tmp_path, vectors, d_model=32)
    with pytest.raises(DataError, match=r"no file .*nowhere.txt, which the settings name under model.embedding_init"):
        begun(tmp_path, tmp_path / "nowhere.txt")
    strange = word_vectors.WordVectors(words=("zebra",), vectors=torch.ones(1, 16))
    word_vectors.write(tmp_path / "strange.txt", strange, "word2vec")
    with pytest.raises(CheckpointMismatch, match="a vector for none of the tokens"):
        begun(tmp_path, tmp_path / "strange.txt")
