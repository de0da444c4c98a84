"""What a run trains on: where its batches come from, and how it is judged. A task is a class and a line in `TASKS`."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from glassformer.data import memmap, sort
from glassformer.data.download import CORPORA
from glassformer.errors import DataError
from glassformer.evaluation.perplexity import loss
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.tokenizers import CharTokenizer, Tokenizer
from glassformer.training.config import DataConfig, RunConfig
from glassformer.training.events import Figures

Batch = tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]
Say = Callable[[str], None]

SECONDS_BETWEEN_REMARKS = 5


@runtime_checkable
class Task(Protocol):
    """What the loop asks of a task; its `tokenizer` goes into the checkpoint, and sets the model's vocabulary."""

    tokenizer: Tokenizer

    def batch(self, step: int, micro_step: int, device: torch.device) -> Batch:
        """Tokens to read and targets to predict, −100 where there is none: a pure function of step and micro-step."""

    def evaluate(self, module: nn.Module) -> Figures:
        """Figures by name, the one to watch first."""


class LanguageModel:
    """Predict the next token of a text."""

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.text_length = config, config.text_length
        data = config.data
        whole = "train" if data.validation_path else "text"  # of which the end is held out
        text, self.tokenizer = _tokens(data.path, data, folder / whole, None, say)
        if data.validation_path:
            self.training = text.tokens
            self.validation = _tokens(data.validation_path, data, folder / "validation", self.tokenizer, say)[0].tokens
        else:
            self.training, self.validation = text.split(data.validation_fraction)
        self.batch(0, 0, torch.device("cpu"))  # a text that is too short is refused here, before anything is written

    def batch(self, step: int, micro_step: int, device: torch.device) -> Batch:
        """Stretches from anywhere in the training text."""
        config = self.config
        return memmap.random_batch(
            self.training,
            config.batch_size,
            self.text_length,
            seed=config.seed,
            step=step,
            micro_step=micro_step,
            device=device,
        )

    def evaluate(self, module: nn.Module) -> Figures:
        """Loss and perplexity on the validation text, where there is one."""
        if len(self.validation) < 2:
            return {}
        config = self.config
        found = loss(
            module,
            self.validation,
            context_length=self.text_length,
            batch_size=config.batch_size,
            batches=config.eval_batches,
        )
        return {"loss": found.nats_per_token, "perplexity": found.perplexity}


class Sorting:
    """Sort six letters (`data/sort.py`): train on three quarters of the inputs, check all of them."""

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config = config
        self.tokenizer: Tokenizer = CharTokenizer(sort.LETTERS)
        self.inputs, _ = sort.split()

    def batch(self, step: int, micro_step: int, device: torch.device) -> Batch:
        """Inputs drawn with replacement."""
        config = self.config
        tokens, targets = sort.random_batch(
            self.inputs, config.batch_size, seed=config.seed, step=step, micro_step=micro_step
        )
        return tokens.to(device), targets.to(device)

    def evaluate(self, module: nn.Module) -> Figures:
        """Right answers over all inputs, and over those held out."""
        return asdict(sort_accuracy(module))


def check_texts(config: RunConfig, run: Path) -> None:
    """Raise unless the texts and the tokenizer that the settings name are there, and outside the run's own folder."""
    data = config.data
    if config.task != "language-model":
        return
    if not data.path:
        raise DataError("A language model needs a text: set data.path (--data.path FILE).")
    named = paths_of(data.path) + (paths_of(data.validation_path) if data.validation_path else [])
    if data.tokenizer != "char" and not data.tokenizer.startswith("bpe:"):
        named.append(Path(data.tokenizer))
    for path in named:
        if not path.exists():
            hint = f" Fetch it:  glassformer data get {path.stem} --out {path.parent}" * (path.stem in CORPORA)
            raise DataError(f"There is no file {path}, which the settings name under data.{hint}")
        if path.resolve().is_relative_to(run.resolve()):
            raise DataError(f"{path} is in the folder that the run itself gets, {run}: move it elsewhere first.")


def paths_of(setting: str) -> list[Path]:
    """The files that `data.path` or `data.validation_path` names, with commas between."""
    parts = [part.strip() for part in setting.split(",")]
    if not all(parts):
        raise DataError(f"Under data, {setting!r} names a file without a name: write one comma between two files.")
    return [Path(part) for part in parts]


TASKS: dict[str, Callable[[RunConfig, Path, Say], Task]] = {"language-model": LanguageModel, "sort": Sorting}


def _tokens(
    path: str, data: DataConfig, folder: Path, tokenizer: Tokenizer | None, say: Say
) -> tuple[memmap.TokenFile, Tokenizer]:
    """The tokens of a text: as they were prepared, or prepared now, into `folder`."""
    paths = paths_of(path)
    if len(paths) == 1 and (paths[0] / "tokens.json").is_file():
        return memmap.open_tokens(paths[0], tokenizer=tokenizer), tokenizer or Tokenizer.load(paths[0])
    if (folder / "tokens.json").is_file():  # a resumed run goes on with the text that it began with
        return memmap.open_tokens(folder), Tokenizer.load(folder)
    if tokenizer is None:
        tokenizer = _tokenizer(data, paths, say)
    percent = _Percent(f"Encoding {path}", say)
    return memmap.tokenize_files(paths, tokenizer, folder, percent), tokenizer


def _tokenizer(data: DataConfig, paths: list[Path], say: Say) -> Tokenizer:
    kind, _, size = data.tokenizer.partition(":")
    if data.tokenizer == "char":
        return CharTokenizer.from_text(chunk for path in paths for chunk in memmap.read_text(path))
    if kind == "bpe":
        say(f"Learning {int(size):,} tokens of byte-level BPE from {data.path}.")
        return Tokenizer.train(paths, int(size), data.special_tokens)
    return Tokenizer.load(data.tokenizer)


class _Percent:
    """Says how far something has come, at most every few seconds."""

    def __init__(self, what: str, say: Say) -> None:
        self.what, self.say, self.last = what, say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last > SECONDS_BETWEEN_REMARKS:
            self.last = time.monotonic()
            self.say(f"{self.what}: {100 * done // total} %.")
