"""`glassformer transcribe`: what is said in recordings, as text or subtitles."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from glassformer.cli.loading import Device, DType, FromPickle, load
from glassformer.cli.output import new_destination, print_json, progress_bar, remark, write_text

if TYPE_CHECKING:
    from glassformer.api import Model
    from glassformer.models.whisper import Whisper
    from glassformer.tokenizers.speech_tokens import SpeechTokens

app = App(
    name="transcribe",
    help_epilogue="Example:  glassformer transcribe runs/whisper speech.flac --format srt",
)


@app.default
def transcribe(
    model: str,
    /,
    *audio: Path,
    format: Literal["txt", "srt", "vtt", "tsv", "json"] = "txt",
    language: str | None = None,
    task: Literal["transcribe", "translate"] = "transcribe",
    word_times: Annotated[bool, Parameter(negative="")] = False,
    line_width: int | None = None,
    line_count: int | None = None,
    prompt: str = "",
    tokenizer: Path | None = None,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    from_pickle: FromPickle = False,
    device: Device = "cpu",
    dtype: DType = "float32",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write down what is said in recordings: WAV, FLAC, Ogg, MP3. A file that cannot be read does not stop the others.

    Parameters
    ----------
    model
        A directory with a Whisper, or OpenAI's .pt file (with --from-pickle).
    audio
        The recordings.
    format
        txt: a line a segment; srt, vtt: subtitles; tsv: times in milliseconds; json: everything.
    language
        A code such as en or de; by default the likeliest one of the first half minute.
    task
        transcribe: in the language that is spoken; translate: into English.
    word_times
        Find out when each word was said; with it subtitles keep to lines.
    line_width
        Characters of a line of subtitles.
    line_count
        Lines that stand on the screen at once, with --word-times.
    prompt
        Text that might stand before the recording: names, a style.
    tokenizer
        The file of tokens, where it does not stand beside the model.
    out
        A folder for one file a recording; by default all goes to standard output.
    overwrite
        Replace files that are there already.
    json
        Print one JSON object with all transcripts.
    """
    from glassformer import files
    from glassformer.errors import ConfigError, DataError, GlassformerError
    from glassformer.inference.subtitles import FORMATS, as_json
    from glassformer.inference.transcribe import Options
    from glassformer.inference.transcribe import transcribe as run
    from glassformer.strict_json import parse

    if not audio:
        raise ConfigError("Name at least one recording to transcribe.")
    for name, value in {"--line-width": line_width, "--line-count": line_count}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    targets = [None if out is None else out / f"{path.stem}.{format}" for path in audio]
    if out is not None and len(set(targets)) < len(targets):
        raise ConfigError("Two recordings have the same name, and would become the same file: transcribe one by one.")
    for place in filter(None, targets):
        new_destination(place, overwrite=overwrite, folder=False, reads=[model, *audio])
    module, speech = speech_of(load(model, from_pickle=from_pickle, device=device, dtype=dtype), model, tokenizer)
    options = Options(language=language, task=task, word_times=word_times, prompt=prompt)
    speech.opening(language or "en", task)  # what the model cannot do is said before an hour has passed
    results, broken = [], 0
    for path, target in zip(audio, targets, strict=True):
        try:
            with progress_bar(path.name, None) as progress:
                transcript = run(module, speech, path, options, progress=progress)
        except DataError as error:
            broken += 1
            remark(" ".join(str(error).split()))
            continue
        if not transcript.text.strip():
            remark(f"{path.name}: no speech was found.")
        text = FORMATS[format](transcript, line_width, line_count)
        if json:
            results.append(
                {"file": str(path), **parse(as_json(transcript).encode(), str(path), error=GlassformerError)}
            )
        if target is not None:
            files.write_file(target, text.encode(), overwrite=overwrite)
        elif not json:
            write_text(text, at_once=True)
    if json:
        print_json({"transcripts": results, "broken": broken})
    if broken:
        sys.exit(2)


def speech_of(loaded: "Model", name: str, tokenizer: Path | None) -> "tuple[Whisper, SpeechTokens]":
    """A speech recognizer's module with its tokens: those of a file, or its own."""
    from glassformer.errors import ConfigError
    from glassformer.tokenizers import Tokenizer
    from glassformer.tokenizers.speech_tokens import SpeechTokens

    loaded.require("speech-recognizer")
    found = loaded.tokenizer if tokenizer is None else Tokenizer.load(tokenizer)
    if found is None:
        ranks = "gpt2.tiktoken" if loaded.config.vocab_size == 51864 else "multilingual.tiktoken"
        reason = loaded.no_tokenizer or f"There is no file of tokens beside {name}."
        raise ConfigError(
            f"{reason} Whisper's is {ranks} of OpenAI's repository: put it there, or give --tokenizer FILE."
        )
    module: Whisper = loaded.module  # type: ignore[assignment]
    return module, SpeechTokens(found, loaded.config.vocab_size)
