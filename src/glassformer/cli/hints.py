"""What was probably meant by a flag that a verb does not have, or by an argument too many."""

import difflib
from collections.abc import Iterable

from cyclopts import CycloptsError
from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

# Names in other programs, and our flags for them: the first one that the verb has is meant.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "--text": ("--prompt", "--input", "--file"),
    "--input": ("--prompt", "--file"),
    "--prompt": ("--input",),
    "--message": ("--prompt",),
    "--system-prompt": ("--system",),
    "--max-tokens": ("--max-new-tokens",),
    "--max-length": ("--max-new-tokens", "--context-length"),
    "--length": ("--max-new-tokens", "--steps"),
    "--num-beams": ("--beams",),
    "--num-return-sequences": ("--n",),
    "--output": ("--out", "--export"),
    "--output-dir": ("--out", "--export", "--runs"),
    "-o": ("--out", "--export"),
    "--force": ("--overwrite",),
    "--epochs": ("--steps",),
    "--max-iters": ("--steps",),
    "--learning-rate": ("--optimizer.lr",),
    "--data": ("--data.path",),
    "--dataset": ("--data.path",),
    "--preset": ("--model.preset",),
    "--checkpoint": ("--model.from", "--resume"),
    "--lang": ("--language",),
    "--gpu": ("--device",),
    "--cuda": ("--device",),
    "--fp16": ("--dtype",),
    "--bf16": ("--dtype",),
    "--precision": ("--dtype",),
    "--pickle": ("--from-pickle",),
    "--width": ("--line-width",),
}
ON_THE_CPU = "The numbers of a recording are computed on the CPU, in float32: leave it out."
NEVER: dict[tuple[str, str], str] = {
    (verb, flag): ON_THE_CPU for verb in ("trace", "explain", "view") for flag in ("--device", "--dtype")
}
OF_TRAIN = ("--resume", "--runs", "--overwrite", "--settings", "--view", "--json")  # besides the settings
TAKES_TEXT = {"trace": "--input", "explain": "--input", "view": "--input"}


def sentence(error: CycloptsError, verb: str) -> str:
    """What was wrong with a command, and which flag its verb has instead."""
    if isinstance(error, UnknownOptionError):
        unknown = (error.token.keyword or error.token.value).split("=", 1)[0]
        flags = [name for argument in error.argument_collection if argument.parse for name in argument.names]
        meant = nearest(unknown, [*flags, *(OF_TRAIN if verb == "train" else ())])
        advice = NEVER.get((verb, unknown)) or (f"Did you mean {meant}?" if meant else f"See {verb} --help.")
        return f"There is no option {unknown} here. {advice}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        word = error.unused_tokens[0]
        flag = TAKES_TEXT.get(verb)
        return f"There is no place for {word!r} here. " + (
            f"Did you mean {flag} {word!r}?" if flag else f"See {verb} --help."
        )
    return f"{' '.join(str(error).split())} See --help."


def nearest(unknown: str, flags: Iterable[str]) -> str:
    """The flag with this name elsewhere, this ending (`--lr`: `--optimizer.lr`) or nearly this spelling, or ""."""
    names = list(dict.fromkeys(flags))
    unknown = unknown.replace("_", "-")
    for name in SYNONYMS.get(unknown, ()):
        if name in names:
            return name
    for name in names:
        if name.startswith("--") and name.rpartition(".")[2] == unknown.lstrip("-"):
            return name
    close = difflib.get_close_matches(unknown, names, n=1)
    tails = {f"--{name.rpartition('.')[2]}": name for name in reversed(names) if "." in name}
    return close[0] if close else next((tails[name] for name in difflib.get_close_matches(unknown, tails, n=1)), "")
