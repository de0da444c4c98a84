"""What a model reads in one pass, made of what people have: a text, token ids, a picture, a recording.

The one place for that: the viewer, `trace` and `explain` ask here. Next to read: `around.py`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.data.audio import Recording
from glassformer.data.images import open_image
from glassformer.errors import GenerationError, GlassformerError
from glassformer.features.image_processor import ImageProcessor
from glassformer.features.log_mel import HOP, SAMPLE_RATE, hann_window, log_mel, mel_filters
from glassformer.inference.around import FromSound, around
from glassformer.inference.classify import check_processor, processor_for
from glassformer.inference.logits import without
from glassformer.inference.request import check_prompts, check_source
from glassformer.inference.transcribe import language_of, listen
from glassformer.models.spec import IN_WORDS, TWO_HALVES, Kind
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import N_OTHERS, N_TIMES, SpeechTokens

READS_TEXT: tuple[Kind, ...] = ("language-model", "encoder-decoder", "encoder", "word-vectors")
WRITES_ON: tuple[Kind, ...] = ("language-model", *TWO_HALVES)  # token by token
FIRST_TEXTS = ("The cat sat on the mat because it was", "The cat sat", "CBABBC", "the cat sat", "cat")
N_CANDIDATES = 16  # words that a word is compared with
TONE_HZ = (200.0, 2000.0)  # from where to where a made-up sound rises, in a second


@runtime_checkable
class Model(Protocol):
    """What is asked of a model here; `api.Model` has it."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def whole(self) -> nn.Module: ...

    @property
    def config(self) -> Any: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def source_tokenizer(self) -> Tokenizer | None: ...

    @property
    def processor(self) -> Any: ...

    @property
    def suppressed(self) -> frozenset[int]: ...

    @property
    def note(self) -> str: ...

    def encode(self, prompt: str) -> list[int]:
        """The prompt's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a model reads in one pass; what of it there is follows from the model's kind.

    `tokens` are those of the text, which an encoder-decoder and a recognizer of speech write on token by token.
    """

    tokens: tuple[int, ...] = ()
    source: tuple[int, ...] = ()  # the text that is translated, or the words that a word is compared with
    image: Float[Tensor, "1 K H W"] | None = None
    sound: Float[Tensor, " N"] | None = None  # at 16 kHz
    label: str = ""  # the name of the file
    note: str = ""  # what was made up, where something was not given

    def and_then(self, token: int) -> "Inputs":
        """The same with one more token."""
        return replace(self, tokens=(*self.tokens, token))


def read(model: Model, given: str | Path | Sequence[int]) -> Inputs:
    """What somebody gave: token ids, a text, or of a model that sees or hears the path of a file."""
    if not isinstance(given, str | Path):
        return of_tokens(model, given)
    match model.kind:
        case "image-classifier":
            return of_image(model, Path(given))
        case "speech-recognizer":
            return of_sound(model, Path(given))
        case _:
            return of_text(model, str(given))


def begun(model: Model, inputs: Inputs) -> Inputs:
    """With the first token that the model writes itself, where there is none yet beside the one that begins a text.

    Of a single token the heads side by side are the heads: there would be nothing to see of how they are joined.
    """
    if model.kind not in TWO_HALVES or len(inputs.tokens) > 1 or model.config.context_length == 1:
        return inputs
    module, given = one_pass(model, inputs)
    n_tokens = None if model.tokenizer is None else model.tokenizer.vocab_size
    with torch.no_grad():
        logits = without(module(*given)[:, -1, :n_tokens], model.suppressed)
    return inputs.and_then(int(logits.argmax()))


def one_pass(model: Model, inputs: Inputs) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """What is to be called, and with what. Raises where the model cannot read it."""
    config = model.config
    if inputs.image is not None:
        return model.whole, (inputs.image,)
    check_prompts([inputs.tokens], config.vocab_size)
    for ids in (inputs.tokens, inputs.source if model.kind == "encoder-decoder" else ()):
        if len(ids) > config.context_length:
            raise GenerationError(f"{len(ids)} tokens do not fit this model's context of {config.context_length}.")
    tokens, source = (torch.tensor([ids], dtype=torch.long) for ids in (inputs.tokens, inputs.source))
    if inputs.sound is not None:
        mel_filters(config.n_mels), hann_window()  # tables that are made once: they are no part of the pass
        return around(FromSound, model.whole), (inputs.sound, tokens)
    match model.kind:
        case "encoder-decoder":
            check_source(source, config)
            return model.whole, (source, tokens)
        case "word-vectors":
            return model.whole, (tokens, source)
        case _:
            return model.whole, (tokens,)


# ---- texts


def of_text(model: Model, text: str) -> Inputs:
    """The text that is continued, filled in, compared, or translated."""
    return _of_ids(model, encode(model, text))


def of_tokens(model: Model, ids: Sequence[int]) -> Inputs:
    """The same, of a text's ids."""
    _needs_text(model)
    return _of_ids(model, ids)


