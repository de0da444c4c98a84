"""The settings of a run: plain records, which check their values and look at nothing else.

`load_config.py` makes them from what a TOML file in `configs/`, flags, and the file saved with a run say. What there is
to learn from is each task's own record, in its file in `tasks/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from glassformer import models
from glassformer.errors import ConfigError, DataError
from glassformer.models.spec import ModelConfig

MAX_THREADS = 1024


class DataConfig(Protocol):
    """What the settings of every task's data have in common; a setting that names files is one of `FILES`."""

    @property
    def path(self) -> str:
        """What there is to learn from; empty where the task makes it."""

    @property
    def validation_fraction(self) -> float:
        """How much of it is held out, where no other data is named for validation."""


FILES = ("path", "target_path", "validation_path", "validation_target_path", "recordings")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW's settings (`adamw.py`)."""

    lr: float = 1e-3  # the highest one; a schedule takes it from there
    betas: tuple[float, float] = (0.9, 0.95)  # 0.95 instead of Adam's 0.999, as GPT-3 (arXiv:2005.14165, appendix B)
    eps: float = 1e-8
    weight_decay: float = 0.1  # on the weights of linear layers alone

    def __post_init__(self) -> None:
        within("optimizer.lr", self.lr, 0, 1e6)
        within("optimizer.eps", self.eps, 0, 1)
        within("optimizer.weight_decay", self.weight_decay, 0, 1e6)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas must be at least 0 and below 1, not {self.betas}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate goes over the run (`schedule.py`)."""

    kind: Literal["cosine", "noam", "constant"] = "cosine"
    warmup_steps: int = 100
    min_lr: float = 0.0  # where the cosine ends, with the last step
    factor: float = 1.0  # noam's; optimizer.lr plays no part there

    def __post_init__(self) -> None:
        within("schedule.warmup_steps", self.warmup_steps, 0, 2**53)
        within("schedule.min_lr", self.min_lr, 0, 1e6)
        within("schedule.factor", self.factor, 0, 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on, besides the corpus itself and the machine."""

    name: str = "run"  # the run's folder, inside the folder of runs
    task: str = "auto"  # one of `tasks.TASKS`; "auto", which `load_config.py` resolves: what its kind of model is for
    model: Mapping[str, Any] = field(default_factory=dict)  # see `model_config`; `pretrained_init.py` has `from`
    data: DataConfig  # the task's own record
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_size: int = 12  # texts in a micro-step: what fits into memory at once
    accumulation: int = 1  # micro-steps of a step, whose tokens (images, …) weigh alike in its gradient
    context_length: int = 0  # tokens of a text, see `text_length`; 0: as many as the model has positions
    steps: int = 1000  # updates of the weights in the whole run
    clip_norm: float = 1.0  # longest gradient; 0: however long
    label_smoothing: float = 0.0
    eval_interval: int = 250  # steps between evaluations; 0: at the end alone
    eval_batches: int = 20  # batches an evaluation takes, a few steps' time; 0: all that the validation data gives
    save_interval: int = 500  # steps between checkpoints; 0: at the end alone
    keep: int = 2  # newest checkpoints that stay
    seed: int = 0  # of weights, batches and dropout
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of the arithmetic (`device.py`), not of the weights
    device: str = "auto"
    threads: int = 0  # of the CPU; 0: torch's choice. It changes the last bit of sums
    on_nonfinite: Literal["stop", "skip"] = "stop"  # what an infinite loss or gradient does: it never moves a weight

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "steps", "keep"):
            within(name, getattr(self, name), 1, 2**53)
        for name in ("eval_interval", "eval_batches", "save_interval", "seed", "context_length"):
            within(name, getattr(self, name), 0, 2**53)
        within("threads", self.threads, 0, MAX_THREADS)
        within("clip_norm", self.clip_norm, 0, float("inf"))
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}.")
        if not self.name or self.name in (".", "..") or set(self.name) & set("/\\\0"):
            raise ConfigError(f"name must be that of a folder, not {self.name!r}.")
        model = self.model_config()
        if self.context_length > model.context_length:
            raise ConfigError(
                f"context_length is {self.context_length}, but the model knows {model.context_length} positions."
            )

    @property
    def text_length(self) -> int:
        """Tokens of a text in a batch."""
        return self.context_length or self.model_config().context_length

    def model_config(self, settings: Mapping[str, Any] | None = None) -> ModelConfig:
        """The model's configuration, with what the data decides: see the function of this name."""
        return model_config(self.model, settings)


def model_config(model: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> ModelConfig:
    """A preset or an architecture with changes, and what the data decides; `model` may name larger vocabularies.

    Where weights come `from` a checkpoint, its configuration is changed by the data as by other settings.
    """
    for name in ("preset", "architecture", "from", "embedding_init"):
        if not isinstance(model.get(name, ""), str):
            raise ConfigError(f"model.{name} must be a text, not {model[name]!r}.")
    table = dict(model)
    preset, architecture = table.pop("preset", None), table.pop("architecture", None)
    if bool(preset) == bool(architecture):
        raise ConfigError(f'model needs either preset = "…" or architecture = "…" or from = "…", not {dict(model)!r}.')
    pretrained, _ = table.pop("from", ""), table.pop("embedding_init", "")
    for name, value in (settings or {}).items():
        if pretrained and not name.endswith("vocab_size"):
            table[name] = value
        own = table.setdefault(name, value)
        if name.endswith("vocab_size") and own < value:
            raise ConfigError(f"model.{name} is {own}, but the tokenizer has {value} tokens.")
        if not name.endswith("vocab_size") and own != value:
            raise ConfigError(f"model.{name} is {own!r}, but the data says {value!r}: leave it out.")
    return models.configure(str(preset or architecture), table, "model.")


def within(name: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raise unless a setting is in its range."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low:,} to {high:,}, not {value!r}.")


def paths_of(setting: str) -> list[Path]:
    """The files that a setting names, with commas between."""
    parts = [part.strip() for part in setting.split(",")]
    if not all(parts):
        raise DataError(f"Under data, {setting!r} names a file without a name: write one comma between two files.")
    return [Path(part) for part in parts]


def bpe_size(name: str, setting: str) -> int:
    """N of "bpe:N", and 0 of any other tokenizer."""
    kind, _, size = setting.partition(":")
    if kind != "bpe":
        return 0
    if not (size.isdecimal() and 256 < int(size) < 2**31):
        raise ConfigError(f'{name} = {setting!r}: "bpe:N" needs more than 256 tokens.')
    return int(size)
