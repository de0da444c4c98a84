"""The loop: exact resume, the guard against figures that are not finite, accumulation, signals, what a run leaves."""

import dataclasses
import json
import math
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer import checkpoints, files, models
from glassformer.data.encoding import encode_files
from glassformer.errors import (
    CheckpointCorrupt,
    CheckpointError,
    ConfigError,
    DataError,
    GlassformerError,
    TrainingError,
)
from glassformer.nn import functional as F
from glassformer.tokenizers import CharTokenizer
from glassformer.training import tasks
from glassformer.training.events import Ended, Evaluated, Event, GradientReady, Notice, Saved, StepDone
from glassformer.training.load_config import load_run_config
from glassformer.training.loop import train
from glassformer.training.schedule import learning_rate
from glassformer.training.trainer import Trainer
from support.counts import count
from support.tiny import DEEPSEEK, FAMILIES
from support.tolerances import assert_close
from test_files import dead_writer
from training.runs import everything, newest_checkpoint, small, sorting, trainer_of


def losses(events: list[Event]) -> dict[int, float]:
    return {event.step: event.loss for event in events if isinstance(event, StepDone)}


def interrupt_after(monkeypatch: pytest.MonkeyPatch, micro_steps: int, number: int = signal.SIGINT) -> None:
    """Send a signal in the middle of the given micro-step of the process."""
    accumulate = Trainer.accumulate
    made = iter(range(1, 10**9))

    def interrupting(self: Trainer) -> Tensor:
        if next(made) == micro_steps:
            signal.raise_signal(number)
        return accumulate(self)

    monkeypatch.setattr(Trainer, "accumulate", interrupting)


# ---- exact resume


