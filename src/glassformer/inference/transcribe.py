"""Recordings of any length to text with times: window after window of thirty seconds.

Radford et al. 2022, §4.5 (arXiv:2212.04356). A window begins where the last whole text of the one before ended, and the
decoder is shown that text. `whisper_decoding.py` decodes one window, `timestamps.py` has the rules for times in it,
`word_times.py` finds its words; `subtitles.py` writes files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.data.audio import Recording
from glassformer.errors import GenerationError
from glassformer.features.log_mel import FRAMES_PER_SECOND, SAMPLE_RATE, log_mel, log_mel_of_blocks
from glassformer.inference.logits import derived_seed
from glassformer.inference.timestamps import TimeSpan, nothing_follows, spans_of
from glassformer.inference.whisper_decoding import (
    DecodingResult,
    FallbackThresholds,
    decode_with_fallback,
    detect_language,
)
from glassformer.inference.word_times import WordTiming, align, fit, merge_punctuation, shift, words_of_spans
from glassformer.models.whisper import Whisper
from glassformer.nn.kv_cache import full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers.speech_tokens import SpeechTask, SpeechTokens

MIRRORED = 2  # frames at each end of a recording that hear some of it backwards, as the log-mel of it begins and ends
STEADY_BELS = 0.04  # a tone and steady noise differ by less from one tenth of a second to another, speech by far more


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to transcribe. `language` None: the likeliest one of the first window that holds speech."""

    language: str | None = None
    task: SpeechTask = "transcribe"
    times: bool = True  # let the model write times; without them a window is one segment
    word_times: bool = False
    show_previous: bool = True  # the text before a window helps with names, and may lead into loops
    prompt: str = ""  # text that might stand before the first window: names, a style
    thresholds: FallbackThresholds = field(default_factory=FallbackThresholds)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word, with the space before it; seconds from the recording's beginning."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What was said from `start` to `end`, in seconds, and how sure that is (see `whisper_decoding.DecodingResult`)."""

    start: float
    end: float
    text: str
    tokens: list[int]
    words: tuple[Word, ...] = ()
    temperature: float
    mean_logprob: float
    compression: float
    no_speech: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """All segments of a recording of `duration` seconds; `remarks` say why it is truncated, and what else is odd."""

    language: str
    duration: float
    segments: tuple[Segment, ...]
    truncated: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The segments' texts, one after the other."""
        return "".join(segment.text for segment in self.segments)


