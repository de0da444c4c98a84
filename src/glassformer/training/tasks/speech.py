"""Write down what is said, or its English translation: recordings with their transcripts, as Whisper learned from."""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.data.audio import Recording, seconds_of
from glassformer.data.pairs import Order, Ragged, read_transcripts
from glassformer.errors import DataError, MissingExtra
from glassformer.evaluation.eval_mode import evaluating
from glassformer.evaluation.wer import normaliser, word_errors
from glassformer.features.log_mel import FRAMES_PER_SECOND, HOP, log_mel
from glassformer.inference.transcribe import listen
from glassformer.inference.whisper_decoding import SpeechWindow
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import LANGUAGES, N_OTHERS, N_TIMES, SpeechTask, SpeechTokens
from glassformer.training.config import RunConfig, bpe_size, within
from glassformer.training.events import Figures
from glassformer.training.tasks.task import (
    Batch,
    PredictionTask,
    Say,
    check_same_data,
    evenly,
    held_out,
    learned_tokenizer,
    quietly,
)
from glassformer.training.world import ALONE, World

KEPT = 256  # recordings whose frames stay in memory: a megabyte each, of thirty seconds


@dataclass(frozen=True, slots=True)
class Recordings:
    """Files, what is said in them, and that as tokens: the opening of a transcript, the text, and its end."""

    paths: list[Path]
    texts: list[str]
    tokens: Ragged

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechData:
    """Recordings, and what is said in them."""

    path: str = ""  # a list: the name of a recording, a tab, and its transcript
    recordings: str = ""  # the folder of the recordings that a list names; empty: the list's own
    validation_path: str = ""  # a list for validation; empty: a part of `path` is held out
    validation_fraction: float = 0.1  # how much of `path` that is
    tokenizer: str = "auto"  # "bpe:N" learns N tokens of the transcripts ("auto": 1000), else a file or folder
    language: str = "en"  # what is spoken; others than English need `model.from` a multilingual Whisper
    translate: bool = False  # its transcripts are in English, whatever is spoken

    def __post_init__(self) -> None:
        within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        bpe_size("data.tokenizer", self.tokenizer)


