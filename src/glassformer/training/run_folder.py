"""The folder of a run.

runs/NAME/
  config.json model.safetensors tokenizer.json …   the model, as Hugging Face lays it out: when training has stopped
  run.json          the settings, resolved
  metrics.jsonl loss.png tensorboard/               what the subscribers of `report.py` write
  tokens/           the text as token ids, if the run encoded it
  checkpoints/step-00000500/                        the same model, and training/ with what resuming needs

Until a run begins, the tokens being made for it in `.tokens-being-made` are all that it has put there.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from glassformer import checkpoints, files, strict_json
from glassformer.checkpoints import Checkpoint, huggingface, native
from glassformer.config import to_mapping
from glassformer.errors import CheckpointError, TrainingError
from glassformer.tokenizers.bpe_files import SOURCE_FOLDER
from glassformer.training.config import RunConfig, load_run_config
from glassformer.training.tasks.task import Task

MADE = ("metrics.jsonl", "loss.png", "tensorboard", "tokens", "checkpoints", SOURCE_FOLDER)  # beside the settings
FIXED = ("name", "task", "seed")  # settings that a resumed run cannot change


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What resuming needs beside the weights: tensors by name, and values of JSON, `step` among them."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class RunFolder:
    """Where a run keeps what it makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens = path / "tokens"
        self.new_tokens = path / ".tokens-being-made"
        self.checkpoints = path / "checkpoints"
        self.settings = path / "run.json"

    @contextmanager
    def begin(self, config: RunConfig, *, resume: bool, overwrite: bool) -> Iterator[Path]:
        """In the block a run is made ready, its tokens in the folder that comes; when it ends, the run has begun.

        A block that raises leaves what was there, also the run to be overwritten. Two runs are never mixed.
        """
        for folder in (self.checkpoints, self.tokens, self.path):
            files.sweep(folder)  # what a killed process has left
        shutil.rmtree(self.new_tokens, ignore_errors=True)
        if resume:
            self._check_same_run(config)
            yield self.tokens
            self._write_settings(config)
            return
        self._check_free(overwrite)
        old_model = self._listed_model()
        was_there = self.path.exists()
        try:
            yield self.new_tokens
            self._remove_run(old_model)
            self._write_settings(config)
            if self.new_tokens.is_dir():
                os.rename(self.new_tokens, self.tokens)
        finally:
            shutil.rmtree(self.new_tokens, ignore_errors=True)
            if not was_there:
                with suppress(OSError):
                    self.path.rmdir()  # where nothing came of the run: only an empty folder can go

    def _check_same_run(self, config: RunConfig) -> None:
        if not self.settings.is_file():
            raise TrainingError(f"{self.path} holds no run to resume: it has no {self.settings.name}.")
        before = load_run_config(self.settings)
        for name in FIXED:
            old, new = getattr(before, name), getattr(config, name)
            if old != new:
                raise TrainingError(
                    f"The run in {self.path} began with {name} = {old!r}, and resuming cannot make it {new!r}: "
                    f"leave out --{name}, or begin another run."
                )

    def _check_free(self, overwrite: bool) -> None:
        if self.settings.is_file() and not overwrite:
            raise TrainingError(
                f"{self.path} holds a run already: go on with it (--resume {self.path}), replace it "
                f"(--overwrite), or take another name."
            )
        strangers = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        if strangers and not self.settings.is_file():
            raise TrainingError(f"{self.path} holds other files ({strangers[0]}); take another name for the run.")

    def _write_settings(self, config: RunConfig) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be made a folder: {error.strerror}.") from None
        files.write_file(self.settings, (json.dumps(to_mapping(config), indent=1) + "\n").encode(), overwrite=True)

    def save(self, state: "State", module: nn.Module, task: Task, *, keep: int) -> Path:
        """Write a checkpoint whole or not at all, then remove all but the `keep` newest ones."""
        target = self.checkpoints / f"step-{state.values['step']:08}"
        with files.new_directory(target, overwrite=True) as folder:
            huggingface.write_directory(folder, module, native=True, **task.belongings)
            task.write_beside(folder, module)
            native.write_state(folder, state.tensors, state.values)
        for old in self._newest_first()[keep:]:
            shutil.rmtree(old)
        return target

    def newest(self) -> "tuple[Checkpoint, State] | None":
        """The model with what is beside it, and the state, of the newest checkpoint that is whole; None before it."""
        broken: dict[Path, CheckpointError] = {}
        for path in self._newest_first():
            try:
                found = checkpoints.load(path)
                tensors, values = native.read_state(path)
            except CheckpointError as error:
                broken[path] = error
            else:
                for spoilt in broken:  # the run goes on from before it, and must not take it for its newest later
                    os.rename(spoilt, spoilt.with_name(f"broken-{spoilt.name}"))
                return found, State(tensors=tensors, values=values)
        if broken:
            raise next(iter(broken.values()))
        return None

    def publish(self) -> None:
        """Put the model of the newest checkpoint at the top of the run's folder, without the state of training."""
        newest = self._newest_first()[0]
        manifest = strict_json.read(newest / files.MANIFEST, files.MAX_MANIFEST_BYTES)
        manifest["files"] = {
            name: entry for name, entry in manifest["files"].items() if not name.startswith(f"{native.FOLDER}/")
        }
        (self.path / files.MANIFEST).unlink(missing_ok=True)  # it comes last, when all that it lists is there
        for name in manifest["files"]:
            aside = (self.path / name).with_name(f".{Path(name).name}.part")
            aside.parent.mkdir(exist_ok=True)
            shutil.copyfile(newest / name, aside)
            os.replace(aside, self.path / name)
        files.write_file(self.path / files.MANIFEST, json.dumps(manifest, indent=1).encode(), overwrite=True)

    def _newest_first(self) -> list[Path]:
        numbered = [path for path in self.checkpoints.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)

    def _listed_model(self) -> list[Path]:
        """The files of the model at the top of the folder, of which there is a manifest once a run has stopped."""
        listed = files.listed(self.path) if (self.path / files.MANIFEST).is_file() else []
        return [self.path / name for name in listed if "/" not in name]

    def _remove_run(self, model: list[Path]) -> None:
        """Remove what a run of ours has made, and nothing else; its settings stay until others take their place."""
        for path in (*model, self.path / files.MANIFEST):
            if path.is_file():
                path.unlink()
        for name in MADE:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
