"""The recurrent language model: generation, padding, checkpoints of ours, training. Laws are in `test_models.py`."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from glassformer import api, checkpoints, models
from glassformer.cli.app import app
from glassformer.errors import ConfigError
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.rnn import PRESETS, RNN, RNNConfig
from glassformer.models.spec import CausalModel, State
from glassformer.nn.kv_cache import full
from glassformer.nn.recurrent import CellKind, to_torch
from glassformer.training.load_config import load_run_config
from glassformer.training.loop import train
from support.tolerances import assert_close
from training.runs import everything, small

KINDS: list[CellKind] = ["rnn", "gru", "lstm"]
SIZES = {"vocab_size": 11, "context_length": 8, "d_model": 12, "n_layers": 2}
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> RNN:
    """With weights so large, and in float64, that its greedy choices are not a tie."""
    built = RNN(RNNConfig(**SIZES, kind=request.param)).eval()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.7)
    return built.double().requires_grad_(False)


def continuation(model: RNN, prompts: list[list[int]], n: int, cache: str = "full") -> list[list[int]]:
    found: list[list[int]] = [[] for _ in prompts]
    for new in generate(model, prompts, max_new_tokens=n, sampling=GREEDY, cache=cache):
        found[new.sequence].append(new.token)
    return found


@pytest.mark.parametrize(("name", "parameters"), [("rnn-char", 82_753), ("gru-char", 214_849), ("lstm-char", 280_897)])
def test_a_preset_has_its_number_of_parameters(name: str, parameters: int) -> None:
    assert set(PRESETS) == {"rnn-char", "gru-char", "lstm-char"}
    assert sum(parameter.numel() for parameter in RNN(PRESETS[name]).parameters()) == parameters


def test_it_is_what_decoding_asks_for(model: RNN) -> None:
    assert isinstance(model, CausalModel)
    assert isinstance(model.begin(None, full(1)), State)


def test_logits_are_those_of_torchs_layers(model: RNN) -> None:
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[model.config.kind](12, 12, 2, batch_first=True).double()
    theirs.load_state_dict(to_torch(model.recurrent.state_dict()))
    tokens = torch.randint(11, (3, 9))
    h, _ = theirs(model.token_embedding.weight[tokens])
    assert_close(model(tokens), h @ model.lm_head.weight.mT + model.lm_head.bias)


def test_greedy_generation_is_the_argmax_of_whole_passes_and_goes_beyond_the_context(model: RNN) -> None:
    text = [3, 1, 4]
    for _ in range(30):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert continuation(model, [[3, 1, 4]], 30) == [text[3:]]
    assert continuation(model, [[3, 1, 4]], 30, cache="window:2") == [text[3:]], "there is nothing to leave"


def test_prompts_of_other_lengths_beside_it_change_nothing(model: RNN) -> None:
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    assert continuation(model, prompts, 12) == [continuation(model, [prompt], 12)[0] for prompt in prompts]


def test_a_text_in_pieces_is_the_text(model: RNN) -> None:
    tokens, state = torch.randint(11, (2, 20)), model.begin(None, full(1))
    pieces = [model(piece, state) for piece in tokens.split([7, 1, 12], dim=1)]
    assert_close(torch.cat(pieces, 1), model(tokens))


# Checkpoints


def test_a_checkpoint_of_ours_gives_the_model_back(model: RNN, tmp_path: Path) -> None:
    found = checkpoints.load(checkpoints.save(model.float(), tmp_path / "model"))
    assert found.config == model.config
    tokens = torch.randint(11, (2, 6))
    assert torch.equal(found.module(tokens), model(tokens))
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["model_type"] == "glassformer"


def test_without_our_own_file_it_is_no_model_of_hugging_faces(model: RNN, tmp_path: Path) -> None:
    folder = checkpoints.save(model, tmp_path / "model", native=True)
    (folder / "glassformer.json").unlink()
    (folder / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="model_type 'glassformer' is unknown"):
        checkpoints.load(folder)
    for kind in ("", "rnn"):
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ConfigError, match="is unknown"):
            checkpoints.load(folder)


def test_there_is_no_way_to_hugging_face_or_from_there(tmp_path: Path) -> None:
    assert models.specs()["rnn"].published is None
    folder = checkpoints.save(RNN(RNNConfig(vocab_size=3, d_model=4)), tmp_path / "rnn")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "glassformer"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"context_length": 2.0}, "context_length must be a whole number"),
        ({"d_model": True}, "d_model must be a whole number"),
        ({"n_layers": -1}, "n_layers must be a whole number"),
        ({"kind": "rwkv"}, "kind must be one of rnn, gru, lstm, not 'rwkv'"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RNNConfig(**wrong)  # type: ignore[arg-type]


# Training


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    config = dataclasses.replace(
        small(tmp_path, steps=6, schedule={"kind": "constant", "warmup_steps": 0}),
        model={"architecture": "rnn", **SIZES, "vocab_size": 30, "dropout": 0.2},
    )
    train(config, tmp_path / "whole")
    train(dataclasses.replace(config, steps=2), tmp_path / "halved")
    train(config, tmp_path / "halved", resume=True)
    assert everything(tmp_path / "whole") == everything(tmp_path / "halved")


@pytest.mark.usefixtures("unchecked")  # for its speed
def test_it_learns_a_text_by_heart(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcdefgh" * 50)
    config = load_run_config(
        "lstm-char",
        {
            "model": {"d_model": 16, "n_layers": 1, "context_length": 12},
            "data": {"path": str(tmp_path / "text.txt"), "validation_fraction": 0.0},
            "batch_size": 8,
            "steps": 60,
            "optimizer": {"lr": 0.03},
            "schedule": {"warmup_steps": 5},
        },
    )
    train(config, tmp_path / "run")
    model = api.load(tmp_path / "run")
    assert "".join(model.generate("c", max_new_tokens=40, temperature=0.0)) == ("defghabc" * 5)


def test_the_command_line_trains_a_preset_and_generates_from_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    settings = ["--steps", "2", "--data.path", "text.txt", "--model.d-model", "16", "--batch-size", "2"]
    app(["train", "gru-char", *settings, "--json"], result_action="return_none")
    assert json.loads(capsys.readouterr().out)["step"] == 2
    app(["generate", "runs/gru-char", "--prompt", "the ", "--max-new-tokens", "80"], result_action="return_none")
    out = capsys.readouterr().out
    assert out.startswith("the ")
    assert len(out) == 4 + 80 + 1, "64 letters is no limit"
