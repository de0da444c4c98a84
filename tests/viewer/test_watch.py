"""A training that is watched is the training that is not, and its pictures are what the model was."""

from pathlib import Path
from typing import Any

import torch

from glassformer.tracing.check import check
from glassformer.training.events import Event, GradientReady, StepDone
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.viewer.session import Session
from glassformer.viewer.watch import Watch

SETTINGS: dict[str, Any] = {
    "name": "sort",
    "task": "sort",
    "batch_size": 8,
    "steps": 6,
    "eval_interval": 3,
    "save_interval": 0,
    "threads": 1,
    "model": {"preset": "nano-sort", "n_layers": 1, "d_model": 12, "n_heads": 1},
    "optimizer": {"lr": 1e-2},
}


def watched(folder: Path, monkeypatch: Any) -> tuple[Watch, list[float], dict[int, dict[str, torch.Tensor]]]:
    monkeypatch.setattr("glassformer.viewer.watch.PAUSE", 0.0)
    watch = Watch(name="sort", on_first=lambda session: None)
    losses: list[float] = []
    gradients: dict[int, dict[str, torch.Tensor]] = {}

    def listen(event: Event) -> None:
        if isinstance(event, GradientReady):
            gradients[event.step] = {
                name: parameter.grad.clone()
                for name, parameter in event.module.named_parameters()
                if parameter.grad is not None
            }
        watch(event)
        if isinstance(event, StepDone):
            losses.append(event.loss)

    train(resolve(SETTINGS), folder, on_event=listen)
    return watch, losses, gradients


def test_watching_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    plain: list[float] = []
    train(
        resolve(SETTINGS),
        tmp_path / "plain",
        on_event=lambda event: plain.append(event.loss) if isinstance(event, StepDone) else None,
    )
    _, losses, _ = watched(tmp_path / "watched", monkeypatch)
    assert losses == plain


def test_a_picture_has_the_weights_and_the_gradients_of_its_step(tmp_path: Path, monkeypatch: Any) -> None:
    watch, _, gradients = watched(tmp_path / "run", monkeypatch)
    progress = watch.progress()
    assert progress["pictures"][:2] == [1, 3]
    assert [step for step, _ in progress["losses"]] == [1, 2, 3, 4, 5, 6]
    for number, at in enumerate(progress["pictures"]):
        step = watch.session.step(0, number)
        shown = [block for block in step.scene.blocks if block.kind == "gradient"]
        assert {step.trace.tensors[block.tensor].name for block in shown} == {f"{name}.grad" for name in gradients[at]}
        for block in shown:
            record = step.trace.tensors[block.tensor]
            assert torch.equal(step.trace.value(record.id), gradients[at][record.name.removesuffix(".grad")])
            assert block.gradient_of is not None
            weight = step.scene.blocks[block.gradient_of]
            assert (weight.pos, weight.size, weight.strides) == (block.pos, block.size, block.strides)
        assert check(step.trace, cells=200).failures == []
    weights = [watch.session.step(0, n).trace["token_embedding.weight"].value for n in (0, 1)]
    assert not torch.equal(*weights)


def test_pages_hear_of_losses_pictures_and_the_end(tmp_path: Path, monkeypatch: Any) -> None:
    told: list[str] = []
    monkeypatch.setattr("glassformer.viewer.events.Events.tell", lambda self, kind, content: told.append(kind))
    first: list[Session] = []
    monkeypatch.setattr("glassformer.viewer.watch.PAUSE", 0.0)
    train(
        resolve(SETTINGS),
        tmp_path / "run",
        on_event=Watch(name="sort", on_first=first.append),
    )
    assert len(first) == 1
    assert told.count("loss") == 6
    assert told[0] == "picture"
    assert told[-1] == "ended"