class SpeechRecognition(PredictionTask):
    """The next token of a transcript, given the sound; times are not learned.

    A recording is read whole, so that it is no longer than the model's window.
    """

    kind: ClassVar[KindName] = "speech-recognizer"
    data_config = SpeechData

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        data = config.data
        assert isinstance(data, SpeechData)
        self.config, self.label_smoothing = config, config.label_smoothing
        self.say, self.remarked, self.language = say, set[Path](), data.language
        model: Any = config.model_config()
        self.n_frames, self.n_mels = 2 * model.audio_context_length, model.n_mels
        training, validation = split(config, data, folder)
        tokenizer = tokenizer_of(data, folder, [text for _, text in training], say)
        n_others = len(LANGUAGES) - 1 + N_OTHERS + N_TIMES
        n_texts = len(tokenizer.vocab) - len(set(tokenizer.special_tokens.values()))
        self.speech = SpeechTokens(tokenizer, config.model.get("vocab_size", n_texts + n_others))
        task: SpeechTask = "translate" if data.translate else "transcribe"
        self.opening = [*self.speech.opening(data.language, task), self.speech.no_times]
        self.settings = {"vocab_size": self.speech.vocab_size}
        self.extras = {"tokenizer": tokenizer}
        self.training = self._encoded(training, model.context_length, say)
        if len(self.training) == 0:
            seconds = self.n_frames / FRAMES_PER_SECOND
            raise DataError(
                f"{data.path} has no recording of up to {seconds:g} seconds and {model.context_length} tokens, "
                f"which is what the model takes at once: cut them into parts."
            )
        self.validation = self._encoded(validation, model.context_length, say)
        self.order = Order(self.training.tokens.lengths, config.batch_size, config.seed)
        self.frames = lru_cache(KEPT)(self._frames)
        self.counts_words = len(self.validation) > 0 and counts_words(data.language, say)

    def _encoded(self, transcripts: list[tuple[Path, str]], context_length: int, say: Say) -> Recordings:
        """Those that the model can take at once."""
        end, longest = self.speech.end_of_text, self.n_frames / FRAMES_PER_SECOND
        items = [(path, text, [*self.opening, *self._text(text), end]) for path, text in transcripts]
        fit = [item for item in items if len(item[2]) - 1 <= context_length and seconds_of(item[0]) <= longest]
        if 0 < len(fit) < len(items):
            say(
                f"{len(items) - len(fit):,} recordings are longer than {longest:g} seconds or {context_length} tokens, "
                f"and left out."
            )
        return Recordings([path for path, *_ in fit], [text for _, text, _ in fit], Ragged.of([ids for *_, ids in fit]))

    def _text(self, text: str) -> list[int]:
        """A transcript begins with a space, as part of its first word, and never with a space alone."""
        tokens, blank = self.speech.encode(f" {text}"), self.speech.encode(" ")
        return tokens[1:] if tokens[:1] == blank else tokens

    def _frames(self, path: Path) -> Float[Tensor, "M frames"]:
        """What is heard of a recording: its sound, then silence up to the end of the window."""
        window = torch.zeros(self.n_frames * HOP)
        recording = Recording(path)
        sound = torch.cat(list(recording.blocks()))[: len(window)]
        if path not in self.remarked:
            self.remarked.add(path)
            for remark in recording.remarks:
                self.say(remark)
        window[: len(sound)] = sound
        return log_mel(window, self.n_mels)

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Recordings with transcripts of similar length, each once an epoch."""
        number = world.batch_number(step, micro_step, self.config.accumulation)
        return self.of(self.training, self.order.batch(number))

    def of(self, recordings: Recordings, rows: np.ndarray) -> Batch:
        """These recordings: (frames, tokens); what a transcript opens with is given, and not asked for."""
        frames = torch.stack([self.frames(recordings.paths[row]) for row in rows.tolist()])
        tokens, valid = recordings.tokens.padded(rows, self.speech.end_of_text)
        asked = valid[:, 1:].clone()
        asked[:, : len(self.opening) - 1] = False
        targets = tokens[:, 1:].masked_fill(~asked, -100)
        return Batch(inputs=(frames, tokens[:, :-1]), targets=targets, count=int(asked.sum()))

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """Batches of validation recordings: those of an evaluation, and all."""
        batches = math.ceil(len(self.validation) / self.config.batch_size)
        return min(self.config.eval_batches or batches, batches), batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """Word error rate and loss on the validation recordings, where there are some."""
        rows = self._validation_rows()
        if not rows:
            return {}
        chosen: list[int] = np.concatenate(rows).tolist()
        work = len(rows) + (len(chosen) if self.counts_words else 0)
        batches = (self.of(self.validation, some) for some in rows)
        loss = self.mean_loss(module, batches, work, progress).nats_per_token
        if not self.counts_words:
            return {"loss": loss}
        written = []
        for number, row in enumerate(chosen, start=len(rows) + 1):
            written.append(self.write_down(module, self.validation.paths[row]))
            progress(number, work)
        said = [self.validation.texts[row] for row in chosen]
        return {"wer": word_errors(said, written, language=self.language).rate, "loss": loss}

    def _validation_rows(self) -> list[np.ndarray]:
        """Batch by batch; as many as `eval_batches` says."""
        n = self.config.batch_size
        rows = evenly(len(self.validation), self.config.eval_batches * n)
        return [rows[start : start + n] for start in range(0, len(rows), n)]

    def write_down(self, module: Any, path: Path) -> str:
        """The likeliest text, token by token."""
        with evaluating(module):
            sound = listen(module, self.frames(path).to(next(module.parameters())))
            window = SpeechWindow(module, sound, self.speech, self.opening, times=False)
            return self.speech.decode(window.sample(0.0, 1).tokens)


def counts_words(language: str, say: Say) -> bool:
    """Whether the word error rate can be measured; that is no reason to refuse a run."""
    try:
        normaliser(language)
    except MissingExtra as error:
        say(f"{error}. Without it the loss is all that is measured.")
        return False
    return True


def split(config: RunConfig, data: SpeechData, folder: Path) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """The transcripts to train on and those to validate on."""
    recordings = Path(data.recordings) if data.recordings else None
    transcripts = read_transcripts(Path(data.path), recordings, "data.recordings")
    check_same_data(folder, data.path, facts_of(transcripts))
    if data.validation_path:
        validation = read_transcripts(Path(data.validation_path), recordings, "data.recordings")
        check_same_data(folder / "validation", data.validation_path, facts_of(validation))
        return transcripts, validation
    out = held_out(len(transcripts), config)
    return list(compress(transcripts, ~out)), list(compress(transcripts, out))


def facts_of(transcripts: list[tuple[Path, str]]) -> dict[str, str | int]:
    """What tells one list of recordings from another: names, sizes and texts; hours of sound are not read for it."""
    lines = (f"{path.name}\t{path.stat().st_size}\t{text}\n" for path, text in transcripts)
    content = hashlib.sha256("".join(lines).encode())
    return {"recordings": len(transcripts), "sha256": content.hexdigest()}


def tokenizer_of(data: SpeechData, folder: Path, texts: list[str], say: Say) -> Tokenizer:
    """The one that a resumed run began with, one from a file, or one learned from the transcripts."""
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.load(folder)
    tokenizer = learned_tokenizer(data.tokenizer, texts, default=1000, special_tokens=(), say=say)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    return tokenizer
