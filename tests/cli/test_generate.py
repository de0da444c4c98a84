"""`glassformer generate` beside Python's `generate`: the same defaults, the same text."""

import json
from pathlib import Path

import pytest

import glassformer as gf
from support.commands import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose files say how tokens are chosen."""
    gf.save(gf.load("nano-sort"), tmp_path / "model")
    config = tmp_path / "model" / "generation_config.json"
    settings = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**settings, "temperature": 500.0, "top_k": 2, "do_sample": True}))
    (tmp_path / "model" / "manifest.json").unlink(missing_ok=True)
    return tmp_path / "model"


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"top_k": 0}], ids=str)
def test_the_models_own_settings_hold_from_python_and_from_the_command_line(settings, folder: Path) -> None:
    model = gf.load(folder)
    assert (model.sampling.temperature, model.sampling.top_k) == (500.0, 2)
    texts = ["".join(model.generate("CBABBC", max_new_tokens=6, **(settings | {"seed": seed}))) for seed in range(5)]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    written = []
    for seed in range(5):
        done = run("generate", str(folder), "CBABBC", "--max-new-tokens=6", "--json", *flags, f"--seed={seed}")
        written.append(json.loads(done.stdout)["results"][0]["text"])
    assert written == texts
    if not settings:
        assert len(set(texts)) > 1, "at this temperature letters are drawn"


def test_settings_that_cannot_be_are_refused_with_the_name_of_the_file(folder: Path) -> None:
    config = folder / "generation_config.json"
    config.write_text(json.dumps({"temperature": "hot"}))
    done = run("generate", str(folder), "CBABBC")
    assert done.returncode == 2
    assert "generation_config.json: temperature must be a number, not 'hot'" in done.stderr
    done = run("generate", str(folder), "CBABBC", "--temperature=-1")
    assert done.returncode == 2
    assert "--temperature must be at least 0" in done.stderr
