"""The folder of a run.

runs/NAME/
  config.json model.safetensors tokenizer.json …   the model, as Hugging Face lays it out: when training has stopped
  run.json          the settings, resolved
  written.json      what of all this the run has written (`ledger.py`): all that can be overwritten
  run.lock          the number of the process that is at work here, held as long as it lives
  metrics.jsonl loss.png tensorboard/               what the subscribers of `report.py` write
  tokens/           the text as token ids, if the run encoded it
  checkpoints/step-00000500/                        the same model, and training/ with what resuming needs
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from glassformer import checkpoints, files
from glassformer.checkpoints import Checkpoint, huggingface, training_state
from glassformer.config import to_mapping
from glassformer.errors import CheckpointError, TrainingError
from glassformer.training import ledger
from glassformer.training.config import RunConfig
from glassformer.training.ledger import Ledger
from glassformer.training.load_config import load_run_config
from glassformer.training.tasks.task import Say, Task

FIXED = ("name", "task", "seed")  # settings that a resumed run cannot change
LOCK = "run.lock"
SETTINGS, METRICS, PLOT, TENSORBOARD = "run.json", "metrics.jsonl", "loss.png", "tensorboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What resuming needs beside the weights: tensors by name, and values of JSON, `step` among them."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class RunFolder:
    """Where a run keeps what it makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path)
        self.tokens = path / "tokens"
        self.checkpoints = path / "checkpoints"
        self.settings = path / SETTINGS

    @contextmanager
    def held(self, config: RunConfig, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this process alone, once every check has passed; one that stays empty goes again."""
        with ExitStack() as stack:
            try:
                self._check(config, resume, overwrite)
                if not self.path.exists():
                    self.path.mkdir(parents=True, exist_ok=True)
                    stack.callback(self._remove_if_empty)
                stack.enter_context(files.exclusive_lock(self.path / LOCK))
                self._check(config, resume, overwrite)  # another process may have come first
                for folder in (self.path, self.checkpoints):
                    files.clean_up(folder)
            except BlockingIOError:
                raise TrainingError(
                    f"A run is at work in {self.path}{self._holder()}: wait for its end, or take another name."
                ) from None
            except OSError as error:
                reason = error.strerror or error
                raise TrainingError(f"{error.filename or self.path} cannot be used for a run: {reason}.") from error
            yield

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.path.rmdir()

    def _holder(self) -> str:
        with suppress(OSError, ValueError):
            return f" (process {int((self.path / LOCK).read_text()[:20])})"
        return ""

    @contextmanager
    def begin(self, config: RunConfig, *, resume: bool) -> Iterator[Path]:
        """In the block a run is made ready, its tokens in the folder that comes; when it ends, the run has begun.

        A block that raises leaves what was there, also the run to be overwritten. Two runs are never mixed.
        """
        if resume:
            yield self.tokens
        else:
            with files.new_directory(self.tokens, overwrite=True) as tokens:
                yield tokens
                kept = {SETTINGS, ledger.FILE}  # until others take their place
                before = [name for name in self.ledger.names() - kept if not name.startswith("tokens/")]
                self.ledger.remove(*before)
                prepared = [path.relative_to(tokens) for path in tokens.rglob("*") if path.is_file()]
                self.ledger.add(SETTINGS, METRICS, PLOT, *(f"tokens/{name}" for name in (*prepared, files.MANIFEST)))
            if not prepared:
                self.ledger.remove("tokens")
        settings = (json.dumps(to_mapping(config), indent=1) + "\n").encode()
        files.write_file(self.settings, settings, overwrite=True)

    def before(self) -> RunConfig:
        """The settings that the run had so far."""
        return load_run_config(self.settings)

    def _check(self, config: RunConfig, resume: bool, overwrite: bool) -> None:
        """Raise unless the run can go on here, or begin without taking anything from anybody."""
        if resume and os.path.lexists(self.path / LOCK) and not self._lock_is_ours():
            raise TrainingError(f"{self.path / LOCK} is not of the run that is here: move it away.")
        if resume:
            self._check_same_run(config)
            return
        if self.settings.is_file() and self.ledger.names() and not overwrite:
            raise TrainingError(
                f"{self.path} holds a run already: go on with it (--resume {self.path}), replace it "
                f"(--overwrite), or take another name."
            )
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path} is a file; take another name for the run.")
        strangers = self._foreign_paths()
        if strangers and not self.ledger.names():
            raise TrainingError(f"{self.path} holds other files ({strangers[0].name}); take another name for the run.")
        names = {SETTINGS, METRICS, PLOT, TENSORBOARD, "tokens", "checkpoints"}  # which the run is going to use
        in_the_way = [path for path in strangers if path.name in names] + self.ledger.strangers("tokens")
        links = [link for name in sorted({*self.ledger.names(), *names}) if (link := self.ledger.link(name))]
        for path in (*in_the_way, *links):
            raise TrainingError(f"{path} is not of the run that was here: move it away, or take another name.")

    def _foreign_paths(self) -> list[Path]:
        """What the folder holds that no run has written."""
        ours = [*files.leftovers(self.path), *([self.path / LOCK] if self._lock_is_ours() else [])]
        return [path for path in self.ledger.strangers() if path not in ours]

    def _lock_is_ours(self) -> bool:
        """Whether the lock is a run's: it holds the number of a process, or nothing yet."""
        lock = self.path / LOCK
        if lock.is_symlink() or not lock.is_file() or lock.stat().st_size > 20:
            return False
        content = lock.read_bytes()
        return content.strip().isdigit() or not content

    def _check_same_run(self, config: RunConfig) -> None:
        if not self.settings.is_file():
            raise TrainingError(f"{self.path} holds no run to resume: it has no {self.settings.name}.")
        before = self.before()
        for name in FIXED:
            old, new = getattr(before, name), getattr(config, name)
            if old != new:
                raise TrainingError(
                    f"The run in {self.path} began with {name} = {old!r}, and resuming cannot make it {new!r}: "
                    f"leave out --{name}, or begin another run."
                )

    def save(self, state: "RunState", module: nn.Module, task: Task, *, keep: int) -> Path:
        """Write a checkpoint whole or not at all, then remove all but the `keep` newest ones."""
        name = f"checkpoints/step-{state.values['step']:08}"
        with files.new_directory(self.path / name, overwrite=True) as folder:
            huggingface.write_directory(folder, module, native=True, **task.extras)
            task.write_extras(folder, module)
            training_state.write_state(folder, state.tensors, state.values)
            written = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
            self.ledger.add(*(f"{name}/{file}" for file in (*written, files.MANIFEST)))
        self.ledger.remove(*(f"checkpoints/{old.name}" for old in self._newest_first()[keep:]))
        return self.path / name

    def newest(self, say: Say) -> "tuple[Checkpoint, RunState] | None":
        """The model with what is beside it, and the state, of the newest checkpoint that is whole; None before it."""
        broken: dict[Path, CheckpointError] = {}
        for path in self._newest_first():
            try:
                checkpoint = checkpoints.load(path)
                tensors, values = training_state.read_state(path)
            except CheckpointError as error:
                broken[path] = error
            else:
                for spoilt, reason in broken.items():  # the run must not take it for its newest later
                    say(f"A checkpoint is broken, and the run goes on from {path.name}: {reason}")
                    self._put_aside(spoilt)
                return checkpoint, RunState(tensors=tensors, values=values)
        if broken:
            raise next(iter(broken.values()))
        return None

    def _put_aside(self, spoilt: Path) -> None:
        """Keep a broken checkpoint for whoever wants to look at it, under a name that no run goes on from."""
        names = (f"broken-{spoilt.name}{'-' * bool(n)}{n or ''}" for n in count())
        free = next(name for name in names if not os.path.lexists(self.checkpoints / name))
        self.ledger.rename(f"checkpoints/{spoilt.name}", f"checkpoints/{free}")

    def publish(self) -> None:
        """Put the model of the newest checkpoint at the top of the run's folder, without the state of training."""
        newest = self._newest_first()[0]
        names = [name for name in files.listed(newest) if not name.startswith(f"{training_state.FOLDER}/")]
        for path in self._foreign_paths():
            if path.name in (files.MANIFEST, *names):
                raise TrainingError(
                    f"{path} is not of this run, and the model belongs there: move it away, and put the model there "
                    f"with --resume {self.path}. Until then it is in {newest}."
                )
        self.ledger.add(files.MANIFEST, *names)
        files.copy_into(newest, names, self.path)

    def _newest_first(self) -> list[Path]:
        numbered = [path for path in self.checkpoints.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)
