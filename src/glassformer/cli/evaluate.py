"""`glassformer evaluate`: how good a model is, by the figure that papers give for its kind."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from glassformer.cli.loading import RUNNING, Running, load
from glassformer.cli.output import print_json, print_line, progress_bar, remark
from glassformer.evaluation.bleu import WordCutter

if TYPE_CHECKING:
    from glassformer.api import Model
    from glassformer.models.spec import Kind

app = App(
    name="evaluate",
    help_epilogue="Example:  glassformer evaluate runs/sort sort",
)

Figures = Mapping[str, Any]

TEXT = Group("Language models", sort_key=1)
TRANSLATION = Group("Translators", sort_key=2)
SPEECH = Group("Speech recognizers", sort_key=3)
PICTURES = Group("Image classifiers", sort_key=4)


@app.default
def evaluate(
    model: str,
    data: str,
    /,
    *,
    target: Path | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    running: Running = RUNNING,
    json: Annotated[bool, Parameter(negative="")] = False,
    context_length: Annotated[int | None, Parameter(group=TEXT)] = None,
    batches: Annotated[int | None, Parameter(group=TEXT)] = None,
    beams: Annotated[int | None, Parameter(group=TRANSLATION)] = None,
    length_penalty: Annotated[float | None, Parameter(group=TRANSLATION)] = None,
    max_new_tokens: Annotated[int | None, Parameter(group=TRANSLATION)] = None,
    words: Annotated[WordCutter | None, Parameter(group=TRANSLATION)] = None,
    recordings: Annotated[Path | None, Parameter(group=SPEECH)] = None,
    language: Annotated[str | None, Parameter(group=SPEECH)] = None,
    tokenizer: Annotated[Path | None, Parameter(group=SPEECH)] = None,
    processor: Annotated[Path | None, Parameter(group=PICTURES)] = None,
) -> None:
    """Measure a model: perplexity, right answers, BLEU and chrF of translations, or word errors of transcripts.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, nano-sort, or preset:NAME.
    data
        For a language model a text file, a folder of token ids that a run has written, or the word sort. For a
        translator its sources, a line each, with --target, or a file with source, tab, translation. For an image
        classifier a folder with one folder a class, an .npz, or MNIST's file of images. For a speech recognizer a file
        with the name of a recording, tab, what is said.
    target
        The translations, a line each, or the labels of MNIST's images.
    limit
        Take so many pairs, pictures or recordings.
    batch_size
        Stretches, texts or pictures at once, 32 by default.
    json
        Print a JSON object, with the figures of each class or recording.
    context_length
        Tokens of a stretch that is read at once; by default as many as the model has positions.
    batches
        Take only this many batches, spread over the text.
    beams
        How many texts the search keeps at each step, 4 by default.
    length_penalty
        A text's score is divided by its length to this power, 1 by default.
    max_new_tokens
        Where a translation stops at the latest; by default at twice the source's tokens and 50 more.
    words
        How BLEU cuts words: 13a (the default), intl, zh for Chinese, char, none.
    recordings
        The folder of the recordings that a list names; by default the list's own.
    language
        What is spoken, en by default.
    tokenizer
        The file of tokens, where it does not stand beside the model.
    processor
        The folder whose preprocessor_config.json says how pictures are resized and scaled, where it is not the model's.
    """
    from glassformer.errors import ConfigError

    for name, value in {"limit": limit, "batch_size": batch_size, "max_new_tokens": max_new_tokens}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{_flag(name)} must be at least 1, not {value}.")
    options: dict[Kind, dict[str, Any]] = {
        "language-model": {"batch_size": batch_size, "context_length": context_length, "batches": batches},
        "encoder-decoder": {
            "target": target,
            "limit": limit,
            "batch_size": batch_size,
            "beams": beams,
            "length_penalty": length_penalty,
            "max_new_tokens": max_new_tokens,
            "words": words,
        },
        "image-classifier": {"target": target, "limit": limit, "batch_size": batch_size, "processor": processor},
        "speech-recognizer": {
            "limit": limit,
            "recordings": recordings,
            "language": language,
            "tokenizer": tokenizer,
        },
    }
    loaded = load(model, *options, opening=running)
    mine = {name: value for name, value in options[loaded.kind].items() if value is not None}
    given = {name for others in options.values() for name, value in others.items() if value is not None}
    if foreign := sorted(given - mine.keys()):
        from glassformer.models.spec import IN_WORDS

        raise ConfigError(f"{_flag(foreign[0])} is not for {IN_WORDS[loaded.kind]}, which {model} is.")
    if loaded.no_tokenizer:
        remark(loaded.no_tokenizer)
    measures: dict[Kind, Callable[..., Figures]] = {
        "language-model": _text,
        "encoder-decoder": _translations,
        "image-classifier": _pictures,
        "speech-recognizer": _recordings,
    }
    figures = measures[loaded.kind](loaded, model, data, **mine)
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        if isinstance(value, list):  # details, for programs
            continue
        shown = value if isinstance(value, str) else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
        print_line(f"{name.replace('_', ' '):17} {shown}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(
    loaded: "Model",
    name: str,
    data: str,
    *,
    batch_size: int = 32,
    context_length: int | None = None,
    batches: int = 0,
) -> Figures:
    from glassformer.errors import ConfigError
    from glassformer.evaluation.perplexity import loss, read_tokens

    if data == "sort":
        return _sorting(loaded, name)
    longest = loaded.config.context_length
    if context_length is not None and not 1 <= context_length <= longest:
        raise ConfigError(f"--context-length must be from 1 to {longest}, the model's own, not {context_length}.")
    if batches < 0:
        raise ConfigError(f"--batches must be at least 0 (0 takes all), not {batches}.")
    tokens = read_tokens(Path(data), loaded.tokenizer)
    with progress_bar("reading", None) as progress:
        measured = loss(
            loaded.module,
            tokens,
            context_length=context_length or longest,
            batch_size=batch_size,
            batches=batches,
            progress=progress,
        )
    return {"loss": measured.nats_per_token, "perplexity": measured.perplexity, "tokens": measured.tokens}


def _sorting(loaded: "Model", name: str) -> Figures:
    from glassformer.data.sort import CONTEXT_LENGTH, LETTERS
    from glassformer.errors import ConfigError
    from glassformer.evaluation.sorting import sort_accuracy

    letters = {letter.encode() for letter in LETTERS}
    tokens = letters if loaded.tokenizer is None else set(loaded.tokenizer.vocab.values())
    fits = loaded.config.vocab_size == len(LETTERS) and loaded.config.context_length >= CONTEXT_LENGTH
    if tokens != letters or not fits:
        raise ConfigError(
            f"{name} is no model that sorts: one has the tokens {', '.join(LETTERS)} and {CONTEXT_LENGTH} "
            f"positions or more. Give a text file instead of the word sort."
        )
    return asdict(sort_accuracy(loaded.module))


def _translations(
    loaded: "Model",
    name: str,
    data: str,
    *,
    target: Path | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    beams: int = 4,
    length_penalty: float = 1.0,
    max_new_tokens: int | None = None,
    words: WordCutter = "13a",
) -> Figures:
    from glassformer.cli.translate import search_of
    from glassformer.data.pairs import read_pairs
    from glassformer.evaluation.bleu import translation_scores

    search = search_of(beams, length_penalty)
    pairs = read_pairs(Path(data), target)[:limit]
    translation_scores(["a"], ["a"], words=words)  # what is missing for them is said before an hour has passed
    found, done = [""] * len(pairs), 0
    pieces = loaded.translations(
        [source for source, _ in pairs], beams=search, max_new_tokens=max_new_tokens, batch_size=batch_size
    )
    with progress_bar("translating", len(pairs)) as progress:
        for piece in pieces:
            found[piece.sequence] += piece.text
            done += piece.finish is not None
            progress(done)
    return {**asdict(translation_scores(found, [truth for _, truth in pairs], words=words)), "texts": len(pairs)}


def _pictures(
    loaded: "Model",
    name: str,
    data: str,
    *,
    target: Path | None = None,
    limit: int = 0,
    batch_size: int = 32,
    processor: Path | None = None,
) -> Figures:
    from glassformer.cli.classify import processor_of
    from glassformer.data.pictures import open_pictures
    from glassformer.evaluation.accuracy import accuracy

    pictures = open_pictures(Path(data), target)
    prepare = processor_of(loaded, processor, name)
    with progress_bar("classifying", None) as progress:
        measured = accuracy(loaded.module, pictures, prepare, batch_size=batch_size, limit=limit, progress=progress)
    return {"accuracy": measured.rate, **asdict(measured), "classes": [asdict(one) for one in measured.classes]}


def _recordings(
    loaded: "Model",
    name: str,
    data: str,
    *,
    limit: int | None = None,
    recordings: Path | None = None,
    language: str = "en",
    tokenizer: Path | None = None,
) -> Figures:
    from glassformer.data.pairs import read_transcripts
    from glassformer.evaluation.wer import word_errors
    from glassformer.kinds.sound import speech_of
    from glassformer.tokenizers import Tokenizer

    if tokenizer is not None:
        loaded = replace(loaded, tokenizer=Tokenizer.load(tokenizer))
    speech_of(loaded).opening(language, "transcribe")  # a language that the model does not know is refused here
    clips = read_transcripts(Path(data), recordings, "--recordings")[:limit]
    word_errors(["a"], ["a"], language=language)  # what is missing for them is said before an hour has passed
    results = []
    with progress_bar("transcribing", len(clips)) as progress:
        for number, (path, said) in enumerate(clips, 1):
            transcript = loaded.transcribe(path, language=language)
            for sentence in transcript.remarks:
                remark(sentence)
            results.append({"file": str(path), "said": said, "written": transcript.text})
            progress(number)
    errors = word_errors([clip["said"] for clip in results], [clip["written"] for clip in results], language=language)
    return {"wer": errors.rate, "errors": errors.errors, **asdict(errors), "recordings": len(clips), "clips": results}
