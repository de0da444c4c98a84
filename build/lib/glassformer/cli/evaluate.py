"""`glassformer evaluate`: how well a model predicts a text, or sorts."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from glassformer.cli.output import print_json, remark

app = App(
    name="evaluate",
    help_epilogue="Example:  glassformer evaluate runs/sort sort",
)


@app.default
def evaluate(
    model: str,
    data: str,
    /,
    *,
    context_length: int | None = None,
    batch_size: int = 32,
    batches: int = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure a model: loss and perplexity on a text, or right answers in sorting.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, nano-sort, or preset:NAME.
    data
        A text file, a folder of token ids that a run has written, or the word sort.
    context_length
        Tokens of a stretch that is read at once; by default as many as the model has positions.
    batch_size
        Stretches at once.
    batches
        Take only this many batches, spread over the text; 0 takes all of it.
    json
        Print a JSON object.
    """
    from glassformer import api
    from glassformer.errors import ConfigError

    loaded = api.load(model)
    loaded.require("language-model")
    if loaded.note:
        remark(f"{model}: {loaded.note}.")
    if loaded.no_tokenizer:
        remark(loaded.no_tokenizer)
    if data == "sort":
        from glassformer.data.sort import CONTEXT_LENGTH, LETTERS
        from glassformer.evaluation.sorting import sort_accuracy

        letters = {letter.encode() for letter in LETTERS}
        tokens = letters if loaded.tokenizer is None else set(loaded.tokenizer.vocab.values())
        fits = loaded.config.vocab_size == len(LETTERS) and loaded.config.context_length >= CONTEXT_LENGTH
        if tokens != letters or not fits:
            raise ConfigError(
                f"{model} is no model that sorts: one has the tokens {', '.join(LETTERS)} and {CONTEXT_LENGTH} "
                f"positions or more. Give a text file instead of the word sort."
            )
        figures: dict[str, int | float] = asdict(sort_accuracy(loaded.module))
    else:
        from glassformer.evaluation.perplexity import loss, read_tokens

        longest = loaded.config.context_length
        if context_length is not None and not 1 <= context_length <= longest:
            raise ConfigError(f"--context-length must be from 1 to {longest}, the model's own, not {context_length}.")
        if batch_size < 1:
            raise ConfigError(f"--batch-size must be at least 1, not {batch_size}.")
        if batches < 0:
            raise ConfigError(f"--batches must be at least 0 (0 takes all), not {batches}.")
        measured = loss(
            loaded.module,
            read_tokens(Path(data), loaded.tokenizer),
            context_length=context_length or longest,
            batch_size=batch_size,
            batches=batches,
        )
        figures = {
            "loss": measured.nats_per_token,
            "perplexity": measured.perplexity,
            "tokens": measured.tokens,
        }
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        shown = f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
        print(f"{name.replace('_', ' '):17} {shown}")
