"""How a command that fails ends: with one sentence and an exit code, whatever was raised.

2    what was asked for cannot be done, and the sentence says what can
70   a fault of glassformer's own; GLASSFORMER_DEBUG=1 shows the stack, here and for every other error
"""

import errno
import os
import re

# The flags of each verb that make its work smaller.
SMALLER = {
    "generate": "a smaller --n, or a --cache such as window:1024",
    "chat": "a --cache such as window:1024",
    "translate": "a smaller --batch-size, or fewer --beams",
    "classify": "a smaller --batch-size",
    "evaluate": "a smaller --batch-size, or a --limit",
    "train": "a smaller --batch-size, or a smaller --context-length",
    "trace": "a shorter --input, or some --modules only",
    "explain": "a shorter --input",
    "view": "a shorter --input, or fewer --steps",
    "tokenizer": "a smaller file",
}
# How torch says that memory is not there, or that no memory could hold so much.
OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|not enough memory|out of memory|can't allocate memory|bad_alloc|Storage size calculation "
    "overflowed|integer multiplication overflow|negative dimension|Trying to create tensor with negative",
    re.IGNORECASE,
)
WANTED = re.compile(r"allocate (\d+) bytes|(?:allocate|allocate memory:) ([\d.]+ [KMGTPE]iB)")
FAULT_OF_OURS = 70  # EX_SOFTWARE of sysexits.h
SHOW = "With GLASSFORMER_DEBUG=1 before the command it shows where"


def ending(error: BaseException, verb: str) -> tuple[str, int]:
    """The sentence for this error and the exit code of the command."""
    from glassformer.cli.plugins import plugins
    from glassformer.errors import GlassformerError

    if isinstance(error, GlassformerError):
        return error.at_command_line(), 2
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
        return out_of_memory(str(error), verb), 2
    if isinstance(error, RecursionError):
        return "What was read here is nested too deeply to be followed.", 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no room left on the disk for {error.filename or 'the output'}: make some, and try again.", 2
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror}.", 2
    first = str(error).strip().partition("\n")[0][:200]
    what = f"{type(error).__name__}{first and f', {first}'}"
    if names := [plugin.value for plugin in plugins()]:
        return (
            f"This is a fault of a plugin ({', '.join(names)}), or of glassformer's own: {what}. {SHOW}.",
            FAULT_OF_OURS,
        )
    return f"This is a fault of glassformer's own, not of yours: {what}. {SHOW}; please report it.", FAULT_OF_OURS


def out_of_memory(told: str, verb: str) -> str:
    """How much was asked for and how much there is, where that is known, and what makes the work smaller."""
    match = WANTED.search(told)
    wanted = "" if match is None else f" of {match[2]}" if match[2] else f" of {int(match[1]) / 1e9:,.1f} GB"
    names = getattr(os, "sysconf_names", {})
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else 0
    has = f", of which {free / 1e9:,.1f} GB are free here" if free and wanted else ""
    advice = f": try {SMALLER[verb]}" if verb in SMALLER else ": try a smaller model"
    return f"This needs more memory than there is: a piece{wanted or ' of it could not be had'}{has}{advice}."
