"""The command line: `run` in this process, and `run_process` where a process of its own is what is tested."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jaxtyping
import numpy as np
import torch

STREAMS = ("stdin", "stdout", "stderr")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["glassformer.api", "cyclopts", "rich.progress", "rich.table"])


def run(
    *arguments: str, stdin: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What `glassformer ARGUMENTS…` gives in this folder, with this environment and what is added.

    It runs in this process, which saves the seconds of a new one's imports, and afterwards everything that a process
    has to itself is as it was: descriptors, folder, environment, signals, warnings and random numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stdin").write_text(stdin, encoding="utf-8")
        with _as_in_a_new_process(cwd or Path.cwd(), environment), _streams(Path(folder)):
            code = _main(arguments)
        return subprocess.CompletedProcess(arguments, code, *_written(Path(folder)))


def run_process(
    *arguments: str, stdin: str = "", timeout: float = 400, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, forked from one that has imported torch; killed after `timeout` seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stdin").write_text(stdin, encoding="utf-8")
        place = cwd or Path.cwd(), {**os.environ, **environment}
        process = _processes.Process(target=_glassformer, args=(arguments, folder, *place))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, process.exitcode, *_written(folder))


def _main(arguments: tuple[str, ...]) -> int:
    """Run the command line; return what would be the exit code of its process."""
    from glassformer.cli import main

    sys.argv = ["glassformer", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _written(folder: Path) -> list[str]:
    return [(folder / name).read_text(encoding="utf-8") for name in STREAMS[1:]]


@contextmanager
def _streams(folder: Path) -> Iterator[None]:
    """Descriptors 0 to 2 are files of `folder`, for Python and for libraries in C."""
    saved = [(os.dup(number), getattr(sys, name)) for number, name in enumerate(STREAMS)]
    for _, stream in saved[1:]:
        stream.flush()
    _open_streams(folder)
    try:
        yield
    finally:
        for number, (name, (descriptor, stream)) in enumerate(zip(STREAMS, saved, strict=True)):
            getattr(sys, name).close()
            setattr(sys, name, stream)
            os.dup2(descriptor, number)
            os.close(descriptor)


def _open_streams(folder: Path) -> None:
    for number, name in enumerate(STREAMS):
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def _as_in_a_new_process(cwd: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process's own state is a user's within, without our type checker, and afterwards as it was before."""
    with ExitStack() as after:
        for number in SIGNALS:
            after.callback(signal.signal, number, signal.getsignal(number))
        after.callback(setattr, sys, "argv", sys.argv)
        after.callback(random.setstate, random.getstate())
        after.callback(np.random.set_state, np.random.get_state())
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.enter_context(torch.random.fork_rng())
        torch.manual_seed(0)
        after.callback(os.environ.update, dict(os.environ))
        after.callback(os.environ.clear)
        os.environ.update(environment)
        after.callback(os.chdir, Path.cwd())
        os.chdir(cwd)
        after.callback(jaxtyping.config.update, "jaxtyping_disable", jaxtyping.config.jaxtyping_disable)
        jaxtyping.config.update("jaxtyping_disable", True)
        after.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _print_warning
        yield


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _glassformer(arguments: tuple[str, ...], folder: Path, cwd: Path, environment: dict[str, str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _open_streams(folder)
    sys.exit(_main(arguments))
