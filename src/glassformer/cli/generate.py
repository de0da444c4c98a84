"""`glassformer generate`: continue a text, as it comes."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.choosing import CHOOSING, Choosing
from glassformer.cli.flags import Flag
from glassformer.cli.loading import RUNNING, ContextLength, Running, load
from glassformer.cli.output import print_json, print_line, read_argument, remark, write_text

app = App(
    name="generate",
    help_epilogue="Example:  glassformer generate runs/sort --prompt CBABBC --temperature 0",
)

MAX_SCHEMA_BYTES = 1 << 20


@app.default
def generate(
    model: str,
    text: str | None = None,
    /,
    *,
    prompt: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    chat: Flag = False,
    n: int = 1,
    max_new_tokens: int | None = None,
    endless: Flag = False,
    choosing: Choosing = CHOOSING,
    cache: str = "full",
    stop: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    draft: str | None = None,
    lookup: Flag = False,
    n_drafted: int | None = None,
    regex: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    json_schema: Path | None = None,
    context_length: ContextLength = None,
    running: Running = RUNNING,
    json: Flag = False,
) -> None:
    """Continue a text with a language model; what comes streams to standard output.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name, org/name@REVISION or
        org/name/model.gguf), nano-sort, or preset:NAME for random weights.
    text
        The text to continue.
    prompt
        The same as a flag, for a text that begins with a hyphen; - reads it from standard input.
    chat
        The text is a message, which the model answers by its chat template; without it, special tokens that the model
        writes are shown.
    n
        How many continuations, each with a seed of its own; several answers are drawn as continuations are.
    max_new_tokens
        Where to stop at the latest: by default after 256 tokens, with --endless nowhere.
    endless
        Go on past the end of a text, until Ctrl-C or until the context is full.
    cache
        full, window:N (the N latest tokens) or sinks:K+N (the first K and the N latest ones): how the text can go on
        beyond the model's context.
    stop
        End before this text; can be given several times.
    draft
        A smaller model of the same vocabulary, which guesses what comes: the model itself verifies several guesses in
        one pass, and its text comes sooner, with the same distribution.
    lookup
        Guess what has followed the latest tokens where they came before, as when a text is summed up or corrected.
    n_drafted
        How many tokens are guessed at once: by default 4 by a model, 8 by --lookup.
    regex
        What comes is a text that this regular expression matches as a whole (extra guided).
    json_schema
        What comes is JSON that the schema in this file describes (extra guided).
    json
        Print one JSON object with all continuations, at the end.
    """
    from glassformer.errors import GenerationError
    from glassformer.inference.chat import without_margin

    settings = choosing.settings()
    if not 1 <= n <= 1024:
        raise GenerationError(f"must be from 1 to 1024, not {n}.", setting="n")
    if max_new_tokens is None:
        max_new_tokens = sys.maxsize if endless else 256
    if max_new_tokens < 1:
        raise GenerationError(f"must be at least 1, not {max_new_tokens}.", setting="max_new_tokens")
    if text is not None and prompt is not None:
        raise GenerationError("Give the text once: behind the model, or as --prompt.")
    loaded = load(model, "language-model", opening=running, context_length=context_length)
    begin = read_argument(text or prompt or "")
    prompts: list[str | tuple[int, ...]] = [begin] * n
    end_ids: frozenset[int] = frozenset()
    if chat:
        begin = begin.strip()
        if not begin:
            raise GenerationError("With --chat, a text must be given: it is the message.")
        tokens, end_ids = loaded.chat_prompt([{"role": "user", "content": begin}])
        prompts = [tokens] * n
    sampling, constraints = loaded.chosen_by(settings, answers=chat and n == 1)
    drafting = None if draft is None else load(draft, "language-model", opening=running)
    drafter = loaded.drafter(drafting, lookup=lookup, n_drafted=n_drafted)
    if drafter is not None and cache != "full":
        remark(f"Old tokens leave the cache {cache} once it is full, and nothing is drafted from then on.")
    schema = None if json_schema is None else read_schema(json_schema)
    guide = loaded.guide(regex, schema, end_ids=end_ids, ignore_eos=endless)
    pieces = loaded.stream(
        prompts,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        constraints=constraints,
        cache=cache,
        stop=stop,
        end_ids=end_ids,
        ignore_eos=endless,
        special=not chat,
        drafter=drafter,
        guide=guide,
    )
    if chat:
        pieces = without_margin(pieces)
    texts = [""] * n
    finishes: list[str] = ["interrupted"] * n
    show = n == 1 and not json
    before = "" if chat else begin
    if show:
        write_text(before, at_once=True)
    started = time.perf_counter()
    interrupted = False
    try:
        for piece in pieces:
            if show:
                write_text(piece.text, at_once=True)
            else:
                texts[piece.sequence] += piece.text
            finishes[piece.sequence] = piece.finish or finishes[piece.sequence]
    except KeyboardInterrupt:  # what has come is shown all the same
        interrupted = True
    finally:
        if show:
            write_text("\n", at_once=True)
    speculation = None if drafter is None else drafter.speculation
    if json:
        results = [{"text": t, "finish": f} for t, f in zip(texts, finishes, strict=True)]
        seconds = {"seconds": round(time.perf_counter() - started, 3)}
        print_json({"prompt": begin, "results": results, **seconds, **(asdict(speculation) if speculation else {})})
    elif not show:
        for number, continuation in enumerate(texts, 1):
            print_line(f"--- {number}")
            write_text(f"{before}{continuation}\n")
    if interrupted:
        raise KeyboardInterrupt
    if speculation is not None and not json:
        remark(f"Tokens drafted: {speculation.drafted}, of which accepted: {speculation.accepted}.")
    if guide is not None and set(finishes) & {"length", "context"}:
        remark("The text was cut short, and what there is of it may not be what was asked for: --max-new-tokens.")
    if "context" in finishes and not json:
        length = loaded.config.context_length
        remark(
            f"The text ends here: the model's context of {length} tokens is full. "
            f"To go on beyond it, let old tokens leave: --cache sinks:4+{max(length - 4, 1)}"
        )


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON schema in a file."""
    from glassformer import strict_json
    from glassformer.errors import DataError

    try:
        size = path.stat().st_size
        if size > MAX_SCHEMA_BYTES:
            raise DataError(f"{path} has {size:,} bytes; at most {MAX_SCHEMA_BYTES:,} are read of a JSON schema.")
        return strict_json.parse(path.read_bytes(), str(path), error=DataError)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
