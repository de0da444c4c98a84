"""The folder of a run.

runs/NAME/
  config.json model.safetensors tokenizer.json …   the model, as Hugging Face lays it out: when training has stopped
  run.json          the settings, resolved
  metrics.jsonl loss.png tensorboard/               what the subscribers of `report.py` write
  tokens/           the text as token ids, if the run encoded it
  checkpoints/step-00000500/                        the same model, and training/ with what resuming needs
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from glassformer import files
from glassformer.checkpoints import huggingface, native
from glassformer.config import to_mapping
from glassformer.errors import CheckpointError, TrainingError
from glassformer.tokenizers import Tokenizer
from glassformer.training.config import RunConfig

FILES = ("run.json", "metrics.jsonl", "loss.png", "tensorboard", "tokens", "checkpoints")


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
        self.checkpoints = path / "checkpoints"
        self.settings = path / "run.json"

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Sweep up what a killed process has left; refuse to mix two runs."""
        for folder in (self.checkpoints, self.tokens, self.path):
            files.sweep(folder)
        if resume:
            if not self.settings.is_file():
                raise TrainingError(f"{self.path} holds no run to resume: it has no {self.settings.name}.")
            return
        if overwrite and self.settings.is_file():
            self._remove_run()
            return
        remaining = {path.name for path in self.path.iterdir()} - {"tokens"} if self.path.is_dir() else set()
        if self.settings.is_file():
            raise TrainingError(
                f"{self.path} holds a run already. Go on with it (--resume {self.path}), or take another name."
            )
        if remaining:
            raise TrainingError(f"{self.path} holds other files ({min(remaining)}); take another name for the run.")
        shutil.rmtree(self.tokens, ignore_errors=True)  # of a run that never made a step

    def write_settings(self, config: RunConfig) -> None:
        """From here on, the run can be resumed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be made a folder: {error.strerror}.") from None
        files.write_file(self.settings, (json.dumps(to_mapping(config), indent=1) + "\n").encode())

    def save(self, state: "State", module: nn.Module, tokenizer: Tokenizer, *, keep: int) -> Path:
        """Write a checkpoint whole or not at all, then remove all but the `keep` newest ones."""
        target = self.checkpoints / f"step-{state.values['step']:08}"
        with files.new_directory(target) as folder:
            huggingface.write_directory(folder, module, tokenizer=tokenizer, native=True)
            native.write_state(folder, state.tensors, state.values)
        for old in self._newest_first()[keep:]:
            shutil.rmtree(old)
        return target

    def newest(self) -> "tuple[nn.Module, State] | None":
        """The model and the state in the newest checkpoint that is whole; None before the first one."""
        broken: dict[Path, CheckpointError] = {}
        for path in self._newest_first():
            try:
                files.verify(path)
                tensors, values = native.read_state(path)
                _, module = huggingface.load_directory(path)
            except CheckpointError as error:
                broken[path] = error
            else:
                for spoilt in broken:  # the run goes on from before it, and must not take it for its newest later
                    os.rename(spoilt, spoilt.with_name(f"broken-{spoilt.name}"))
                return module, State(tensors=tensors, values=values)
        if broken:
            raise next(iter(broken.values()))
        return None

    def publish(self) -> None:
        """Put the model of the newest checkpoint at the top of the run's folder, without the state of training."""
        newest = self._newest_first()[0]
        manifest = json.loads((newest / files.MANIFEST).read_bytes())
        manifest["files"] = {name: entry for name, entry in manifest["files"].items() if "/" not in name}
        (self.path / files.MANIFEST).unlink(missing_ok=True)  # it comes last, when all that it lists is there
        for name in manifest["files"]:
            aside = self.path / f".{name}.part"
            shutil.copyfile(newest / name, aside)
            os.replace(aside, self.path / name)
        files.write_file(self.path / files.MANIFEST, json.dumps(manifest, indent=1).encode())

    def _newest_first(self) -> list[Path]:
        numbered = [path for path in self.checkpoints.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)

    def _remove_run(self) -> None:
        """Remove what a run of ours has made, and nothing else; the settings go last."""
        published = files.listed(self.path) if (self.path / files.MANIFEST).is_file() else []
        of_the_model = [name for name in published if Path(name).name == name]  # a manifest may be a stranger's
        for name in (*of_the_model, files.MANIFEST, *reversed(FILES)):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
