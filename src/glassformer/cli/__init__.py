"""The command line. `main` is what the `glassformer` command runs; `app.py` lists the verbs."""

import os
import sys


def main() -> None:
    """Run the command line; exit with 2 and one sentence on bad input, and with 130 on Ctrl-C."""
    try:
        run()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def run() -> None:
    """The same without the ends that come from outside. It imports late, so that Ctrl-C is heard from the start."""
    from cyclopts import CycloptsError

    from glassformer.cli.app import app
    from glassformer.cli.output import remarks
    from glassformer.errors import GlassformerError

    try:
        with remarks():
            app()
    except (GlassformerError, CycloptsError) as error:
        where_help_is = " See --help." if isinstance(error, CycloptsError) else ""
        print(" ".join(str(error).split()) + where_help_is, file=sys.stderr)
        sys.exit(2)
