"""Settings of a run: files, presets, overrides, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import glassformer as gf
from glassformer import models
from glassformer.cli.train import setting_defaults
from glassformer.config import nest, to_mapping
from glassformer.errors import ConfigError
from glassformer.models.spec import KindName
from glassformer.training.load_config import data_fields, load_run_config, resolve
from glassformer.training.tasks import TASKS
from glassformer.training.tasks.language_model import TextData

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.toml"))
SHAKESPEARE = next(path for path in CONFIGS if path.stem == "shakespeare-char")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_published_configuration_is_valid_and_says_what_it_reproduces(path: Path) -> None:
    config = load_run_config(path)
    assert config.name == path.stem
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("glassformer train" in line for line in header)
    text = " ".join(header)
    assert ("NOT RUN" in text) != ("Hardware and time" in text)


def test_there_are_configurations() -> None:
    assert {"sort", "shakespeare-char", "shakespeare-gpu", "tinystories-cs336"} <= {path.stem for path in CONFIGS}


def test_the_course_s_model_sees_as_many_tokens_as_the_course_says() -> None:
    config = load_run_config(next(path for path in CONFIGS if path.stem == "tinystories-cs336"))
    assert config.steps * config.batch_size * config.accumulation * config.text_length == 327_680_000


def test_saved_settings_are_read_as_the_same(tmp_path: Path) -> None:
    config = load_run_config(CONFIGS[0], {"optimizer": {"betas": [0.8, 0.9]}})
    (tmp_path / "run.json").write_text(json.dumps(to_mapping(config)))
    assert load_run_config(tmp_path / "run.json") == config


def test_overrides_replace_single_settings() -> None:
    config = load_run_config(SHAKESPEARE, {"steps": 7, "model": {"n_layers": 1}, "optimizer": {"lr": 0.5}})
    original = load_run_config(SHAKESPEARE)
    assert (config.steps, config.optimizer.lr) == (7, 0.5)
    assert config.optimizer.betas == original.optimizer.betas
    assert config.model_config().n_layers == 1  # type: ignore[attr-defined]


def test_flags_set_names_of_digits_and_the_settings_of_the_model_by_its_own_types(tmp_path: Path) -> None:
    flags = {"name": "42", "data.path": "7", "model.n_layers": "1", "model.tied_head": "false", "model.dropout": "0"}
    config = load_run_config("gpt2", nest(flags))
    assert (config.name, config.data.path) == ("42", "7")
    assert config.model == {"preset": "gpt2", "n_layers": 1, "tied_head": False, "dropout": 0.0}
    (tmp_path / "run.json").write_text(json.dumps(to_mapping(config)))
    assert load_run_config(tmp_path / "run.json") == config
    with pytest.raises(ConfigError, match=r"model\.n_layers must be a whole number, not 'one'"):
        load_run_config("gpt2", nest({"model.n_layers": "one"}))


def test_a_preset_is_a_run_of_its_own() -> None:
    sort = load_run_config("nano-sort")
    assert (sort.task, sort.name, sort.model_config()) == ("sort", "nano-sort", models.presets()["nano-sort"])
    assert load_run_config("gpt2").task == "language-model"


def test_the_vocabulary_is_the_tokenizer_s_unless_a_larger_one_is_given() -> None:
    config = resolve({"model": {"preset": "gpt2"}})
    assert config.model_config({"vocab_size": 65}).vocab_size == 65
    padded = resolve({"model": {"preset": "gpt2", "vocab_size": 128}})
    assert padded.model_config({"vocab_size": 65}).vocab_size == 128
    with pytest.raises(ConfigError, match=r"model\.vocab_size is 128, but the tokenizer has 200 tokens"):
        padded.model_config({"vocab_size": 200})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stepz": 5}, "There is no setting stepz. Did you mean steps?"),
        ({"steps": 0}, "steps must be from 1"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({"batch_size": -3}, "batch_size"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"optimizer": {"lr": -1.0}}, "optimizer.lr"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer.betas"),
        ({"optimizer": {"rate": 1}}, "no setting optimizer.rate"),
        ({"schedule": {"kind": "linear"}}, "schedule.kind must be one of cosine, noam, constant"),
        ({"data": {"validation_fraction": 1.5}}, "data.validation_fraction"),
        ({"data": {"tokenizer": "bpe:12"}}, "more than 256"),
        ({"data": {"tokenizer": "bpe:many"}}, "more than 256"),
        ({"model": {}}, "either preset"),
        ({"model": {"preset": "gpt2", "architecture": "gpt2"}}, "either preset"),
        ({"model": {"preset": "gpt9"}}, "no preset 'gpt9'"),
        ({"model": {"preset": "gpt2", "n_heads": 5}}, "does not divide"),
        ({"model": {"preset": "gpt2", "vocab_size": "big"}}, "vocab_size must be a whole number"),
        ({"context_length": 2000}, "the model knows 1024 positions"),
        ({"task": "chess"}, "task must be one of"),
        ({"name": "../elsewhere"}, "name must be that of a folder"),
        ({"name": ""}, "name must be that of a folder"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of stop, skip"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve({"model": {"preset": "gpt2"}, **settings})


def test_a_setting_of_another_task_s_data_is_refused_unless_it_changes_nothing(tmp_path: Path) -> None:
    """Runs of earlier versions saved the settings of all tasks, of which most are at their defaults."""
    model = {"model": {"preset": "gpt2"}}
    with pytest.raises(ConfigError, match=r"data\.flip is a setting of image-classification, .* is language-m"):
        resolve({**model, "data": {"flip": True}})
    with pytest.raises(ConfigError, match=r"no setting data\.pth\. Did you mean data\.path"):
        resolve({**model, "data": {"pth": "text.txt"}})
    everything = {name: value for task in TASKS.values() for name, value in data_fields(task.data_config).items()}
    saved = json.loads(json.dumps({**everything, "path": "text.txt"}))
    assert resolve({**model, "data": saved}) == resolve({**model, "data": {"path": "text.txt"}})
    assert resolve({**model, "data": nest({"flip": "false"})}) == resolve(model)


def test_a_record_needs_nothing_that_its_settings_were_looked_up_in(tmp_path: Path) -> None:
    gf.save(gf.build("nano-sort"), tmp_path / "first")
    config = resolve({"model": {"from": str(tmp_path / "first"), "dropout": 0.5}, "data": {"path": "text.txt"}})
    assert (config.task, config.model["architecture"], config.model["n_layers"]) == ("language-model", "gpt2", 3)
    assert config.data == TextData(path="text.txt", tokenizer=str(tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")
    assert replace(config) == config
    assert replace(config, steps=7).model_config() == config.model_config()


def test_every_task_has_a_kind_of_model_and_its_settings_are_flags() -> None:
    assert {task.kind for task in TASKS.values()} == set(get_args(KindName)) - {"encoder"}
    for task in TASKS.values():
        assert {f"data.{name}" for name in data_fields(task.data_config)} <= setting_defaults().keys()


@pytest.mark.parametrize("source", ["absent.toml", "no-such-preset", "."])
def test_a_source_that_is_nothing_is_refused(source: str) -> None:
    with pytest.raises(ConfigError):
        load_run_config(source)
