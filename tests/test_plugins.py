"""A family, a format, a backend and a filter from outside the package: one file each, and no other file is changed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import glassformer as gf
from glassformer.inference.logits import LogitFilter
from support import toy_filter  # no other toy: this process has no plugins
from support.commands import run_process

TOYS = Path(__file__).parent / "support"
MAX_LINES = 60


def with_plugin(name: str, *arguments: str) -> str:
    """What the command line prints with a plugin of `tests/support`."""
    done = run_process(*arguments, GLASSFORMER_PLUGINS=f"support.{name}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the toy family, trained to sort for some steps."""
    runs = tmp_path_factory.mktemp("runs")
    steps = ["--steps", "200", "--threads", "1", "--eval-interval", "200"]
    with_plugin("toy_family", "train", "sort", "--model.preset", "toy-sort", "--runs", str(runs), *steps)
    return runs / "sort"


@pytest.mark.parametrize("toy", sorted(TOYS.glob("toy_*.py")), ids=lambda path: path.stem)
def test_a_toy_is_short(toy: Path) -> None:
    assert len(toy.read_text().splitlines()) <= MAX_LINES


def test_a_family_from_outside_generates(trained: Path) -> None:
    text = with_plugin("toy_family", "generate", str(trained), "--prompt", "CBABBC", "--max-new-tokens", "5")
    assert len(text.strip()) == 11
    assert set(text.strip()) <= set("ABC")


def test_a_family_from_outside_is_converted_and_continues_the_same(trained: Path, tmp_path: Path) -> None:
    with_plugin("toy_family", "convert", str(trained), str(tmp_path / "a"))
    weights = load_file(tmp_path / "a" / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in load_file(trained / "model.safetensors").items())
    prompt = ["--prompt", "BACCAB", "--max-new-tokens", "5", "--temperature", "0"]
    before, after = (with_plugin("toy_family", "generate", str(path), *prompt) for path in (trained, tmp_path / "a"))
    assert before == after


def test_every_number_of_a_family_from_outside_is_explained(trained: Path, tmp_path: Path) -> None:
    with_plugin("toy_family", "trace", str(trained), "--input", "CBABBC", "--out", str(tmp_path / "trace"))
    report = json.loads(with_plugin("toy_family", "trace", "--check", str(tmp_path / "trace"), "--json"))
    assert report["failures"] == 0
    assert report["checked"] == report["computed_cells"] > 10_000


def test_a_family_from_outside_is_walked_through(trained: Path) -> None:
    """It names its parts as other models do, so that chapters fit which nobody has written for it."""
    reports = json.loads(with_plugin("toy_family", "view", str(trained), "--input", "CBABBC", "--check", "--json"))
    fit = {report["chapter"] for report in reports if not report["missing"]}
    assert {"tokens", "query-key-value", "scores", "softmax", "heads", "mlp"} <= fit
    assert [problem for report in reports for problem in report["problems"]] == []


def test_without_its_plugin_a_folder_says_which_architecture_it_needs(trained: Path) -> None:
    done = run_process("generate", str(trained), "--prompt", "CBABBC")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no architecture 'toy'" in done.stderr
    assert "One from outside needs its plugin, in GLASSFORMER_PLUGINS or installed." in done.stderr


@pytest.mark.parametrize("name", ["../toy_family.py", "toy_family:", "toy;other", "toy_family.py,"])
def test_a_plugin_is_named_as_a_module(name: str) -> None:
    done = run_process("generate", "nano-sort", GLASSFORMER_PLUGINS=name)
    assert done.returncode == 2
    assert "is no name of a module" in done.stderr or "No module named 'toy_family'" in done.stderr


@pytest.mark.parametrize("name", ["model.bin", "model.json"])
def test_a_format_from_outside_is_opened_and_converted(name: str, tmp_path: Path) -> None:
    sizes = {"vocab_size": 3, "context_length": 8, "d_model": 8, "n_layers": 1}
    model = gf.build("gpt2", **sizes, n_heads=2)
    weights = {name: weight.tolist() for name, weight in model.module.named_parameters()}
    (tmp_path / name).write_text(json.dumps({"toy": sizes, "letters": "ABC", "weights": weights}))
    with_plugin("toy_format", "convert", str(tmp_path / name), str(tmp_path / "a"), "--option", "n_heads=2")
    loaded = gf.load(tmp_path / "a")
    tokens = torch.tensor([[0, 2, 1]])
    assert loaded.config == model.config
    assert torch.equal(loaded(tokens), model(tokens))
    text = with_plugin("toy_format", "generate", str(tmp_path / name), "A", "--option", "n_heads=2", "--json")
    assert json.loads(text)["results"][0]["finish"] == "context"


def test_a_backend_from_outside_attends_on_the_command_line() -> None:
    greedy = ["generate", "nano-sort", "--prompt", "CBABBC", "--max-new-tokens", "6", "--temperature", "0"]
    assert with_plugin("toy_backend", *greedy) == "CBABBCABBBCC\n"
    backends = with_plugin("toy_backend", "doctor")
    assert "row-by-row" in backends


def test_a_filter_from_outside_decides_what_comes() -> None:
    model = gf.load("nano-sort")
    filters: list[LogitFilter] = [toy_filter.no_stutter]
    text = "".join(model.generate("CBABBC", max_new_tokens=5, temperature=0.0, filters=filters))
    assert all(a != b for a, b in zip("C" + text, text, strict=False))
    assert text != "".join(model.generate("CBABBC", max_new_tokens=5, temperature=0.0))
    rows = model.generate_ids([[2, 1, 0, 1, 1, 2]] * 2, max_new_tokens=5, filters=filters)
    assert (rows[:, 6:] != rows[:, 5:-1]).all()


