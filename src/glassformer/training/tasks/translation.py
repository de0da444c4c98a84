"""Translate: read a text, predict its translation token by token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from glassformer import checkpoints
from glassformer.checkpoints import safetensors
from glassformer.data.pairs import Order, Ragged, read_pairs
from glassformer.errors import ConfigError, DataError
from glassformer.inference.translate import around_source, target_begins
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.tokenizers import Tokenizer
from glassformer.training.config import RunConfig, bpe_size, within
from glassformer.training.events import Figures
from glassformer.training.tasks.task import (
    Batch,
    PredictionTask,
    Say,
    evenly,
    held_out,
    learned_tokenizer,
    quietly,
)
from glassformer.training.world import ALONE, World

PAD, START, END = "<pad>", "<s>", "</s>"  # special tokens of the tokenizers that are learned here
PREPARED = "pairs.safetensors"
HELD_OUT = "validation.tsv"  # what was held out, for `glassformer evaluate`
TextPair = tuple[str, str]
Pairs = tuple[Ragged, Ragged]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairData:
    """Texts with their translations, line by line."""

    path: str = ""  # the sources
    target_path: str = ""  # their translations; empty: a line of `path` has both, with a tab between
    validation_path: str = ""  # the same for validation; empty: a part of `path` is held out
    validation_target_path: str = ""
    validation_fraction: float = 0.1  # how much of `path` that is
    tokenizer: str = "auto"  # of both languages: "bpe:N" learns N tokens ("auto": 8000), else a file or folder

    def __post_init__(self) -> None:
        within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        bpe_size("data.tokenizer", self.tokenizer)


class Translation(PredictionTask):
    """The next token of a target, given its source.

    A source is its tokens and the one that ends it; a target has the one that begins it, too. Which these are, a
    checkpoint says whose tokens are kept, as T5's and BART's are; a tokenizer that is learned has its own.
    """

    kind: ClassVar[KindName] = "encoder-decoder"
    data_config = PairData

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        self.config, self.label_smoothing = config, config.label_smoothing
        model: Any = config.model_config()
        prepared = Prepared.load(folder) if (folder / PREPARED).is_file() else Prepared.make(config, folder, say)
        tokenizer = prepared.tokenizer
        if keeps_tokens(config):
            self.start_id, self.end_id, self.pad_id = model.start_id, model.eos_id, model.pad_id
            self.settings = {}
        else:
            self.start_id, self.end_id, self.pad_id = (special(tokenizer, name) for name in (START, END, PAD))
            self.settings = {
                "vocab_size": tokenizer.vocab_size,
                "start_id": self.start_id,
                "eos_id": self.end_id,
                "pad_id": self.pad_id,
            }
            if getattr(model, "source_vocab_size", None) is not None:  # where None, both texts share one table
                self.settings["source_vocab_size"] = tokenizer.vocab_size
            if hasattr(model, "first_id"):  # every token of a target is learned
                self.settings["first_id"] = None
        self.extras = {"tokenizer": tokenizer}
        self.training = shortened(prepared.training, model.context_length, say)
        self.validation = shortened(prepared.validation, model.context_length, lambda sentence: None)
        self.order = Order(lengths(self.training), config.batch_size, config.seed)

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Pairs of similar length, each pair once an epoch."""
        number = world.batch_number(step, micro_step, self.config.accumulation)
        return self.of(self.training, self.order.batch(number))

    def of(self, pairs: Pairs, rows: np.ndarray) -> Batch:
        """These pairs: (source, target, where the source is no padding)."""
        source, valid = pairs[0].padded(rows, self.pad_id)
        targets, asked = pairs[1].padded(rows, self.pad_id)
        tokens = torch.cat([torch.full_like(targets[:, :1], self.start_id), targets[:, :-1]], dim=1)
        return Batch(inputs=(source, tokens, valid), targets=targets.masked_fill(~asked, -100), count=int(asked.sum()))

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """Batches of pairs of similar length."""
        batches = len(list(Order(lengths(self.validation), self.config.batch_size, 0).in_turn()))
        return min(self.config.eval_batches or batches, batches), batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Loss and perplexity on the validation pairs, where there are some: of a token, all tokens counted alike."""
        if not len(self.validation[0]):
            return {}
        in_turn = list(Order(lengths(self.validation), self.config.batch_size, 0).in_turn())
        chosen = [in_turn[number] for number in evenly(len(in_turn), self.config.eval_batches)]
        batches = (self.of(self.validation, rows) for rows in chosen)
        loss = self.mean_loss(module, batches, len(chosen), progress)
        return {"loss": loss.nats_per_token, "perplexity": loss.perplexity}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The pairs as tokens, each text with the token that ends it, and the tokenizer of both languages."""

    training: Pairs
    validation: Pairs
    tokenizer: Tokenizer

    @classmethod
    def make(cls, config: RunConfig, folder: Path, say: Say) -> "Prepared":
        """From the files that the settings name; kept in `folder`, with which a resumed run goes on."""
        data = config.data
        assert isinstance(data, PairData)
        training = read(data.path, data.target_path)
        if data.validation_path:
            validation = read(data.validation_path, data.validation_target_path)
        else:
            training, validation = hold_out(training, config)
            folder.mkdir(parents=True, exist_ok=True)
            lines = ("\t".join(text.replace("\t", " ") for text in pair) + "\n" for pair in validation)
            (folder / HELD_OUT).write_text("".join(lines), "utf-8")
        texts = (text for pair in training for text in pair)
        specials = (PAD, START, END)
        tokenizer = learned_tokenizer(data.tokenizer, texts, default=8000, special_tokens=specials, say=say)
        say(f"Encoding {len(training):,} pairs of texts.")
        begin, end = target_ends(config, tokenizer)
        encoded = [encode(pairs, tokenizer, begin, end) for pairs in (training, validation)]
        prepared = cls(encoded[0], encoded[1], tokenizer)
        prepared.save(folder)
        return prepared

    def save(self, folder: Path) -> None:
        """Write the tokenizer and both parts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder)
        sides = {
            f"{part}.{side}": ragged
            for part, pairs in (("training", self.training), ("validation", self.validation))
            for side, ragged in zip(("source", "target"), pairs, strict=True)
        }
        tokens = {f"{name}.tokens": torch.from_numpy(ragged.tokens) for name, ragged in sides.items()}
        ends = {f"{name}.ends": torch.from_numpy(ragged.ends) for name, ragged in sides.items()}
        safetensors.write(folder / PREPARED, tokens | ends)

    @classmethod
    def load(cls, folder: Path) -> "Prepared":
        """Read what `save` wrote."""
        arrays = {name: array.numpy() for name, array in safetensors.read(folder / PREPARED).items()}

        def pairs(part: str) -> Pairs:
            names = f"{part}.source", f"{part}.target"
            source, target = (Ragged(arrays[f"{name}.tokens"], arrays[f"{name}.ends"]) for name in names)
            return source, target

        return cls(pairs("training"), pairs("validation"), Tokenizer.load(folder))


def hold_out(pairs: list[TextPair], config: RunConfig) -> tuple[list[TextPair], list[TextPair]]:
    """The pairs to train on, and those held out: of a text that comes with several translations all or none."""
    texts = list(dict.fromkeys(source for source, _ in pairs))
    out = set(compress(texts, held_out(len(texts), config)))
    return [pair for pair in pairs if pair[0] not in out], [pair for pair in pairs if pair[0] in out]


def read(path: str, target_path: str) -> list[TextPair]:
    """The pairs of the files that two settings name."""
    return read_pairs(Path(path), Path(target_path) if target_path else None)


def special(tokenizer: Tokenizer, name: str) -> int:
    """The id of a special token; a tokenizer without it is refused."""
    if name not in tokenizer.special_tokens:
        raise ConfigError(
            f"Translating needs the special tokens {PAD}, {START} and {END}, and the tokenizer has no {name}: "
            f'let one be learned (data.tokenizer = "bpe:8000").'
        )
    return tokenizer.special_tokens[name]


def keeps_tokens(config: RunConfig) -> bool:
    """Whether texts are read by the tokenizer of the checkpoint that the run begins with."""
    return bool(config.model.get("from")) and getattr(config.data, "tokenizer", "") == config.model["from"]


def target_ends(config: RunConfig, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """The tokens that every target begins with, behind the one that is not predicted, and the one that ends it."""
    if not keeps_tokens(config):
        return [], special(tokenizer, END)
    model: Any = config.model_config()
    if checkpoints.read(Path(config.model["from"]))[0].source_tokenizer is not None:
        raise ConfigError(
            f"{config.model['from']} reads its sources by a tokenizer of their own, and both languages are trained "
            'with one: let it be learned (data.tokenizer = "bpe:8000").'
        )
    if tokenizer.vocab_size > model.vocab_size:
        raise ConfigError(
            f"{config.model['from']} has a tokenizer of {tokenizer.vocab_size:,} tokens for a model of "
            f'{model.vocab_size:,}: let another one be learned (data.tokenizer = "bpe:8000").'
        )
    return target_begins(model)[1:], model.eos_id


def encode(pairs: list[TextPair], tokenizer: Tokenizer, begin: Sequence[int], end: int) -> Pairs:
    """Both sides as tokens; what stands for a special token in a text is text."""

    def side(texts: Iterable[str], before: Iterable[int], behind: Iterable[int]) -> Ragged:
        return Ragged.of([*before, *tokenizer.encode(text, allowed_special="none"), *behind] for text in texts)

    sources = side((source for source, _ in pairs), *around_source(tokenizer, end))
    return sources, side((target for _, target in pairs), begin, (end,))


def lengths(pairs: Pairs) -> np.ndarray:
    """What pairs are put in order by: the target's length, then the source's."""
    source, target = (side.lengths for side in pairs)
    in_order: np.ndarray = target * (int(source.max(initial=0)) + 1) + source
    return in_order


def shortened(pairs: Pairs, context_length: int, say: Say) -> Pairs:
    """Without those that the model cannot read in one piece."""
    source, target = pairs
    short = (source.lengths <= context_length) & (target.lengths <= context_length)
    if short.all():
        return pairs
    if not short.any():
        raise DataError(f"No pair of texts fits into the model's context of {context_length} tokens.")
    say(f"{int((~short).sum()):,} pairs are longer than the model's context of {context_length} tokens, and left out.")
    return source.where(short), target.where(short)
