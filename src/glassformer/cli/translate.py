"""`glassformer translate`: texts into another language, or into whatever an encoder-decoder has learned to write."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cyclopts import App

from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import RUNNING, ContextLength, Running, load
from glassformer.cli.output import new_destination, print_json, progress_bar, read_argument, remark, write_text

app = App(
    name="translate",
    help_epilogue='Example:  glassformer translate runs/multi30k-en-de "A man rides a horse."',
)


@app.default
def translate(
    model: str,
    /,
    *text: str,
    file: Path | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    no_repeat_ngram_size: int | None = None,
    min_length: int | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    out: Path | None = None,
    overwrite: Flag = False,
    context_length: ContextLength = None,
    running: Running = RUNNING,
    json: Flag = False,
) -> None:
    """Translate texts with an encoder-decoder: each argument, each line of a file, or of standard input.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), or preset:NAME for random weights.
    text
        What to translate; without it and without --file, the lines of standard input.
    file
        A file with a text a line, gzipped or not; a line without a word stays so.
    beams
        How many texts the search keeps at each step; 1 takes the most likely token, and a single text streams. This and
        the next three are as the model's generation_config.json says, where it does, and else 4 beams, 1, 0 and 0.
    length_penalty
        A text's score is divided by its length to this power: above 0 favours long texts, below 0 short ones.
    no_repeat_ngram_size
        So many tokens do not come in the same order twice; 0 lets them.
    min_length
        The least tokens that a translation has before it may end, the one that begins it counted.
    max_new_tokens
        Where a translation stops at the latest; by default at twice the source's tokens and 50 more, or at the
        max_length that the model's files say.
    batch_size
        Texts that are translated at once.
    out
        A file for the translations, a line each; by default they go to standard output.
    overwrite
        Replace that file if it is there already.
    json
        Print one JSON object with all texts and their translations.
    """
    from glassformer import files
    from glassformer.data.lines import read_lines
    from glassformer.errors import ConfigError
    from glassformer.inference.beam import Beams
    from glassformer.inference.constraints import Constraints
    from glassformer.kinds.translation import searched

    searched(Beams(), beams, length_penalty)  # what cannot be needs no model to be refused
    asked = {"no_repeat_ngram_size": no_repeat_ngram_size, "min_length": min_length}
    rules: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    Constraints(**rules)
    for name, value in {"--max-new-tokens": max_new_tokens, "--batch-size": batch_size}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    if text and file is not None:
        raise ConfigError("Give texts or --file, not both.")
    if out is None:
        no_effect("without --out", overwrite=overwrite)
    else:
        new_destination(out, overwrite=overwrite, folder=False, reads=[path for path in (model, file) if path])
    texts = list(text) or (list(read_lines(file)) if file is not None else [])
    loaded = load(model, "encoder-decoder", opening=running, context_length=context_length)
    if not texts and file is None:
        texts = standard_input()
    if texts in ([], [""]):
        raise ConfigError("There is nothing to translate.")
    search = searched(loaded.beams, beams, length_penalty)
    pieces = loaded.translations(texts, beams=search, max_new_tokens=max_new_tokens, batch_size=batch_size, **rules)
    streams = search.n_beams == len(texts) == 1 and out is None and not json
    translations, finishes = [""] * len(texts), [""] * len(texts)
    with ExitStack() as stack:
        progress = None if streams else stack.enter_context(progress_bar("translating", len(texts)))
        for piece in pieces:
            translations[piece.sequence] += piece.text
            finishes[piece.sequence] = piece.finish or ""
            if progress is None:
                write_text(piece.text, at_once=True)
            elif piece.finish:
                progress(len(texts) - finishes.count(""))
    lines = "".join(f"{' '.join(line.splitlines())}\n" for line in translations)
    if out is not None:
        files.write_file(out, lines.encode(), overwrite=overwrite)
    elif not json:
        write_text("\n" if streams else lines)
    if json:
        results = zip(texts, translations, finishes, strict=True)
        print_json({"translations": [{"source": s, "translation": t, "finish": f} for s, t, f in results]})
    if endless := len(texts) - finishes.count("stop"):
        remark(f"{endless} of {len(texts)} texts came to no end; --max-new-tokens says how long they may be.")


def standard_input() -> list[str]:
    """The lines that come."""
    if sys.stdin.isatty():
        remark("Write a text a line; Ctrl-D ends them.")
    return read_argument("-").removesuffix("\n").split("\n")