@pytest.mark.parametrize("task", ["language-model", "sort"])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not_to_the_bit(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, optimizer and the next 50 losses, with dropout on; half of the stops are inside an accumulation."""
    generator = random.Random(f"{task} resume")
    before = count("steps before a run is stopped")
    settings = {"steps": before + 51, "accumulation": 2, "eval_interval": 40}
    config = small(tmp_path, **settings) if task == "language-model" else sorting(**settings)
    straight: list[Event] = []
    train(config, tmp_path / "straight", on_event=straight.append)
    expected = everything(tmp_path / "straight")
    for number in range(count("resumed runs")):
        stop_at = 2 * generator.randrange(1, before + 1) + number % 2
        run = tmp_path / f"run-{number}"
        events: list[Event] = []
        with monkeypatch.context() as patch:
            interrupt_after(patch, stop_at)
            ended = train(config, run, on_event=events.append)
        assert ended.interrupted_by == signal.SIGINT
        assert ended.step == stop_at // 2
        assert len(losses(straight)) - ended.step >= 50
        torch.manual_seed(number)  # what the process has drawn before must not matter
        ended = train(config, run, resume=True, on_event=events.append)
        assert ended.finished
        assert losses(events) == losses(straight)
        assert everything(run) == expected


def test_a_run_may_be_stopped_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path)
    straight: list[Event] = []
    train(config, tmp_path / "straight", on_event=straight.append)
    events: list[Event] = []
    stops = 0
    ended = None
    while ended is None or not ended.finished:
        with monkeypatch.context() as patch:
            interrupt_after(patch, 5, signal.SIGTERM)
            ended = train(config, tmp_path / "run", resume=ended is not None, on_event=events.append)
        stops += 1
    assert stops == 8  # 36 micro-steps, five a time
    assert losses(events) == losses(straight)
    assert everything(tmp_path / "run") == everything(tmp_path / "straight")


def test_a_run_resumes_from_the_checkpoint_before_one_that_is_broken(tmp_path: Path) -> None:
    config = small(tmp_path)
    train(config, tmp_path / "run")
    expected = everything(tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run")
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(bytes(data))
    events: list[Event] = []
    train(config, tmp_path / "run", resume=True, on_event=events.append)
    assert min(losses(events)) == 9
    assert everything(tmp_path / "run") == expected
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        (folder / "training" / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        train(config, tmp_path / "run", resume=True)


def test_a_finished_run_goes_on_when_it_is_given_more_steps(tmp_path: Path) -> None:
    constant = {"schedule": {"kind": "constant"}}
    train(small(tmp_path, **constant), tmp_path / "run")
    train(small(tmp_path, **constant, steps=20), tmp_path / "run", resume=True)
    train(small(tmp_path, **constant, steps=20), tmp_path / "straight")
    assert everything(tmp_path / "run") == everything(tmp_path / "straight")


@pytest.mark.parametrize(
    "change", [{"d_model": 32}, {"n_heads": 4}, {"activation": "relu"}, {"norm_eps": 1e-3}, {"context_length": 9}]
)
def test_resuming_with_another_model_is_refused_also_where_its_weights_have_the_same_shapes(
    change: dict[str, object], tmp_path: Path
) -> None:
    train(small(tmp_path, steps=1), tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(CheckpointError, match=f"does not fit this run's settings: its model has {next(iter(change))}"):
        train(small(tmp_path, steps=2, model=change), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").read_text() == before


def test_a_resumed_run_may_change_dropout_and_the_learning_rate(tmp_path: Path) -> None:
    train(small(tmp_path, steps=1), tmp_path / "run")
    changed = small(tmp_path, steps=2, model={"dropout": 0.0}, optimizer={"lr": 0.1})
    assert train(changed, tmp_path / "run", resume=True).finished


def test_a_resumed_run_keeps_its_name_task_and_seed_and_takes_no_step_back(tmp_path: Path) -> None:
    train(small(tmp_path, steps=2), tmp_path / "run")
    for change in ({"name": "other"}, {"seed": 6}):
        with pytest.raises(TrainingError, match=f"began with {next(iter(change))} = "):
            train(small(tmp_path, steps=3, **change), tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match="began with task = 'language-model'"):
        train(sorting(steps=3), tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match="has made 2 steps, and the settings ask for 1"):
        train(small(tmp_path, steps=1), tmp_path / "run", resume=True)
    assert load_run_config(tmp_path / "run" / "run.json").steps == 2


def test_training_leaves_the_random_numbers_of_its_caller_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(small(tmp_path, steps=2), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


# ---- the update


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path: Path) -> None:
    trainer = trainer_of(small(tmp_path, model={"dropout": 0.0}, label_smoothing=0.1), tmp_path)
    for _ in range(3):
        trainer.accumulate()
    batches = [trainer.task.batch(0, micro_step) for micro_step in range(3)]
    tokens = torch.cat([batch.inputs[0] for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    module = trainer.module
    actual = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    module.zero_grad()
    loss = F.cross_entropy(module(tokens), targets, label_smoothing=0.1)
    loss.backward()
    assert_close(trainer.loss, loss.detach())
    for ours, parameter in zip(actual, module.parameters(), strict=True):
        assert_close(ours, parameter.grad)


def test_the_long_gradient_is_clipped_and_reported_as_it_was(tmp_path: Path) -> None:
    steps = []
    for clip_norm in (0.0, 1e-3):
        trainer = trainer_of(small(tmp_path, accumulation=1, clip_norm=clip_norm), tmp_path)
        trainer.accumulate()
        gradient = trainer.parameters["token_embedding.weight"].grad
        assert gradient is not None
        before = gradient.clone()
        steps.append(trainer.update())
        assert torch.equal(gradient, before) == (clip_norm == 0)
    assert steps[0].grad_norm == steps[1].grad_norm > 1e-3


def test_rates_follow_the_schedule_and_the_last_is_the_lowest(tmp_path: Path) -> None:
    events: list[Event] = []
    train(small(tmp_path, schedule={"min_lr": 1e-3}), tmp_path / "run", on_event=events.append)
    rates = [event.lr for event in events if isinstance(event, StepDone)]
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert rates[-1] == 1e-3
    noam = small(tmp_path, schedule={"kind": "noam", "warmup_steps": 4, "factor": 2.0})
    assert learning_rate(noam, 4, 16) == pytest.approx(2 * 16**-0.5 * 4**-0.5)
    assert learning_rate(small(tmp_path, schedule={"kind": "constant"}), 100, 16) == 0.01


def test_who_listens_sees_the_gradient_before_the_weights_move(tmp_path: Path) -> None:
    seen: list[tuple[int, torch.Size, float, Tensor]] = []

    def look(event: Event) -> None:
        if isinstance(event, GradientReady):
            weight = event.module.get_parameter("token_embedding.weight")
            assert weight.grad is not None
            seen.append((event.step, event.inputs[0].shape, float(weight.grad.abs().sum()), weight.detach().clone()))

    train(small(tmp_path, steps=2), tmp_path / "run", on_event=look)
    (first, shape, gradient, before), (second, _, _, after) = seen
    assert (first, second) == (1, 2)
    assert len(shape) == 2
    assert gradient > 0
    assert not torch.equal(before, after)


# ---- the guard


Poison = Callable[[Trainer], None]


def infinite_loss(trainer: Trainer) -> None:
    trainer.loss.fill_(math.inf)


def nan_in_one_gradient(trainer: Trainer) -> None:
    gradient = trainer.parameters["final_norm.bias"].grad
    assert gradient is not None
    gradient[3] = math.nan


def exploding_gradient(trainer: Trainer) -> None:
    gradient = trainer.parameters["final_norm.bias"].grad
    assert gradient is not None
    gradient[:] = math.inf


@pytest.fixture(params=[infinite_loss, nan_in_one_gradient, exploding_gradient])
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is not finite in the second micro-step of step 6."""
    accumulate = Trainer.accumulate

    def poisoning(self: Trainer) -> Tensor:
        tokens = accumulate(self)
        if (self.step, self.micro_step) == (5, 2):
            request.param(self)
        return tokens

    monkeypatch.setattr(Trainer, "accumulate", poisoning)


@pytest.mark.usefixtures("poisoned")
def test_a_figure_that_is_not_finite_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Step 6 .* the weights are as before"):
        train(small(tmp_path), tmp_path / "run")
    assert everything(tmp_path / "run")[1]["step"] == 4


@pytest.mark.usefixtures("poisoned")
def test_a_figure_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    trainer = trainer_of(small(tmp_path, on_nonfinite="skip"), tmp_path)

    def one_step() -> StepDone:
        for _ in range(3):
            trainer.accumulate()
        return trainer.update()

    assert all(one_step().applied for _ in range(5))
    weights = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    moments = {name: tensor.clone() for name, tensor in trainer.state().tensors.items()}
    assert not one_step().applied
    for name, parameter in trainer.parameters.items():
        assert torch.equal(parameter, weights[name])
    assert trainer.state().tensors.keys() == moments.keys()
    assert all(torch.equal(tensor, moments[name]) for name, tensor in trainer.state().tensors.items())
    assert one_step().applied
    assert all(parameter.isfinite().all() for parameter in trainer.module.parameters())


@pytest.mark.usefixtures("poisoned")
def test_skipping_goes_on_to_the_end_and_says_which_step_was_skipped(tmp_path: Path) -> None:
    events: list[Event] = []
    assert train(small(tmp_path, on_nonfinite="skip"), tmp_path / "run", on_event=events.append).finished
    assert [event.step for event in events if isinstance(event, StepDone) and not event.applied] == [6]


def test_a_batch_of_one_text_of_one_token_trains(tmp_path: Path) -> None:
    events: list[Event] = []
    config = small(tmp_path, batch_size=1, context_length=1, steps=3)
    train(config, tmp_path / "run", on_event=events.append)
    assert all(math.isfinite(loss) for loss in losses(events).values())


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_a_checkpoint_and_the_handlers_are_as_before(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    interrupt_after(monkeypatch, 8, number)
    events: list[Event] = []
    ended = train(small(tmp_path), tmp_path / "run", on_event=events.append)
    assert (ended.interrupted_by, ended.step, ended.finished) == (number, 2, False)
    assert isinstance(events[-2], Saved)
    values = {"step": 2, "micro_step": 2, "count": 2 * 24, "expected": 3 * 24, "evaluated": 0}
    assert everything(tmp_path / "run")[1] == values
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_second_signal_acts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Trainer) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "accumulate", twice)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path), tmp_path / "run")