BROKEN_FORMAT = """
import numpy as np
import torch
from glassformer.checkpoints import formats
from glassformer.checkpoints.formats.format import Contents, Format
from glassformer.models.gpt2 import GPT2, GPT2Config
def read(source):
    config = GPT2Config(vocab_size=3, context_length=8, d_model=8, n_layers=1, n_heads=2)
    return Contents(config=config), {**dict(GPT2(config).named_parameters()), **CHANGES}
formats.register(Format(name="broken", files=".npz", sniff=lambda source: SNIFF, read=read))
"""


@pytest.mark.parametrize(
    ("sniff", "changes", "says"),
    [
        (
            "1 / 0",
            "{}",
            "the format broken, of broken_format, fails to look at it (ZeroDivisionError: division",
        ),
        ("source.is_numpy", "{'extra': torch.zeros(1)}", "extra has the shape (1,) in the file, and none in the model"),
        ("source.is_numpy", "{'lm_head.weight': torch.zeros(3, 7)}", "shape (3, 7) in the file, and none in the model"),
        (
            "source.is_numpy",
            "{'token_embedding.weight': torch.zeros(3, 7)}",
            "shape (3, 7) in the file, and (3, 8) in the model",
        ),
    ],
)
def test_a_format_from_outside_is_held_against_the_model(
    sniff: str, changes: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "broken_format.py").write_text(BROKEN_FORMAT.replace("SNIFF", sniff).replace("CHANGES", changes))
    np.savez(tmp_path / "model.npz", marker=np.zeros(1))
    done = run_process("convert", str(tmp_path / "model.npz"), str(tmp_path / "a"), GLASSFORMER_PLUGINS="broken_format")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr
    assert not (tmp_path / "a").exists()


TAKES = """
from dataclasses import dataclass, replace
from typing import ClassVar
from glassformer import models
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.published.gpt2 import PUBLISHED
taken = dict(architecture="new", presets={{}}, model_types=(), tensors=PUBLISHED.tensors)
taken["{0}"] = {1}
@dataclass(frozen=True, slots=True, kw_only=True)
class Config(GPT2Config):
    architecture: ClassVar[str] = taken["architecture"]
published = replace(PUBLISHED, config=Config, model_types=taken["model_types"], tensors=taken["tensors"])
presets = taken["presets"] or {{"new-1": Config(n_layers=1)}}
models.register(models.ModelSpec(config=Config, module=GPT2, presets=presets, published=published))
"""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "ModuleNotFoundError: No module named 'broken_plugin'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("print('a result?')\n1 / 0", "ZeroDivisionError: division by zero"),
        (TAKES.format("architecture", "'gpt2'"), "There is an architecture 'gpt2' already, of glassformer.models.gpt2"),
        (TAKES.format("presets", "{'gpt2': None}"), "There is a preset 'gpt2' already, of glassformer.models.gpt2"),
        (TAKES.format("tensors", "lambda config: ()"), "The table of new does not fit its preset new-1: blocks.0.attn"),
        (
            TAKES.format("model_types", "('llama',)"),
            "There is a model type 'llama' already, of glassformer.models.llama",
        ),
        (
            "from glassformer.nn.attend import register\nfrom glassformer.twins import Backend\n"
            "register(Backend(name='naive', fn=lambda *a, **b: 0))",
            "There is an attention backend 'naive' already, of glassformer.nn.attend.naive",
        ),
        (
            "from glassformer.checkpoints.formats import register\nfrom support.toy_format import Format, sniff\n"
            "register(Format(name='minGPT', files='', sniff=sniff, read=lambda source: 0))",
            "There is a format 'minGPT' already, of glassformer.checkpoints.formats.mingpt",
        ),
        (
            "from glassformer.checkpoints.formats import register\nfrom support.toy_format import Format, sniff\n"
            "register(Format(name='toy', files='', sniff=sniff, read=lambda source: 0))",
            "There is a format 'toy' already, of support.toy_format",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_named(
    source: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    if source is not None:
        (tmp_path / "broken_plugin.py").write_text(source)
    plugins = {"GLASSFORMER_PLUGINS": "support.toy_backend, broken_plugin"}
    done = run_process("generate", "nano-sort", **plugins)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 + ("a result?" in done.stderr)
    assert "The plugin broken_plugin, of GLASSFORMER_PLUGINS, does not load" in done.stderr
    assert says in done.stderr


def test_a_broken_plugin_stops_neither_the_version_nor_the_doctor() -> None:
    plugins = {"GLASSFORMER_PLUGINS": "support.toy_backend, no_such_plugin"}
    assert run_process("--version", **plugins).returncode == 0
    doctor = run_process("doctor", "--json", **plugins)
    assert doctor.returncode == 0
    assert json.loads(doctor.stdout)["plugins"] == {
        "support.toy_backend": "loaded, of GLASSFORMER_PLUGINS",
        "no_such_plugin": "does not load (ModuleNotFoundError: No module named 'no_such_plugin'), of "
        "GLASSFORMER_PLUGINS",
    }


def test_the_plugins_of_an_installed_package_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "toys-1.0.dist-info").mkdir()
    (tmp_path / "toys-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    names = tmp_path / "toys-1.0.dist-info" / "entry_points.txt"
    names.write_text("[glassformer.plugins]\nbackend = support.toy_backend\n")
    assert "row-by-row" in run_process("doctor").stdout
    names.write_text("[glassformer.plugins]\nbackend = support.no_toy\n")
    assert "The plugin support.no_toy, of the package toys, does not load" in run_process("generate", "x").stderr
