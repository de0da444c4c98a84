"""`glassformer transcribe`: what is said in recordings, as text or subtitles."""

import sys
from pathlib import Path
from typing import Literal

from cyclopts import App

from glassformer.cli.flags import Flag, no_effect, unless
from glassformer.cli.loading import RUNNING, Running, load
from glassformer.cli.output import new_destination, print_json, progress_bar, remark, write_text

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
    word_times: Flag = False,
    line_width: int | None = None,
    line_count: int | None = None,
    prompt: str = "",
    tokenizer: Path | None = None,
    out: Path | None = None,
    overwrite: Flag = False,
    strict: Flag = False,
    running: Running = RUNNING,
    json: Flag = False,
) -> None:
    """Write down what is said in recordings: WAV, FLAC, Ogg, MP3, and with the extra media m4a, mp4, webm and more.

    A file that cannot be read does not stop the others; of one that ends early it is said.

    Parameters
    ----------
    model
        A directory with a Whisper, or OpenAI's .pt file (with --from-pickle).
    audio
        The recordings.
    format
        txt: a line a segment; srt, vtt: subtitles; tsv: times in milliseconds; json: everything.
    language
        A code such as en or de; by default the likeliest one of the first half minute that holds speech.
    task
        transcribe: in the language that is spoken; translate: into English.
    word_times
        Find out when each word was said.
    line_width
        Characters of a line of subtitles.
    line_count
        Lines that stand on the screen at once; without --word-times their times are estimated.
    prompt
        Text that might stand before the recording: names, a style.
    tokenizer
        The file of tokens, where it does not stand beside the model.
    out
        A folder for one file a recording; by default the text goes to standard output, under the name of its recording
        where there are several.
    overwrite
        Replace files that are there already.
    strict
        End with exit code 1 where a recording ends early, or not all of it can be read.
    json
        Print one JSON object with all transcripts.
    """
    from glassformer import files
    from glassformer.data.audio import open_audio
    from glassformer.errors import ConfigError, DataError
    from glassformer.inference.subtitles import FORMATS, as_mapping
    from glassformer.inference.transcribe import Options
    from glassformer.kinds.sound import speech_of
    from glassformer.tokenizers import Tokenizer

    if not audio:
        raise ConfigError("Name at least one recording to transcribe.")
    for name, value in {"--line-width": line_width, "--line-count": line_count}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    if format in ("txt", "json"):
        no_effect(f"with --format {format}", line_width=line_width, line_count=line_count)
    if out is None:
        no_effect("without --out", overwrite=overwrite)
    if out is None and json:
        no_effect("with --json, unless there is --out", format=unless(format, "txt"))
    if len(audio) > 1 and out is None and format != "txt":
        raise ConfigError(
            f"Several recordings as {format} are several files: add --out FOLDER, or take --json instead."
        )
    targets = {path: out / f"{path.stem}.{format}" for path in audio} if out is not None else {}
    if out is not None and len(set(targets.values())) < len(audio):
        raise ConfigError("Two recordings have the same name, and would become the same file: transcribe one by one.")
    for target in targets.values():
        new_destination(target, overwrite=overwrite, folder=False, reads=[model, *audio])
    readable, n_broken, n_truncated = [], 0, 0
    for path in audio:  # before the model is loaded, which takes its time
        try:
            open_audio(path)
            readable.append(path)
        except DataError as error:
            n_broken += 1
            remark(error.at_command_line())
    if readable:
        loaded = load(model, "speech-recognizer", opening=running)
        if tokenizer is not None:
            loaded = loaded.having(tokenizer=Tokenizer.load(tokenizer))
        options = Options(language=language, task=task, word_times=word_times, prompt=prompt)
        speech_of(loaded).opening(language or "en", task)  # what cannot be is said before an hour has passed
    results = []
    for path in readable:
        try:
            with progress_bar(path.name, None) as progress:
                transcript = loaded.transcribe(path, options, progress=progress)
        except DataError as error:
            n_broken += 1
            remark(error.at_command_line())
            continue
        n_truncated += transcript.truncated
        for sentence in transcript.remarks:
            remark(sentence)
        if not transcript.text.strip():
            remark(f"{path.name}: no speech was found.")
        text = FORMATS[format](transcript, line_width, line_count)
        if json:
            results.append({"file": str(path), **as_mapping(transcript)})
        if out is not None:
            files.write_file(targets[path], text.encode(), overwrite=overwrite)
            remark(f"{targets[path]} is written.")
        elif not json:
            write_text(f"{path}:\n{text}\n" if len(audio) > 1 else text, at_once=True)
    if json:
        print_json({"transcripts": results, "broken": n_broken})
    if n_broken or (strict and n_truncated):
        sys.exit(2 if n_broken else 1)