def test_a_thread_that_is_not_the_main_one_can_train(tmp_path: Path) -> None:
    found: list[Ended] = []
    config = small(tmp_path, steps=2)
    thread = threading.Thread(target=lambda: found.append(train(config, tmp_path / "run")))
    thread.start()
    thread.join()
    assert found[0].finished


# ---- what a run leaves behind


def test_the_run_s_folder_is_a_checkpoint_of_the_last_step(tmp_path: Path) -> None:
    ended = train(small(tmp_path), tmp_path / "run")
    assert ended.folder == tmp_path / "run"
    found = checkpoints.load(tmp_path / "run")
    newest = checkpoints.load(newest_checkpoint(tmp_path / "run"))
    assert isinstance(found.tokenizer, CharTokenizer) or found.tokenizer is not None
    for a, b in zip(found.module.parameters(), newest.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_that_was_interrupted_leaves_a_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(monkeypatch, 4)
    train(small(tmp_path), tmp_path / "run")
    assert checkpoints.load(tmp_path / "run").config.d_model == 16


def test_an_ablation_that_hugging_face_cannot_express_is_saved_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"architecture": "cs336", "d_ff": 16, "norm_placement": "post", "position": "none"}
    config = small(tmp_path, model=model)
    train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 14)
        train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert everything(tmp_path / "run") == everything(tmp_path / "straight")
    assert checkpoints.load(tmp_path / "run").config.norm_placement == "post"


