"""The command line, one file a verb: parse, call the facade, print.

`main` is what the `glassformer` command runs; `app.py` lists the verbs.
"""

import io
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line. It always exits: with 2 and one sentence on bad input, and with 130 on Ctrl-C."""
    open_streams()
    try:
        run()
    except KeyboardInterrupt:
        say("Stopped.")
        sys.exit(130)
    sys.exit(0)


def run() -> None:
    """The same without Ctrl-C. It imports late, so that Ctrl-C is heard from the start."""
    from cyclopts import CycloptsError

    from glassformer.cli import hints
    from glassformer.cli.app import app
    from glassformer.cli.failures import ending
    from glassformer.cli.output import remarks
    from glassformer.cli.plugins import load_plugins
    from glassformer.printable import printable

    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        try:
            with remarks():
                if verb not in ("", "doctor") and not {"--help", "-h"} & set(sys.argv):  # doctor reports on them
                    load_plugins()
                app(sys.argv[1:], result_action="return_none")
        finally:
            sys.stdout.flush()  # a full disk is noticed here at the latest
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        drop_output()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("GLASSFORMER_DEBUG"):
            import traceback

            traceback.print_exc()
        if isinstance(error, OSError):
            drop_output()
        sentence, code = (hints.sentence(error, verb), 2) if isinstance(error, CycloptsError) else ending(error, verb)
        say(printable(" ".join(sentence.split())))
        sys.exit(code)


def open_streams() -> None:
    """Make the three streams usable: a closed one is an error for results, and nowhere for the others."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        say("Standard output is closed: send it to a file, or to /dev/null.")
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that is no UTF-8, or a letter that the terminal lacks
            stream.reconfigure(errors="backslashreplace")


def say(sentence: str) -> None:
    """A sentence on standard error, if it takes one."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def drop_output() -> None:
    """Let what is still to be written go nowhere, so that the end of the process does not fail on it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
