"""`glassformer generate`: continue a text, as it comes."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.choosing import CHOOSING, Choosing
from glassformer.cli.flags import Flag, no_effect
from glassformer.cli.loading import RUNNING, ContextLength, Running, load
from glassformer.cli.output import print_json, print_line, read_argument, remark, write_text

if TYPE_CHECKING:
    from glassformer.api import Model
    from glassformer.inference.continuations import Continuation

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
    best_of: int | None = None,
    beams: int | None = None,
    logprobs: int | None = None,
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
    best_of
        Draw so many, and show the --n of which the tokens are likeliest, by the mean of log p.
    beams
        Search for the likeliest text with so many beams, instead of drawing; shows the --n best.
    logprobs
        With --json, log p of each token (nats, before the temperature), and of so many of the likeliest in its place.
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
    from glassformer.inference.constraints import OF_CALLS

    settings = choosing.settings()
    if not 1 <= n <= 1024:
        raise GenerationError(f"must be from 1 to 1024, not {n}.", setting="n")
    if max_new_tokens is None:
        max_new_tokens = sys.maxsize if endless else 256
    if max_new_tokens < 1:
        raise GenerationError(f"must be at least 1, not {max_new_tokens}.", setting="max_new_tokens")
    if text is not None and prompt is not None:
        raise GenerationError("Give the text once: behind the model, or as --prompt.")
    if beams is not None and not 1 <= beams <= 1024:
        raise GenerationError(f"must be from 1 to 1024, not {beams}.", setting="beams")
    if beams is not None:
        drawn = {name: name for name in settings if name not in (*OF_CALLS, "seed")}
        no_effect("with --beams, where nothing is drawn", **drawn, seed=choosing.seed)
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
    sampling, constraints = loaded.chosen_by(settings, answers=chat and max(n, best_of or 1) == 1)
    drafting = None if draft is None else load(draft, "language-model", opening=running)
    drafter = loaded.drafter(drafting, lookup=lookup, n_drafted=n_drafted)
    if drafter is not None and cache != "full":
        remark(f"Old tokens leave the cache {cache} once it is full, and nothing is drafted from then on.")
    schema = None if json_schema is None else read_schema(json_schema)
    guide = loaded.guide(regex, schema, end_ids=end_ids, ignore_eos=endless)
    before = "" if chat else begin
    shared: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "sampling": sampling,
        "constraints": constraints,
        "cache": cache,
        "stop": stop,
        "end_ids": end_ids,
        "special": not chat,
        "drafter": drafter,
        "guide": guide,
    }
    if best_of is not None or beams is not None or logprobs is not None:
        if endless:
            raise GenerationError("Texts that are compared have an end: leave out --endless.")
        if logprobs is not None and not json:
            raise GenerationError("is for --json.", setting="logprobs")
        search = None if beams is None else replace(loaded.beams, n_beams=beams)
        started = time.perf_counter()
        ranked = loaded.continuations(prompts[0], n=n, best_of=best_of, beams=search, logprobs=logprobs or 0, **shared)
        seconds = round(time.perf_counter() - started, 3)
        if json:
            results = [ranked_json(each, loaded, logprobs is not None) for each in ranked]
            print_json({"prompt": begin, "results": results, "seconds": seconds})
        else:
            print_texts([before + each.text for each in ranked])
        return
    pieces = loaded.stream(prompts, ignore_eos=endless, **shared)
    if chat:
        pieces = without_margin(pieces)
    texts = [""] * n
    finishes: list[str] = ["interrupted"] * n
    show = n == 1 and not json
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
        counts = asdict(speculation) if speculation else {}
        seconds = round(time.perf_counter() - started, 3)
        print_json({"prompt": begin, "results": results, "seconds": seconds, **counts})
    elif not show:
        print_texts([before + each for each in texts], numbered=True)
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


def print_texts(texts: Sequence[str], *, numbered: bool = False) -> None:
    """Texts, with numbers where there are several."""
    for number, text in enumerate(texts, 1):
        if numbered or len(texts) > 1:
            print_line(f"--- {number}")
        write_text(f"{text}\n")


def ranked_json(each: "Continuation", model: "Model", with_tokens: bool) -> dict[str, Any]:
    """A continuation with its score, and perhaps its tokens and those that were likeliest in their place."""
    result: dict[str, Any] = {"text": each.text, "finish": each.finish, "score": each.score}
    if with_tokens and model.tokenizer is not None:
        decode = model.tokenizer.decode
        result["tokens"] = [
            {
                "id": new.token,
                "text": decode([new.token]),
                "logprob": new.logprob,
                "likeliest": [{"id": id, "text": decode([id]), "logprob": p} for id, p in new.likeliest],
            }
            for new in each.tokens
        ]
    return result


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