def test_a_run_of_the_courses_model_from_before_it_had_a_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ablations were settings of a Llama, which its checkpoints declare; its settings name the preset."""
    config = small(tmp_path, model={"architecture": "cs336", "d_ff": 16})
    train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 14)
        train(config, tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run")
    declared = json.loads((newest / "glassformer.json").read_text())
    (newest / "glassformer.json").write_text(json.dumps(declared | {"architecture": "llama"}))
    (newest / "manifest.json").unlink()
    train(config, tmp_path / "run", resume=True)
    straight, resumed = (checkpoints.load(tmp_path / name) for name in ("straight", "run"))
    weights = zip(straight.module.parameters(), resumed.module.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)


def test_the_newest_checkpoints_stay_and_the_others_go(tmp_path: Path) -> None:
    train(small(tmp_path, save_interval=1, keep=3), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000011", "step-00000012"]


def test_the_settings_saved_with_the_run_are_those_of_the_run(tmp_path: Path) -> None:
    config = small(tmp_path)
    train(config, tmp_path / "run")
    assert load_run_config(tmp_path / "run" / "run.json") == config


def test_leftovers_of_a_killed_process_are_removed_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 4)
    train(small(tmp_path), tmp_path / "run")
    left = dead_writer(tmp_path / "run" / "checkpoints" / "step-00000004", new=None)
    (left / "new" / "model.safetensors").write_bytes(b"half")
    train(small(tmp_path), tmp_path / "run", resume=True)
    assert not left.exists()


def test_two_runs_are_not_mixed(tmp_path: Path) -> None:
    config = small(tmp_path, steps=2)
    train(config, tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already"):
        train(config, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert train(small(tmp_path, steps=3), tmp_path / "run", overwrite=True).step == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="holds other files"):
        train(config, tmp_path / "full", overwrite=True)
    with pytest.raises(TrainingError, match="no run to resume"):
        train(config, tmp_path / "full", resume=True)
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_a_refused_start_leaves_the_name_free(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        train(small(tmp_path, data={"path": "absent.txt"}), tmp_path / "run")
    with pytest.raises(ConfigError, match="vocab_size"):
        train(small(tmp_path, model={"vocab_size": 3}), tmp_path / "run")
    assert train(small(tmp_path, steps=1), tmp_path / "run").finished


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"path": "absent.txt"}},
        {"data": {"path": "{folder}/empty.txt"}},
        {"data": {"path": "{folder}/text.txt,,{folder}/text.txt"}},
        {"data": {"path": "{folder}/run/tokens/text"}},
        {"data": {"tokenizer": "{folder}/run"}},
        {"data": {"tokenizer": "{folder}/empty.txt"}},
        {"model": {"vocab_size": 3}},
    ],
    ids=str,
)
def test_overwriting_with_what_cannot_train_keeps_the_old_run(
    change: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    train(small(tmp_path, steps=1), tmp_path / "run")
    (tmp_path / "empty.txt").touch()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    filled = {
        table: {
            name: value.format(folder=tmp_path) if isinstance(value, str) else value for name, value in entries.items()
        }
        for table, entries in change.items()
    }
    with pytest.raises(GlassformerError):
        train(small(tmp_path, **filled), tmp_path / "run", overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_that_is_overwritten_leaves_nothing_of_itself_and_what_is_not_its_own(tmp_path: Path) -> None:
    train(small(tmp_path, steps=4), tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train(small(tmp_path, steps=1), tmp_path / "run", overwrite=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    train(sorting(steps=1), tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "tokens").exists()


def test_a_folder_of_tokens_that_no_run_has_made_is_somebody_s(tmp_path: Path) -> None:
    (tmp_path / "run" / "tokens").mkdir(parents=True)
    (tmp_path / "run" / "tokens" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(TrainingError, match=r"holds other files \(tokens\)"):
            train(small(tmp_path, steps=1), tmp_path / "run", overwrite=overwrite)
    assert (tmp_path / "run" / "tokens" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["..", "../precious", "{folder}/precious", "checkpoints/../../precious", "."])
def test_a_run_that_claims_to_have_written_what_is_outside_is_not_overwritten(name: str, tmp_path: Path) -> None:
    train(small(tmp_path, steps=1), tmp_path / "runs" / "run")
    for place in (tmp_path, tmp_path / "runs"):
        (place / "precious").mkdir()
        (place / "precious" / "notes.txt").write_text("mine")
    claim(tmp_path / "runs" / "run", name.format(folder=tmp_path))
    with pytest.raises(CheckpointCorrupt, match="leads out of the folder, or is no name"):
        train(small(tmp_path, steps=1), tmp_path / "runs" / "run", overwrite=True)
    for place in (tmp_path, tmp_path / "runs"):
        assert (place / "precious" / "notes.txt").read_text() == "mine"
    assert checkpoints.load(newest_checkpoint(tmp_path / "runs" / "run")).config.d_model == 16


def claim(run: Path, *names: str) -> None:
    """Let a run say that it has written these files."""
    content = json.loads((run / "written.json").read_text())
    content["files"] += names
    (run / "written.json").write_text(json.dumps(content))


def test_overwriting_removes_no_folder_in_the_place_of_a_file_and_nothing_behind_a_link(tmp_path: Path) -> None:
    train(small(tmp_path, steps=1), tmp_path / "run")
    (tmp_path / "run" / "mine").mkdir()
    (tmp_path / "run" / "mine" / "notes.txt").write_text("mine")
    claim(tmp_path / "run", "mine")
    train(small(tmp_path, steps=1), tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "mine" / "notes.txt").read_text() == "mine"
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "on a large disk")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "on a large disk")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match="checkpoints is not of the run that was here: move it away"):
        train(small(tmp_path, steps=1), tmp_path / "run", overwrite=True)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert train(small(tmp_path, steps=2), tmp_path / "run", resume=True).finished


def test_a_run_keeps_and_leaves_alone_a_checkpoint_that_is_a_link(tmp_path: Path) -> None:
    """Such as one that was moved to another disk; it is gone on from like any other, and not removed with the old."""
    train(small(tmp_path, steps=2, save_interval=1, keep=1), tmp_path / "run")
    moved = newest_checkpoint(tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "checkpoints" / "step-00000002").symlink_to(moved)
    before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    assert train(small(tmp_path, steps=4, save_interval=1, keep=1), tmp_path / "run", resume=True).steps_made == 2
    assert {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()} == before
    (moved / "config.json").write_text("{}")
    (tmp_path / "run" / "checkpoints" / "step-00000009").symlink_to(moved)
    assert train(small(tmp_path, steps=5), tmp_path / "run", resume=True).steps_made == 1
    assert (tmp_path / "run" / "checkpoints" / "broken-step-00000009").is_symlink()


@pytest.mark.parametrize(
    "content", ["{}", '{"format": 1, "files": ["run.json"]}', '{"format": 2}', "[", "written.json"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_stranger_s_folder_is_no_run_because_of_a_name(content: str, overwrite: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("checkpoints", "tensorboard", "tokens", ".tokens-being-made", ".thesis.tex.old-20240131", "sub"):
        (run / name).mkdir(parents=True)
        (run / name / "years of work").write_text("…")
    for name in ("metrics.jsonl", "loss.png", ".notes.new-deadbeef", "run.lock"):
        (run / name).write_text("…")
    for name in ("run.json", "written.json"):
        (run / name).write_text(content)
    before = everything_in(run)
    with pytest.raises(TrainingError, match="holds other files"):
        train(small(tmp_path, steps=1), run, overwrite=overwrite)
    assert everything_in(run) == before


def everything_in(run: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in run.rglob("*")}


@pytest.mark.parametrize("name", ["loss.png", "metrics.jsonl", "tensorboard", "tokens/mine.txt"])
def test_what_somebody_has_put_where_the_run_is_going_to_write_is_not_replaced(name: str, tmp_path: Path) -> None:
    train(sorting(steps=1), tmp_path / "run")
    (tmp_path / "run" / "loss.png").unlink(missing_ok=True)
    content = json.loads((tmp_path / "run" / "written.json").read_text())
    content["files"] = [written for written in content["files"] if not written.startswith(name)]
    (tmp_path / "run" / "written.json").write_text(json.dumps(content))
    (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / name).write_text("mine")
    before = everything_in(tmp_path / "run")
    with pytest.raises(TrainingError, match=f"{name.partition('/')[0]}.* is not of the run that was here"):
        train(sorting(steps=1), tmp_path / "run", overwrite=True)
    assert everything_in(tmp_path / "run") == before


def test_the_model_of_a_run_takes_nobody_s_place(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = small(tmp_path, steps=1)

    def meddle(event: Event) -> None:
        if isinstance(event, StepDone):
            (tmp_path / "run" / "config.json").write_text("mine")

    with pytest.raises(TrainingError, match=r"config\.json is not of this run, and the model belongs there"):
        train(config, tmp_path / "run", on_event=meddle)
    assert (tmp_path / "run" / "config.json").read_text() == "mine"
    (tmp_path / "run" / "config.json").unlink()
    train(config, tmp_path / "run", resume=True)
    checkpoints.load(tmp_path / "run")


def test_a_run_goes_on_from_before_a_spoilt_checkpoint_and_never_takes_it_for_its_newest_again(tmp_path: Path) -> None:
    """Also when the same step is spoilt twice; and it says so."""
    train(small(tmp_path, steps=4, save_interval=2, keep=3), tmp_path / "run")
    for name in ("broken-step-00000004", "broken-step-00000004-1"):
        spoilt = tmp_path / "run" / "checkpoints" / "step-00000004" / "model.safetensors"
        spoilt.write_bytes(b"spoilt" + spoilt.read_bytes()[6:])
        events: list[Event] = []
        config = small(tmp_path, steps=4, save_interval=2, keep=3)
        train(config, tmp_path / "run", resume=True, on_event=events.append)
        assert (tmp_path / "run" / "checkpoints" / name).is_dir()
        said = [event.text for event in events if isinstance(event, Notice)]
        assert any("checkpoint is broken, and the run goes on from step-00000002" in text for text in said)
        files.verify(tmp_path / "run")
    train(small(tmp_path, steps=1), tmp_path / "run", overwrite=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_text_shorter_than_one_stretch_is_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    (tmp_path / "text.txt").write_text("too short")
    with pytest.raises(DataError, match="One span with its targets needs 9"):
        train(config, tmp_path / "run")


def test_the_number_of_threads_is_the_setting_s_and_as_before_afterwards(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    config = small(tmp_path, steps=1, threads=before + 1)
    train(config, tmp_path / "run", on_event=lambda event: seen.append(torch.get_num_threads()))
    assert set(seen[:-1]) == {before + 1}
    assert torch.get_num_threads() == before


# ---- tasks


def test_evaluations_come_at_their_interval_and_at_the_end(tmp_path: Path) -> None:
    events: list[Event] = []
    ended = train(small(tmp_path), tmp_path / "run", on_event=events.append)
    found = [event for event in events if isinstance(event, Evaluated)]
    assert [event.step for event in found] == [5, 10, 12]
    assert list(found[0].figures) == ["loss", "perplexity"]
    assert ended.figures == found[-1].figures
    assert found[0].figures["perplexity"] == pytest.approx(math.exp(found[0].figures["loss"]))


def test_a_separate_validation_text_has_the_tokens_of_the_training_text(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("fox dog ")
    task = tasks.LanguageModel(
        small(tmp_path, data={"validation_path": str(tmp_path / "validation.txt")}), tmp_path / "tokens", print
    )
    assert task.extras["tokenizer"].decode(task.validation.tolist()) == "fox dog "
    assert len(task.training) == len(task.extras["tokenizer"].encode((tmp_path / "text.txt").read_text()))


def test_a_prepared_folder_of_tokens_and_a_learned_vocabulary_train(tmp_path: Path) -> None:
    config = small(tmp_path, data={"tokenizer": "bpe:280"}, steps=2)
    said: list[str] = []
    task = tasks.LanguageModel(config, tmp_path / "tokens", said.append)
    assert task.extras["tokenizer"].vocab_size == 280
    assert task.extras["tokenizer"].special_tokens.keys() == {"<|endoftext|>"}
    assert any("280 tokens" in text for text in said)
    prepared = small(tmp_path, data={"path": str(tmp_path / "tokens" / "text")}, steps=2)
    again = tasks.LanguageModel(prepared, tmp_path / "other", said.append)
    assert np.array_equal(again.training, task.training)
    assert train(prepared, tmp_path / "run").finished


def test_believed_too_easily_a_run_is_not_resumed_on_other_tokens(tmp_path: Path) -> None:
    config = small(tmp_path, steps=2)
    text, prepared = tmp_path / "text.txt", tmp_path / "prepared"
    tokenizer = CharTokenizer.from_text([text.read_text()])
    encode_files([text], tokenizer, prepared)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(prepared)))
    train(config, tmp_path / "run")
    encode_files([text], tokenizer, prepared, overwrite=True)
    assert train(dataclasses.replace(config, steps=3), tmp_path / "run", resume=True).finished
    text.write_text("the fox " * 300)
    encode_files([text], tokenizer, prepared, overwrite=True)
    with pytest.raises(DataError, match="not what the run began with"):
        train(dataclasses.replace(config, steps=4), tmp_path / "run", resume=True)


def test_without_validation_there_is_no_evaluation(tmp_path: Path) -> None:
    config = small(tmp_path, data={"validation_fraction": 0.0}, steps=1)
    assert train(config, tmp_path / "run").figures == {}


def test_the_sorting_task_reports_the_held_out_quarter_by_itself(tmp_path: Path) -> None:
    ended = train(sorting(steps=1, eval_interval=0), tmp_path / "run")
    assert ended.figures["total"] == 729
    assert ended.figures["held_out_total"] == 182


@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_model_that_can_overfit_one_text_does(tmp_path: Path) -> None:
    """The course's habit: a loss near zero on a text of a few letters shows that the parts fit together."""
    events: list[Event] = []
    config = small(tmp_path, steps=60, accumulation=1, model={"dropout": 0.0}, optimizer={"lr": 0.02})
    (tmp_path / "text.txt").write_text("abcdefgh" * 50)
    train(config, tmp_path / "run", on_event=events.append)
    assert losses(events)[1] == pytest.approx(math.log(8), abs=0.3)
    assert losses(events)[60] < 0.35


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_arithmetic_in_bfloat16_keeps_weights_and_moments_in_float32(dtype: str, tmp_path: Path) -> None:
    trainer = trainer_of(small(tmp_path, dtype=dtype, accumulation=1), tmp_path)
    seen: list[torch.dtype] = []
    hook = trainer.module.blocks[0].mlp.up_proj.register_forward_hook(  # type: ignore[union-attr, index]
        lambda module, inputs, output: seen.append(output.dtype)
    )
    trainer.accumulate()
    hook.remove()
    trainer.update()
    assert seen == [getattr(torch, dtype)]
    assert {tensor.dtype for tensor in trainer.state().tensors.values()} == {torch.float32}
    assert {parameter.dtype for parameter in trainer.module.parameters()} == {torch.float32}


OF_ARCHITECTURE: dict[str, dict[str, Any]] = {
    "gpt2": {"n_heads": 2},
    "llama": {"n_heads": 2, "d_ff": 16},
    "cs336": {"n_heads": 2, "d_ff": 16},
    **{
        name: {key: n for key, n in sizes.items() if key != "vocab_size"}
        for name, sizes in (FAMILIES | DEEPSEEK).items()
    },
    "gpt_neox": {"n_heads": 2},
    "rnn": {},
}


def test_every_language_model_trains(tmp_path: Path) -> None:
    language_models = [name for name, spec in models.specs().items() if spec.kind == "language-model"]
    assert set(OF_ARCHITECTURE) == set(language_models)
    for name in language_models:
        sizes = {"n_layers": 1, **OF_ARCHITECTURE[name], "context_length": 8, "d_model": 16, "dropout": 0.2}
        config = dataclasses.replace(small(tmp_path, steps=1), model={"architecture": name, **sizes})
        assert train(config, tmp_path / name).finished
