"""The command line in a process of its own, which does not import torch anew each time."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STREAMS = ("stdin", "stdout", "stderr")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["glassformer.api", "cyclopts", "rich.progress", "rich.table"])


def run(
    *arguments: str, stdin: str = "", timeout: float = 400, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What `glassformer ARGUMENTS…` gives here and now: in this folder, with this environment and what is added."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stdin").write_text(stdin)
        place = cwd or Path.cwd(), {**os.environ, **environment}
        process = _processes.Process(target=_glassformer, args=(arguments, folder, *place))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        stdout, stderr = ((folder / name).read_text() for name in STREAMS[1:])
        return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _glassformer(arguments: tuple[str, ...], folder: Path, here: Path, environment: dict[str, str]) -> None:
    os.chdir(here)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(STREAMS):
        os.dup2(os.open(folder / name, os.O_RDWR | os.O_CREAT), number)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    sys.argv = ["glassformer", *arguments]
    from glassformer.cli import main

    main()