def encode(model: Model, text: str) -> list[int]:
    """The tokens of a text, with those that this kind of model has around it."""
    _needs_text(model)
    tokenizer = text_tokenizer(model)
    if model.kind == "language-model" or tokenizer is None:  # which says why there is none
        return model.encode(text)
    ids = tokenizer.encode(text)
    if not ids:
        raise GenerationError("The input is empty: give the model a text to read.")
    begin, end = tokenizer.bos_id, tokenizer.eos_id
    match model.kind:
        case "encoder":
            return [id for id in (begin, *ids, end) if id is not None]
        case "encoder-decoder":
            shared = model.source_tokenizer is None
            end = model.config.eos_id if end is None and shared else end
            return ids if end is None else [*ids, end]
        case _:
            return ids


def text_tokenizer(model: Model) -> Tokenizer | None:
    """The tokenizer of what people type: of an encoder-decoder, that of the source."""
    return model.source_tokenizer or model.tokenizer


def _needs_text(model: Model) -> None:
    if model.kind not in READS_TEXT:
        files = {"image-classifier": "a picture", "speech-recognizer": "a recording"}
        raise GenerationError(f"The model is {IN_WORDS[model.kind]}: give it the file of {files[model.kind]}, no text.")


def _of_ids(model: Model, ids: Sequence[int]) -> Inputs:
    match model.kind:
        case "encoder-decoder":
            return Inputs(source=tuple(ids), tokens=(model.config.start_id,))
        case "word-vectors":
            check_prompts([ids], model.config.vocab_size)
            return Inputs(tokens=tuple(ids), source=_near(model.module, ids))
        case _:
            return Inputs(tokens=tuple(ids))


@torch.no_grad()
def _near(module: Any, ids: Sequence[int]) -> tuple[int, ...]:
    """The words that most likely stand around these."""
    h = module.token_embedding.weight[list(ids)].mean(0)
    scores = module.context_embedding.weight @ h
    return tuple(scores.topk(min(N_CANDIDATES, len(scores))).indices.tolist())


# ---- pictures and recordings


def of_image(model: Model, path: Path) -> Inputs:
    """A picture from a file that Pillow reads, brought to the size that the model was trained on."""
    image = check_processor(_processor(model), model.config)([open_image(path)])
    guessed = "No preprocessor_config.json says how its pictures are scaled: this one is, to −1 … 1"
    return Inputs(image=image, label=path.name, note="" if model.processor else guessed)


def _processor(model: Model) -> ImageProcessor:
    if isinstance(model.processor, ImageProcessor):
        return model.processor
    return processor_for(model.config)


def of_sound(model: Model, path: Path) -> Inputs:
    """The first window of a recording, thirty seconds for a Whisper; a shorter one goes on in silence."""
    n_samples = 2 * HOP * model.config.audio_context_length
    recording, blocks = Recording(path), list[Tensor]()
    for block in recording.blocks():
        blocks.append(block)
        if sum(map(len, blocks)) >= n_samples:
            break
    heard = torch.cat(blocks)[:n_samples]
    sound = torch.cat([heard, torch.zeros(n_samples - len(heard))])
    return Inputs(sound=sound, tokens=_opening(model, sound), label=path.name, note=" ".join(recording.remarks))


def _opening(model: Model, sound: Tensor) -> tuple[int, ...]:
    """What a transcript begins with: in the language that is spoken, without times."""
    vocab_size = model.config.vocab_size
    if model.tokenizer is None:  # 99 languages, and 100 in the latest models
        return (max(vocab_size - N_TIMES - N_OTHERS - (98 if vocab_size < 51866 else 99), 0),)
    speech = SpeechTokens(model.tokenizer, vocab_size)
    module: Any = model.module
    language = language_of(module, speech, listen(module, log_mel(sound, model.config.n_mels)))
    return *speech.opening(language, "transcribe"), speech.no_times


# ---- where nothing was given


def example(model: Model) -> Inputs:
    """Something to begin with: a text that the tokenizer can write, or what stands for a text, a picture, a sound."""
    config = model.config
    match model.kind:
        case "image-classifier":
            image = torch.rand(1, config.n_channels, *config.image_size, generator=torch.Generator().manual_seed(0))
            note = "The picture is noise: give it one with --input FILE"
            return Inputs(image=2 * image - 1, label="noise", note=note)
        case "speech-recognizer":
            seconds = torch.arange(min(SAMPLE_RATE, 2 * HOP * config.audio_context_length)) / SAMPLE_RATE
            low, high = TONE_HZ
            sound = 0.5 * (2 * torch.pi * (low * seconds + (high - low) / 2 * seconds.square())).sin()
            note = "The sound is a rising tone: give it a recording with --input FILE"
            return Inputs(sound=sound, tokens=_opening(model, sound), label="a rising tone", note=note)
    for text in FIRST_TEXTS if text_tokenizer(model) is not None else ():
        with suppress(GlassformerError):
            inputs = of_text(model, text)
            one_pass(model, inputs)
            return inputs
    vocab_size = getattr(config, "source_vocab_size", None) or config.vocab_size
    n_tokens = 1 if model.kind == "word-vectors" else min(8, config.context_length)
    return of_tokens(model, [i * (vocab_size // 8 or 1) % vocab_size for i in range(1, n_tokens + 1)])
