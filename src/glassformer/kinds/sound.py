"""Recognizers of speech: they hear a window of sound and write what is said in it."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from glassformer.checkpoints.about import About
from glassformer.data.audio import Recording
from glassformer.data.pairs import read_transcripts
from glassformer.errors import ConfigError
from glassformer.evaluation.wer import word_errors
from glassformer.features.log_mel import HOP, SAMPLE_RATE, hann_window, log_mel, mel_filters
from glassformer.inference.recorded_call import call_of, from_sound
from glassformer.inference.transcribe import Options, language_of, listen, transcribe
from glassformer.kinds import texts
from glassformer.kinds.kind import Inputs, Kind, Metrics, ModelLike, Pass, Progress
from glassformer.models.whisper import Whisper
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import N_OTHERS, N_TIMES, SpeechTokens

logger = logging.getLogger(__name__)

TONE_HZ = (200.0, 2000.0)  # from where to where a made-up sound rises, in a second
LATEST_VOCABULARY = 51866  # from this size on a vocabulary has 100 languages instead of 99
N_LANGUAGES = 99


def speech_of(model: ModelLike) -> SpeechTokens:
    """The tokens that a transcript is made of."""
    if model.tokenizer is None:
        ranks = "gpt2.tiktoken" if model.config.vocab_size == 51864 else "multilingual.tiktoken"
        reason = model.no_tokenizer or "There is no file of tokens beside the model."
        raise ConfigError(
            f"{reason} Whisper's is {ranks} of OpenAI's repository: put it there,",
            python="or give the model a tokenizer.",
            command="or give --tokenizer FILE.",
        )
    return SpeechTokens(model.tokenizer, model.config.vocab_size)


def of_file(model: ModelLike, path: Path) -> Inputs:
    """The first window of a recording, thirty seconds for a Whisper; a shorter one goes on in silence."""
    n_samples = 2 * HOP * model.config.audio_context_length
    recording, blocks = Recording(path), list[Tensor]()
    for block in recording.blocks():
        blocks.append(block)
        if sum(map(len, blocks)) >= n_samples:
            break
    beginning = torch.cat(blocks)[:n_samples]
    sound = torch.cat([beginning, torch.zeros(n_samples - len(beginning))])
    return Inputs(sound=sound, tokens=opening(model, sound), label=path.name, note=" ".join(recording.remarks))


def opening(model: ModelLike, sound: Tensor) -> tuple[int, ...]:
    """What a transcript begins with: in the language that is spoken, without times."""
    vocab_size = model.config.vocab_size
    if model.tokenizer is None:  # <|startoftranscript|> stands before the languages
        n_after = N_LANGUAGES - 1 + (vocab_size >= LATEST_VOCABULARY) + N_OTHERS + N_TIMES
        return (max(vocab_size - n_after, 0),)
    speech = SpeechTokens(model.tokenizer, vocab_size)
    module: Any = model.module
    language = language_of(module, speech, listen(module, log_mel(sound, model.config.n_mels)))
    return *speech.opening(language, "transcribe"), speech.no_times


def call(model: ModelLike, inputs: Inputs) -> Pass:
    """One pass from the waveform on."""
    tokens = texts.prompt(model, inputs)
    if inputs.sound is None:
        return call_of(model.module), (tokens,)
    mel_filters(model.config.n_mels), hann_window()  # tables that are made once: they are no part of the pass
    return from_sound, (inputs.sound, tokens)


def made_up(model: ModelLike) -> Inputs:
    """A tone that rises."""
    n_samples = min(SAMPLE_RATE, 2 * HOP * model.config.audio_context_length)
    seconds = torch.arange(n_samples) / SAMPLE_RATE
    low, high = TONE_HZ
    sound = 0.5 * (2 * torch.pi * (low * seconds + (high - low) / 2 * seconds.square())).sin()
    note = "The sound is a rising tone: give it a recording with --input FILE"
    return Inputs(sound=sound, tokens=opening(model, sound), label="a rising tone", note=note)


def measure(
    model: ModelLike,
    data: str,
    *,
    progress: Progress,
    limit: int | None = None,
    recordings: Path | None = None,
    language: str = "en",
    tokenizer: Path | None = None,
) -> Metrics:
    """Word error rate on recordings that a file lists, each with what is said in it."""
    speech = speech_of(model) if tokenizer is None else SpeechTokens(Tokenizer.load(tokenizer), model.config.vocab_size)
    speech.opening(language, "transcribe")  # a language that the model does not know is refused here
    clips = read_transcripts(Path(data), recordings, "--recordings")[:limit]
    word_errors(["a"], ["a"], language=language)  # what is missing for them is said before an hour has passed
    results = []
    for number, (path, said) in enumerate(clips, 1):
        transcript = transcribe(cast(Whisper, model.module), speech, path, Options(language=language))
        for sentence in transcript.remarks:
            logger.warning(sentence)
        results.append({"file": str(path), "said": said, "written": transcript.text})
        progress(number, len(clips))
    errors = word_errors([clip["said"] for clip in results], [clip["written"] for clip in results], language=language)
    return {"wer": errors.rate, "errors": errors.errors, **asdict(errors), "recordings": len(clips), "clips": results}


KIND = Kind(
    name="speech-recognizer",
    verb="transcribe",
    about=About(en="It listens to speech and writes down what is said", zh="它听一段语音，写下所说的话"),
    of_file=of_file,
    call=call,
    made_up=made_up,
    measure=measure,
    reads="a recording",
    writes=True,
    writes_first=True,
)
