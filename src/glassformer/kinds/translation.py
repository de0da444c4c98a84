"""Encoder-decoders of texts: they read a source and write a target, which begins with a token of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from glassformer.checkpoints.about import About
from glassformer.data.pairs import read_pairs
from glassformer.errors import GenerationError
from glassformer.evaluation.bleu import WordCutter, translation_scores
from glassformer.inference.beam import Beams
from glassformer.inference.constraints import Constraints
from glassformer.inference.recorded_call import call_of
from glassformer.inference.request import check_source
from glassformer.inference.streaming_text import Piece
from glassformer.inference.translate import around_source, target_begins, translate
from glassformer.kinds import texts
from glassformer.kinds.kind import Inputs, Kind, Metrics, ModelLike, Pass, Progress, needs_tokenizer, text_tokenizer


def encode(model: ModelLike, text: str) -> list[int]:
    """The tokens of a source, between those that open and close it."""
    tokenizer = text_tokenizer(model)
    if tokenizer is None:
        return texts.encode(model, text)  # which says so
    begin, end = around_source(tokenizer, model.config.eos_id if model.source_tokenizer is None else None)
    return texts.encode(model, text, begin=begin, end=end)


def of_tokens(model: ModelLike, ids: Sequence[int]) -> Inputs:
    """The text that is translated."""
    return Inputs(source=tuple(ids), tokens=tuple(target_begins(model.config)))


def call(model: ModelLike, inputs: Inputs) -> Pass:
    """One pass through both halves."""
    tokens, source = texts.prompt(model, inputs), texts.batch(model, inputs.source)
    check_source(source, model.config)
    return call_of(model.module), (source, tokens)


def translations(
    model: ModelLike, sources: Sequence[str], *, beams: Beams, constraints: Constraints | None = None, **limits: Any
) -> Iterator[Piece]:
    """The translations in pieces, as they come; `limits` are those of `inference/translate.py`."""
    tokenizer = needs_tokenizer(model)
    return translate(
        model.module,
        sources,
        source_tokenizer=model.source_tokenizer or tokenizer,
        tokenizer=tokenizer,
        beams=beams,
        constraints=model.constraints if constraints is None else constraints,
        **limits,
    )


def searched(usual: Beams, beams: int | None, length_penalty: float | None) -> Beams:
    """The search that a user's settings ask for: its width is called `beams` there; None is as usual."""
    settings: dict[str, Any] = {"n_beams": beams, "length_penalty": length_penalty}
    try:
        search = replace(usual, **{name: value for name, value in settings.items() if value is not None})
    except GenerationError as error:
        raise GenerationError(error.message, setting=error.setting.removeprefix("n_")) from None
    if search.n_beams == 1 and length_penalty is not None:
        raise GenerationError("has no effect with one beam: leave it out.", setting="length_penalty")
    return search


def measure(
    model: ModelLike,
    data: str,
    *,
    progress: Progress,
    target: Path | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    beams: int | None = None,
    length_penalty: float | None = None,
    max_new_tokens: int | None = None,
    words: WordCutter = "13a",
) -> Metrics:
    """BLEU and chrF of translations: of a file of sources with a `target` file, or of one with both in a line."""
    search = searched(model.beams, beams, length_penalty)
    pairs = read_pairs(Path(data), target)[:limit]
    translation_scores(["a"], ["a"], words=words)  # what is missing for them is said before an hour has passed
    written, done = [""] * len(pairs), 0
    sources, references = [source for source, _ in pairs], [reference for _, reference in pairs]
    for piece in translations(model, sources, beams=search, max_new_tokens=max_new_tokens, batch_size=batch_size):
        written[piece.sequence] += piece.text
        done += piece.finish is not None
        progress(done, len(pairs))
    return {**asdict(translation_scores(written, references, words=words)), "texts": len(pairs)}


KIND = Kind(
    name="encoder-decoder",
    verb="translate",
    about=About(
        en="It reads one text and writes another about it, token by token: a translation, an answer or a summary",
        zh="它读一段文本，再逐个词元写出另一段：译文、答案或摘要",
    ),
    encode=encode,
    of_tokens=of_tokens,
    call=call,
    measure=measure,
    writes=True,
    writes_first=True,
)