def transcribe(
    module: Whisper,
    speech: SpeechTokens,
    sound: Path | Recording | Float[Tensor, " N"],
    options: Options | None = None,
    *,
    progress: Callable[[float, float], None] | None = None,
) -> Transcript:
    """What is said in a file, or in a waveform at 16 kHz. `progress(done, all)` is told seconds after each window."""
    options = options or Options()
    speech.opening(options.language or "en", options.task)  # refuses what the model cannot do
    if not speech.multilingual:
        options = replace(options, language="en")
    window = 2 * module.config.audio_context_length
    recording = Recording(sound) if isinstance(sound, Path) else sound
    blocks = recording.blocks() if isinstance(recording, Recording) else iter([recording])
    silence = torch.zeros(window * SAMPLE_RATE // FRAMES_PER_SECOND)
    mel = log_mel_of_blocks(chain(blocks, [silence]), module.config.n_mels)
    n_frames = mel.shape[-1] - window
    seconds = n_frames / FRAMES_PER_SECOND
    language = options.language
    segments: list[Segment] = []
    for of_window, frame, spoken in _windows(module, speech, mel, n_frames, options):
        segments += of_window
        language = spoken
        if progress is not None:
            progress(frame / FRAMES_PER_SECOND, seconds)
    language = language or language_of(module, speech, listen(module, mel[:, :window]))
    transcript = Transcript(language=language, duration=seconds, segments=tuple(segments))
    if isinstance(recording, Recording):
        transcript = replace(transcript, truncated=recording.truncated, remarks=tuple(recording.remarks))
    return transcript


def language_of(module: Whisper, speech: SpeechTokens, sound: DecoderState) -> str:
    """The likeliest language of a window."""
    return next(iter(detect_language(module, sound, speech))) if speech.multilingual else "en"


@torch.inference_mode()
def listen(module: Whisper, mel: Float[Tensor, "M frames"]) -> DecoderState:
    """The encoder's state for one window."""
    weight = next(module.parameters())
    return module.begin(mel[None].to(weight), full(1))


def _windows(
    module: Whisper, speech: SpeechTokens, mel: Float[Tensor, "M frames"], n_frames: int, options: Options
) -> Iterator[tuple[list[Segment], int, str | None]]:
    """The segments of each window, the frame up to which the recording is done, and the language where it is clear."""
    window = 2 * module.config.audio_context_length
    longest_prompt = module.config.context_length // 2 - 1
    previous = speech.encode(f" {options.prompt.strip()}") if options.prompt else []
    if len(previous) > longest_prompt:
        raise GenerationError(f"The prompt has {len(previous)} tokens; this model can be shown {longest_prompt}.")

    @cache
    def silence() -> DecoderState:
        return listen(module, log_mel(torch.zeros(window * SAMPLE_RATE // FRAMES_PER_SECOND), module.config.n_mels))

    language = options.language
    begin, latest = 0, 0.0
    while begin < n_frames:
        length = min(window, n_frames - begin)
        frames = mel[:, begin : begin + window].clone()  # a last window that is not full goes on in silence
        if options.times:
            frames[:, length:] = 0  # as OpenAI's `transcribe` has it, and not its `decode`
        segments: list[Segment] = []
        advance = length
        if not nothing_moves(frames[:, :length]):
            sound = listen(module, frames)
            spoken = language or language_of(module, speech, sound)
            opening = speech.opening(spoken, options.task)
            result = decode_with_fallback(
                module,
                sound,
                silence,
                speech,
                options.thresholds,
                previous=[speech.start_of_previous, *previous[-longest_prompt:]] if previous else [],
                opening=opening,
                times=options.times,
                seed=derived_seed(options.seed % 2**63, begin),
            )
            if not result.silent(options.thresholds):
                spans, advance = spans_of(result.tokens, length, speech)
                offset = begin / FRAMES_PER_SECOND
                spans = [replace(span, start=offset + span.start, end=offset + span.end) for span in spans]
                words: list[list[WordTiming]] = [[] for _ in spans]
                if options.word_times:
                    text = [token for span in spans for token in span.tokens if token < speech.end_of_text]
                    timed = align(module, sound, opening, text, length, speech)
                    median = merge_punctuation(timed)
                    shift(timed, offset)
                    both = list(words_of_spans(timed, spans, median, latest, speech))
                    spans, words = [span for span, _ in both], [of_span for _, of_span in both]
                    ends = [word.end for of_span in words for word in of_span]
                    latest = ends[-1] if ends else spans[-1].end
                    if latest > offset and not nothing_follows(result.tokens, speech):
                        advance = round(latest * FRAMES_PER_SECOND) - begin
                segments = segments_of(spans, words, result, speech, n_frames / FRAMES_PER_SECOND)
                language = spoken if segments else language
                previous += [token for segment in segments for token in segment.tokens]
                if result.temperature > 0.5 or not options.show_previous:
                    previous = []
        begin += max(advance, 1)
        yield segments, min(begin, n_frames), language


def nothing_moves(mel: Float[Tensor, "M frames"]) -> bool:
    """Whether the loudness stays the same, from tenth to tenth of a second: silence, a tone, a hum, steady noise.

    A departure from Whisper, which listens to every window: it was hardly trained on such sound, and tends to write
    something all the same. This spares the work of listening and keeps digital silence out of the model; what moves
    and has no words is left to the thresholds.
    """
    tenth = FRAMES_PER_SECOND // 10
    if mel.shape[-1] < 5 * tenth + 2 * MIRRORED:  # a word may be shorter than what there is to compare
        return bool((mel == mel[0, 0]).all())
    loudness = mel[:, MIRRORED:-MIRRORED].mean(0)
    bels = 4 * loudness.unfold(0, tenth, tenth).mean(-1)
    return bool(bels.std(correction=0) < STEADY_BELS)


def segments_of(
    spans: Iterable[TimeSpan],
    words: Iterable[list[WordTiming]],
    result: DecodingResult,
    speech: SpeechTokens,
    duration: float,
) -> list[Segment]:
    """The spans that have text and last some time; none goes on after the recording's end."""
    segments = []
    for span, of_span in zip(spans, words, strict=True):
        start, end, text = round(span.start, 2), round(min(span.end, duration), 2), speech.decode(span.tokens)
        if start < end and any(character.isalnum() for character in text):  # points alone are a way to say nothing
            fit(of_span, start, end)
            segments.append(
                Segment(
                    start=start,
                    end=end,
                    text=text,
                    tokens=span.tokens,
                    words=tuple(
                        Word(text=word.text, start=word.start, end=word.end, probability=word.probability)
                        for word in of_span
                    ),
                    temperature=result.temperature,
                    mean_logprob=result.mean_logprob,
                    compression=result.compression,
                    no_speech=result.no_speech,
                )
            )
    return segments
