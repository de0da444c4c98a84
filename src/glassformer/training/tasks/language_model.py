"""Predict the next token of a text."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from glassformer import files
from glassformer.data import memmap
from glassformer.data.encoding import encode_files
from glassformer.data.text import size_of
from glassformer.errors import ConfigError
from glassformer.evaluation.perplexity import begun, loss
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.tokenizers import CharTokenizer, Tokenizer
from glassformer.tokenizers.corpus import FileSpan
from glassformer.tokenizers.span_reader import SpanReader
from glassformer.training.config import RunConfig, bpe_size, paths_of, within
from glassformer.training.events import Figures
from glassformer.training.tasks.task import Batch, PredictionTask, Say, check_same_data, quietly
from glassformer.training.world import ALONE, World

SECONDS_BETWEEN_REMARKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TextData:
    """Texts, and how they become tokens."""

    path: str = ""  # a text, several with commas between, or a folder that `encode_files` wrote
    validation_path: str = ""  # the same for validation; empty: the end of `path` is held out
    field: str = "text"  # what is read in files of documents: .jsonl and .parquet
    validation_fraction: float = 0.1  # how much of `path` that is
    tokenizer: str = "auto"  # "char" (as "auto"), "bpe:N" learns N tokens, else a file or folder
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)  # of a "bpe:N" tokenizer
    sink_token: str = ""  # such as "<|sink|>": every span that is read begins with it, and every text later; "": none

    def __post_init__(self) -> None:
        within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        bpe_size("data.tokenizer", self.tokenizer)


class LanguageModel(PredictionTask):
    """The next token at every position of spans of a text."""

    kind: ClassVar[KindName] = "language-model"
    data_config = TextData

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.text_length = config, config.text_length
        self.label_smoothing = config.label_smoothing
        data = config.data
        assert isinstance(data, TextData)
        whole = "train" if data.validation_path else "text"  # of which the end is held out
        text, tokenizer = _tokens(data.path, data, folder / whole, None, say)
        if data.validation_path:
            self.training = text.tokens
            self.validation = _tokens(data.validation_path, data, folder / "validation", tokenizer, say)[0].tokens
        else:
            self.training, self.validation = text.split(data.validation_fraction)
        self.settings = {"vocab_size": tokenizer.vocab_size}
        self.extras = {"tokenizer": tokenizer}
        self.begin = _sink(data.sink_token, tokenizer, data.path)
        self.batch(0, 0)  # a text that is too short is refused here, before anything is written

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Spans from anywhere in the training text.

        With a sink token (Xiao et al. 2023, *StreamingLLM*, §3.3, arXiv:2309.17453) each is read behind it. The token
        is never predicted; what it becomes is where heads put the weight that has nowhere else to go.
        """
        config = self.config
        tokens, targets = memmap.random_batch(
            self.training,
            config.batch_size,
            self.text_length,
            seed=config.seed,
            step=step,
            micro_step=world.micro_batch(micro_step),
            device=torch.device("cpu"),
        )
        if self.begin:
            tokens, targets = begun(tokens, self.begin)[:, : self.text_length], tokens
        return Batch(inputs=(tokens,), targets=targets, count=tokens.numel())

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """Batches of spans of the validation text."""
        length = max(self.text_length - len(self.begin), 1)
        batches = max(math.ceil((len(self.validation) - 1) / (self.config.batch_size * length)), 0)
        return min(self.config.eval_batches or batches, batches), batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Loss and perplexity on the validation text, where there is one."""
        if len(self.validation) < 2:
            return {}
        config = self.config
        mean = loss(
            module,
            self.validation,
            context_length=self.text_length,
            batch_size=config.batch_size,
            batches=config.eval_batches,
            progress=progress,
            begin=self.begin,
        )
        return {"loss": mean.nats_per_token, "perplexity": mean.perplexity}


def _tokens(
    path: str, data: TextData, folder: Path, tokenizer: Tokenizer | None, say: Say
) -> tuple[memmap.TokenFile, Tokenizer]:
    """The tokens of a text: as they were prepared, or prepared now, into `folder`."""
    paths = paths_of(path)
    if len(paths) == 1 and (paths[0] / "tokens.json").is_file():
        prepared = memmap.open_tokens(paths[0], tokenizer=tokenizer)
        check_same_data(
            folder, path, {"tokens": prepared.info.count, "sha256": files.sha256(paths[0] / files.MANIFEST)}
        )
        return prepared, tokenizer or Tokenizer.load(paths[0])
    if (folder / "tokens.json").is_file():  # a resumed run goes on with the text that it began with
        return memmap.open_tokens(folder), Tokenizer.load(folder)
    if tokenizer is None:
        tokenizer = _tokenizer(data, paths, say)
        if data.sink_token:
            tokenizer.begin_with(data.sink_token)
    percent = _Percent(f"Encoding {path}", say)
    encode_files(paths, tokenizer, folder, percent, field=data.field)
    return memmap.open_tokens(folder, verify=False), tokenizer


def _tokenizer(data: TextData, paths: list[Path], say: Say) -> Tokenizer:
    if data.tokenizer in ("auto", "char"):
        characters = CharTokenizer.from_text(_characters(paths, data.field))
        if data.tokenizer == "auto":
            say(
                f"data.tokenizer names nothing, so that each of the {characters.vocab_size:,} different characters is "
                f"a token: bpe:8000 would learn longer ones, a file or folder bring others, such as gpt2.tiktoken."
            )
        return characters
    if size := bpe_size("data.tokenizer", data.tokenizer):
        say(f"Learning {size:,} tokens of byte-level BPE from {data.path}.")
        special = dict.fromkeys((*data.special_tokens, data.sink_token))
        return Tokenizer.train(paths, size, list(filter(None, special)), field=data.field)
    return Tokenizer.load(data.tokenizer)


def _sink(token: str, tokenizer: Tokenizer, path: str) -> tuple[int, ...]:
    """The sink token that spans begin with, if there is one; whoever encoded the text must have known it."""
    if token and tokenizer.begin_ids != (tokenizer.special_tokens.get(token),):
        raise ConfigError(f"{token!r} does not begin the texts of the tokenizer of {path}.", setting="data.sink_token")
    return tokenizer.begin_ids if token else ()


def _characters(paths: list[Path], field: str) -> Iterator[str]:
    for path in paths:
        for text in SpanReader(FileSpan(path, 0, size_of(path), field)).texts():
            yield from text


class _Percent:
    """Says how far something has come, at most every few seconds."""

    def __init__(self, what: str, say: Say) -> None:
        self.what, self.say, self.last = what, say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last > SECONDS_BETWEEN_REMARKS:
            self.last = time.monotonic()
            self.say(f"{self.what}: {100 * done // total} %.")
