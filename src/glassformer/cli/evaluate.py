"""`glassformer evaluate`: how good a model is, by the figure that papers give for its kind."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from glassformer.cli.flags import Flag
from glassformer.cli.loading import RUNNING, Running, load, opened
from glassformer.cli.output import print_json, print_line, print_table, progress_bar, remark, remarks
from glassformer.evaluation.bleu import WordCutter

if TYPE_CHECKING:
    from glassformer.api import Model

app = App(
    name="evaluate",
    help_epilogue="Example:  glassformer evaluate runs/sort sort",
)

TEXT = Group("Language models", sort_key=1)
TRANSLATION = Group("Translators", sort_key=2)
SPEECH = Group("Speech recognizers", sort_key=3)
MEASURED = ("perplexity", "ms_per_token", "cache_mib")  # of each cache that a text is streamed with
IMAGES = Group("Image classifiers", sort_key=4)


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
    json: Flag = False,
    context_length: Annotated[int | None, Parameter(group=TEXT)] = None,
    batches: Annotated[int | None, Parameter(group=TEXT)] = None,
    streaming: Annotated[int | None, Parameter(group=TEXT)] = None,
    plot: Annotated[Path | None, Parameter(group=TEXT)] = None,
    beams: Annotated[int | None, Parameter(group=TRANSLATION)] = None,
    length_penalty: Annotated[float | None, Parameter(group=TRANSLATION)] = None,
    max_new_tokens: Annotated[int | None, Parameter(group=TRANSLATION)] = None,
    words: Annotated[WordCutter | None, Parameter(group=TRANSLATION)] = None,
    recordings: Annotated[Path | None, Parameter(group=SPEECH)] = None,
    language: Annotated[str | None, Parameter(group=SPEECH)] = None,
    tokenizer: Annotated[Path | None, Parameter(group=SPEECH)] = None,
    processor: Annotated[Path | None, Parameter(group=IMAGES)] = None,
) -> None:
    """Measure a model: perplexity, right answers, BLEU and chrF of translations, or word errors of transcripts.

    With --quantize, a language model is compared with itself in float32: by how many percent its perplexity changes,
    and how often both hold the same token for the likeliest.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, or preset:NAME.
    data
        For a language model a text file, a folder of token ids that a run has written, or the word sort. For a
        translator its sources, a line each, with --target, or a file with source, tab, translation. For an image
        classifier a folder with one folder a class, an .npz, or MNIST's file of images. For a speech recognizer a file
        with the name of a recording, tab, what is said.
    target
        The translations, a line each, or the labels of MNIST's images.
    limit
        Take so many pairs, pictures or recordings; with --streaming so many tokens, by default 16 times the cache.
    batch_size
        Spans, texts or images at once, 32 by default.
    json
        Print a JSON object, with the figures of each class or recording.
    context_length
        Tokens of a span that is read at once; by default as many as the model has positions. More than its files say
        are read where no positions are learned, as by the other verbs.
    batches
        Take only this many batches, spread over the text.
    streaming
        Read one long text, token by token, with caches of so many tokens that keep all, the latest, or sinks and the
        latest, and beside these with none: perplexity, time and memory of each. It begins as the model's texts do:
        with its sink token, where it has learned one (data.sink_token).
    plot
        With --streaming, a new .png that draws the perplexity along the text (extra plot).
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
    settings: dict[str, Any] = {
        "target": target,
        "limit": limit,
        "batch_size": batch_size,
        "context_length": context_length,
        "batches": batches,
        "streaming": streaming,
        "plot": plot,
        "beams": beams,
        "length_penalty": length_penalty,
        "max_new_tokens": max_new_tokens,
        "words": words,
        "recordings": recordings,
        "language": language,
        "tokenizer": tokenizer,
        "processor": processor,
    }
    loaded = reading(model, context_length, running)
    if running.quantize and loaded.kind == "language-model" and data != "sort" and streaming is None:
        settings["reference"] = reading(model, context_length, replace(running, quantize=None))
    if loaded.no_tokenizer:
        remark(loaded.no_tokenizer)
    with remarks(), progress_bar("evaluating", None) as progress:
        figures = loaded.evaluate(
            data, progress=progress, **{name: value for name, value in settings.items() if value is not None}
        )
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        if not isinstance(value, list):  # details, for programs
            figure = value if isinstance(value, str) else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
            print_line(f"{name.replace('_', ' '):17} {figure}")
    if caches := figures.get("caches"):
        headers = ("cache", "perplexity", "ms a token", "cache, MiB", "tokens")
        rows = [(row["cache"], *(f"{row[name]:,.3f}" for name in MEASURED), f"{row['tokens']:,}") for row in caches]
        print_table(headers, rows, right=headers[1:])


def reading(source: str, span: int | None, running: Running) -> "Model":
    """The model, opened again for a span that is longer than the context that its files say."""
    from glassformer.kinds import kinds

    loaded = load(source, *(kind.name for kind in kinds().values() if kind.measure is not None), opening=running)
    if span is None or loaded.kind != "language-model" or span <= loaded.config.context_length:
        return loaded
    del loaded  # two would take twice the memory
    return opened(source, running, context_length=span, **running.where)
