"""Language models: they read a text and write on. What they are measured by is perplexity."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from glassformer.checkpoints.about import About
from glassformer.data import sort
from glassformer.data.memmap import Tokens
from glassformer.errors import ConfigError
from glassformer.evaluation import streaming as streams
from glassformer.evaluation.perplexity import loss, read_tokens
from glassformer.evaluation.sorting import sort_accuracy
from glassformer.files import check_new_file
from glassformer.inference.recorded_call import call_of
from glassformer.kinds import texts
from glassformer.kinds.kind import Inputs, Kind, Metrics, ModelLike, Pass, Progress


def encode(model: ModelLike, text: str) -> list[int]:
    """The prompt's tokens, behind the one that begins a text."""
    return model.encode(text)


def of_tokens(model: ModelLike, ids: Sequence[int]) -> Inputs:
    """The text that is continued."""
    return Inputs(tokens=tuple(ids))


def call(model: ModelLike, inputs: Inputs) -> Pass:
    """One pass over the text."""
    return call_of(model.module), (texts.prompt(model, inputs),)


def measure(
    model: ModelLike,
    data: str,
    *,
    progress: Progress,
    batch_size: int = 32,
    context_length: int | None = None,
    batches: int = 0,
    streaming: int | None = None,
    limit: int | None = None,
    plot: Path | None = None,
    reference: ModelLike | None = None,
) -> Metrics:
    """Loss (nats a token) and perplexity on a text file or a folder of token ids; of "sort", how many are sorted.

    A text is read behind the tokens that begin one for the model, a learned sink among them.
    With a reference, such as the same model in float32, also its perplexity, by how many percent this one's is greater,
    and how often both hold the same token for the likeliest. With `streaming`, the same along one long text, of which
    `limit` tokens are read, for caches of so many tokens.
    """
    if streaming is None and (plot is not None or limit is not None):
        raise ConfigError("is for streaming.", setting="limit" if plot is None else "plot")
    if data == "sort":
        return _sorted(model, batches=batches, streaming=streaming)
    if streaming is not None and batches:
        raise ConfigError("is for texts that are read in batches.", setting="batches")
    if streaming is not None:
        return _streamed(model, read_tokens(Path(data), model.tokenizer), streaming, limit, plot, progress)
    longest = model.config.context_length
    if context_length is not None and not 1 <= context_length <= longest:
        raise ConfigError(
            f"must be from 1 to {longest}, the model's own, not {context_length}.", setting="context_length"
        )
    if batches < 0:
        raise ConfigError(f"must be at least 0 (0 takes all), not {batches}.", setting="batches")
    measured = loss(
        model.module,
        read_tokens(Path(data), model.tokenizer),
        context_length=context_length or longest,
        batch_size=batch_size,
        batches=batches,
        progress=progress,
        reference=None if reference is None else reference.module,
        begin=_begin(model),
    )
    figures: Metrics = {
        "loss": measured.nats_per_token,
        "perplexity": measured.perplexity,
        "tokens": measured.tokens,
    }
    if measured.of_reference is not None:
        before = measured.of_reference.perplexity
        figures["reference_perplexity"] = before
        figures["perplexity_change"] = 100 * (measured.perplexity / before - 1)
        figures["greedy_agreement"] = measured.agreement
    return figures


def _streamed(
    model: ModelLike, tokens: Tokens, size: int, limit: int | None, plot: Path | None, progress: Progress
) -> Metrics:
    """Perplexity, milliseconds a token and MiB of the cache, for each way to read the text."""
    if plot is not None:
        if plot.exists():  # no flag replaces it
            raise ConfigError(f"is {plot}, which is there already: choose another place.", setting="plot")
        check_new_file(plot)
    text = tokens[np.arange(min(max(16 * size, 2) if limit is None else limit, len(tokens)))]
    text = np.concatenate([np.asarray(_begin(model), text.dtype), text])
    streamed = list(streams.stream(model.module, text, size=size, progress=progress))
    if plot is not None:
        streams.plot(streamed, plot)
    rows = [
        {
            "cache": each.name,
            "perplexity": each.perplexity,
            "ms_per_token": 1000 * each.seconds_per_token,
            "cache_mib": each.cache_bytes / 2**20,
            "tokens": len(each.losses),
        }
        for each in streamed
    ]
    return {"tokens": len(text), "caches": rows}


def _begin(model: ModelLike) -> tuple[int, ...]:
    """What the model reads before a text."""
    return () if model.tokenizer is None else model.tokenizer.begin_ids


def _sorted(model: ModelLike, **settings: int | None) -> Metrics:
    letters = {letter.encode() for letter in sort.LETTERS}
    tokens = letters if model.tokenizer is None else set(model.tokenizer.vocab.values())
    fits = model.config.vocab_size == len(sort.LETTERS) and model.config.context_length >= sort.CONTEXT_LENGTH
    if tokens != letters or not fits:
        raise ConfigError(
            f"This is no model that sorts: one has the tokens {', '.join(sort.LETTERS)} and {sort.CONTEXT_LENGTH} "
            f"positions or more. Give a text file instead of the word sort."
        )
    for name, value in settings.items():
        if value:
            raise ConfigError("is for texts, and sort is none.", setting=name)
    return asdict(sort_accuracy(model.module))


KIND = Kind(
    name="language-model",
    verb="generate",
    about=About(en="It reads a text and says which token comes next", zh="它读一段文本，说出下一个词元是什么"),
    encode=encode,
    of_tokens=of_tokens,
    call=call,
    measure=measure,
    writes=True,
)
