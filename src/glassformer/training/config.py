"""The settings of a run: what a TOML file in `configs/`, flags, and the file saved with a run have in common.

    load_run_config("configs/shakespeare-char.toml", {"steps": 500})
    load_run_config("nano-sort")                      a preset: its model, and defaults for the rest
    load_run_config("shakespeare-char")               a configuration that comes with the package
    load_run_config(None, {"model": {"from": "gpt2"}})  a checkpoint's model, and defaults for the rest

A setting that is not given has the default below. `data` of the sorting task is the task itself.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from glassformer import config, models
from glassformer.checkpoints import huggingface
from glassformer.errors import ConfigError, DataError
from glassformer.models.spec import IN_WORDS, Kind, ModelConfig

CONFIGS = Path(__file__).parents[1] / "configs"  # the folder of this name at the root of the repository
MAX_THREADS = 1024
TASK_KINDS: dict[str, Kind] = {  # the kind of model that a task trains
    "language-model": "language-model",
    "sort": "language-model",
    "translation": "encoder-decoder",
    "image-classification": "image-classifier",
    "speech-recognition": "speech-recognizer",
    "word-vectors": "word-vectors",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What there is to learn from: texts and how they become tokens, pictures, recordings."""

    path: str = ""  # a text, several with commas between, or a folder that `tokenize_files` wrote; others: `tasks/`
    target_path: str = ""  # its translation line by line; empty: a line of `path` has both, with a tab between
    validation_path: str = ""  # the same for validation; empty: a part of `path` is held out, of a text its end
    validation_target_path: str = ""
    validation_fraction: float = 0.1  # how much of `path` that is
    tokenizer: str = "auto"  # "char", "bpe:N" learns N tokens, else a file or folder; auto: char; of pairs bpe:8000
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)  # of a language model's "bpe:N" tokenizer
    min_count: int = 5  # word vectors: words that come less often are left out
    subsample: float = 1e-4  # word vectors: words with a larger share of the text are partly left out; 0: none
    recordings: str = ""  # the folder of the recordings that a list names; empty: the list's own
    language: str = "en"  # what is spoken; others than English need `model.from` a multilingual Whisper
    translate: bool = False  # its transcripts are in English, whatever is spoken
    shift: int = 0  # pixels by which pictures are moved at most
    flip: bool = False  # mirror every other picture
    crop: int = 0  # pixels by which pictures are larger than what the model sees of them: a window anywhere

    def __post_init__(self) -> None:
        _within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        _within("data.min_count", self.min_count, 1, 2**53)
        _within("data.subsample", self.subsample, 0, 1)
        _within("data.shift", self.shift, 0, 2**12)
        _within("data.crop", self.crop, 0, 2**12)
        bpe_size("data.tokenizer", self.tokenizer)

    def files(self) -> dict[str, list[Path]]:
        """The files and folders that the settings name, by setting."""
        named = {
            name: getattr(self, name)
            for name in ("path", "target_path", "validation_path", "validation_target_path", "recordings")
        }
        found = {f"data.{name}": paths_of(value) for name, value in named.items() if value}
        if self.tokenizer not in ("auto", "char") and not bpe_size("data.tokenizer", self.tokenizer):
            found["data.tokenizer"] = [Path(self.tokenizer)]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW's settings (`adamw.py`)."""

    lr: float = 1e-3  # the highest one; a schedule takes it from there
    betas: tuple[float, float] = (0.9, 0.95)  # 0.95 instead of Adam's 0.999, as GPT-3 (arXiv:2005.14165, appendix B)
    eps: float = 1e-8
    weight_decay: float = 0.1  # on the weights of linear layers alone

    def __post_init__(self) -> None:
        _within("optimizer.lr", self.lr, 0, 1e6)
        _within("optimizer.eps", self.eps, 0, 1)
        _within("optimizer.weight_decay", self.weight_decay, 0, 1e6)
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
        _within("schedule.warmup_steps", self.warmup_steps, 0, 2**53)
        _within("schedule.min_lr", self.min_lr, 0, 1e6)
        _within("schedule.factor", self.factor, 0, 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on, besides the corpus itself and the machine."""

    name: str = "run"  # the run's folder, inside the folder of runs
    task: Literal[
        "auto",  # what its kind of model is for
        "language-model",
        "sort",
        "translation",
        "image-classification",
        "speech-recognition",
        "word-vectors",
    ] = "auto"
    model: Mapping[str, Any] = field(default_factory=dict)  # see `model_config`, and `initial.py` for its first weights
    data: DataConfig = field(default_factory=DataConfig)
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
            _within(name, getattr(self, name), 1, 2**53)
        for name in ("eval_interval", "eval_batches", "save_interval", "seed", "context_length"):
            _within(name, getattr(self, name), 0, 2**53)
        _within("threads", self.threads, 0, MAX_THREADS)
        _within("clip_norm", self.clip_norm, 0, float("inf"))
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}.")
        if not self.name or self.name in (".", "..") or set(self.name) & set("/\\\0"):
            raise ConfigError(f"name must be that of a folder, not {self.name!r}.")
        for name in ("preset", "architecture", "from", "embedding_init"):
            if not isinstance(self.model.get(name, ""), str):
                raise ConfigError(f"model.{name} must be a text, not {self.model[name]!r}.")
        if self.model.get("from"):
            self._take_over(Path(self.model["from"]))
        model = self.model_config()
        kind = models.spec_of(model).kind
        if self.task == "auto":
            fitting = [task for task, of in TASK_KINDS.items() if of == kind]
            if not fitting:
                raise ConfigError(f"No task trains {IN_WORDS[kind]}: the tasks are {', '.join(TASK_KINDS)}.")
            object.__setattr__(self, "task", fitting[0])
        if TASK_KINDS[self.task] != kind:
            wanted = IN_WORDS[TASK_KINDS[self.task]]
            raise ConfigError(f"task = {self.task!r} trains {wanted}, and this is {IN_WORDS[kind]}.")
        if self.context_length > model.context_length:
            raise ConfigError(
                f"context_length is {self.context_length}, but the model knows {model.context_length} positions."
            )
        resolved = config.to_mapping(model)  # flags come as text, and only the model's own fields say what they mean
        object.__setattr__(self, "model", {name: resolved.get(name, str(value)) for name, value in self.model.items()})

    def _take_over(self, folder: Path) -> None:
        """The configuration of the checkpoint that the run begins with, unless it is here, and its tokenizer."""
        if "architecture" not in self.model:
            if not folder.is_dir():
                raise ConfigError(f"model.from names the folder of a checkpoint or of a run, and there is no {folder}.")
            found = huggingface.check_directory(folder)
            theirs = {"architecture": models.spec_of(found).name, **config.to_mapping(found)}
            object.__setattr__(self, "model", theirs | dict(self.model))
        if self.data.tokenizer == "auto":
            object.__setattr__(self, "data", replace(self.data, tokenizer=str(folder)))

    @property
    def text_length(self) -> int:
        """Tokens of a text in a batch."""
        return self.context_length or self.model_config().context_length

    def model_config(self, settings: Mapping[str, Any] | None = None) -> ModelConfig:
        """A preset or an architecture with changes, and what the data decides; `model` may name larger vocabularies.

        Where weights come `from` a checkpoint, its configuration is changed by the data as by other settings.
        """
        table = dict(self.model)
        preset, architecture = table.pop("preset", None), table.pop("architecture", None)
        if bool(preset) == bool(architecture):
            raise ConfigError(
                f'model needs either preset = "…" or architecture = "…" or from = "…", not {dict(self.model)!r}.'
            )
        begun, _ = table.pop("from", ""), table.pop("embedding_init", "")
        for name, value in (settings or {}).items():
            if begun and not name.endswith("vocab_size"):
                table[name] = value
            given = table.setdefault(name, value)
            if name.endswith("vocab_size") and given < value:
                raise ConfigError(f"model.{name} is {given}, but the tokenizer has {value} tokens.")
            if not name.endswith("vocab_size") and given != value:
                raise ConfigError(f"model.{name} is {given!r}, but the data says {value!r}: leave it out.")
        return models.configure(str(preset or architecture), table, "model.")


def load_run_config(source: str | Path | None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of `read_settings`, with `overrides` on top, table by table, and defaults for the rest."""
    overrides = overrides or {}
    if source is not None:
        settings = read_settings(source)
    else:
        begun = str(overrides.get("model", {}).get("from", ""))
        settings = {"name": f"{Path(begun).resolve().name}-tuned"} if begun else {}
    return config.from_mapping(RunConfig, config.merge(settings, overrides))


def read_settings(source: str | Path) -> dict[str, Any]:
    """What a TOML or JSON file sets, a preset, or a configuration of the package (`sort` or `configs/sort.toml`)."""
    path = Path(source)
    if path.is_file() or (path.suffix in (".toml", ".json") and not (CONFIGS / path.name).is_file()):
        return {"name": path.stem, **config.read_mapping(path)}
    if str(source) in models.presets():
        task = {"task": "sort"} if str(source) == "nano-sort" else {}
        return {"name": str(source), "model": {"preset": str(source)}, **task}
    carried = CONFIGS / f"{path.stem}.toml"
    if str(source) in (carried.stem, f"configs/{carried.name}") and carried.is_file():
        return {"name": carried.stem, **config.read_mapping(carried)}
    if path.is_dir():
        raise ConfigError(
            f"{source} is a folder: --resume {source} goes on with a run, --model.from {source} begins a new one with "
            f"its weights."
        )
    names = sorted(file.stem for file in CONFIGS.glob("*.toml"))
    near = difflib.get_close_matches(str(source), [*models.presets(), *names], n=1)
    hint = f"Did you mean {near[0]}?" if near else f"The presets are {', '.join(models.presets())}."
    raise ConfigError(
        f"{source} is no file of settings (.toml, .json), no configuration of the package ({', '.join(names)}) and no "
        f"preset. {hint}"
    )


def _within(name: str, value: int | float, low: int | float, high: int | float) -> None:
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
