"""What `train` is told: configurations of the package, flags alone, and the list of what is set."""

import json
import shlex
from pathlib import Path

import pytest

import glassformer as gf
from glassformer.cli.train import app
from glassformer.errors import ConfigError
from glassformer.training.load_config import load_run_config
from support.commands import run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_of_the_repository_comes_with_the_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = load_run_config(CONFIGS / f"{name}.toml")
    assert load_run_config(f"configs/{name}.toml") == expected
    if name != "vit-mnist":  # a preset's name, too, which goes before
        assert load_run_config(name) == expected


def test_a_file_goes_before_the_configuration_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sort.toml").write_text('steps = 7\n[model]\npreset = "nano-sort"\n')
    assert load_run_config("configs/sort.toml").steps == 7


def test_the_example_of_the_help_does_not_meet_the_run_of_the_demo() -> None:
    example = str(app.help_epilogue).removeprefix("Example:  glassformer ")
    words = shlex.split(example)
    told = json.loads(
        run(*words[:1], *(word for word in words[1:] if word != "--overwrite"), "--settings", "--json").stdout
    )
    assert told["name"] != "sort"
    assert "--overwrite" in words, "it works a second time"


def test_settings_of_a_configuration_are_what_it_sets() -> None:
    told = json.loads(run("train", "sort", "--optimizer.lr", "0.5", "--settings", "--json").stdout)
    assert (told["steps"], told["optimizer.lr"], told["model.n_layers"], told["task"]) == (1500, 0.5, 3, "sort")
    table = run("train", "sort", "--settings").stdout
    (row,) = [line for line in table.splitlines() if "--steps " in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["--steps", "1500", "1000"]


def test_flags_alone_train_a_checkpoint_on_a_text(tmp_path: Path) -> None:
    gf.save(gf.build("nano-sort"), tmp_path / "mine")
    (tmp_path / "text.txt").write_text("ABCCBA" * 40)
    few = ("--steps", "1", "--batch-size", "1", "--eval-batches", "1")
    result = run("train", "--model.from", "mine", "--data.path", "text.txt", *few, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["folder"] == "runs/mine-tuned"
    tuned = gf.load(tmp_path / "runs" / "mine-tuned")
    assert tuned.tokenizer is not None
    assert tuned.encode("CAB") == [2, 0, 1]


def test_a_run_that_begins_with_the_model_of_this_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(gf.save(gf.build("nano-sort"), tmp_path / "mine"))
    assert load_run_config(None, {"model": {"from": "."}}).name == "mine-tuned"


@pytest.mark.parametrize("name", ["preset", "architecture", "from", "embedding_init"])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{name} must be a text, not 5"):
        load_run_config("sort", {"model": {name: 5}})


@pytest.mark.parametrize("flag", ["--model.norm_placement", "--model.norm-placement"])
def test_an_ablation_of_the_course_is_a_flag(flag: str) -> None:
    told = json.loads(run("train", "cs336", flag, "post", "--settings", "--json").stdout)
    assert (told["model.preset"], told["model.norm_placement"]) == ("cs336", "post")
    done = run("train", "cs336", flag, "middle", "--settings")
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.norm_placement must be one of pre, post, none, not 'middle'." in done.stderr
