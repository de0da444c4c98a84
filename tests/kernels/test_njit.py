"""The helper that compiles kernels: when they are used, onto the disk, in two processes at once, not in silence."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from glassformer import kernels

SOURCE = Path(__file__).resolve().parents[2] / "src"
TOY = """
from glassformer.kernels import njit

@njit
def total(numbers):
    sum = 0
    for number in numbers:
        sum += number
    return sum
"""


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(SOURCE), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_compile_at_once_leave_code_that_a_third_loads(tmp_path: Path) -> None:
    package = tmp_path / "glassformer_toy.py"
    package.write_text(TOY)
    call = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy as np; from glassformer_toy import total\n"
        "print(total(np.arange(5)), total.stats.cache_hits and 'loaded' or 'compiled')"
    )
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    outputs = [process.communicate() for process in [python(call, **cache) for _ in range(2)]]
    assert [output.split()[0] for output, _ in outputs] == ["10", "10"], outputs
    assert python(call, **cache).communicate() == ("10 loaded\n", "")


def test_on_a_full_disk_code_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "glassformer_toy.py").write_text(TOY)
    code = (
        f"import shutil, sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy as np\n"
        "shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1 << 30, 1 << 30, 4096)\n"
        "from glassformer_toy import total; print(total(np.arange(5)))"
    )
    cache = tmp_path / "not" / "yet"
    assert python(code, NUMBA_CACHE_DIR=str(cache)).communicate() == ("10\n", "")
    assert not list(tmp_path.rglob("*.nb?"))


def test_without_numba_a_kernel_is_an_import_error_that_says_so() -> None:
    code = (
        "import sys; import glassformer.kernels, glassformer.tokenizers; print('numba' in sys.modules)\n"
        "sys.modules['numba'] = None; glassformer.kernels.njit(print)"
    )
    output, errors = python(code).communicate()
    assert output == "False\n"
    assert errors.splitlines()[-1] == "ImportError: numba is not installed"


def event(module: str, is_start: bool) -> SimpleNamespace:
    dispatcher = SimpleNamespace(py_func=SimpleNamespace(__module__=module))
    return SimpleNamespace(data={"dispatcher": dispatcher}, is_start=is_start)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_compiling_that_takes_long_is_said_once_at_a_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setattr(kernels, "SLOW", 0.0)
    announcement = kernels._Announcement()
    for module in ("other.kernels", "glassformer.kernels.split", "glassformer.kernels.bpe"):
        announcement.notify(event(module, True))
        if announcement._timer is not None:
            announcement._timer.join()
        announcement.notify(event(module, False))
    assert capsys.readouterr().err.count("Compiling") == is_terminal


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it, also where a shell that runs the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("n_inner", [0, 1, 2])
def test_ctrl_c_waits_until_the_function_in_progress_is_compiled(n_inner: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    late = kernels._LateInterrupt()
    start, end = (event("glassformer.kernels.bpe", is_start) for is_start in (True, False))
    late.notify(start)
    for _ in range(n_inner):
        late.notify(start)
        late.notify(end)
    signal.raise_signal(signal.SIGINT)
    if n_inner:
        with pytest.raises(KeyboardInterrupt):
            late.notify(start)
        late.notify(end)  # numba says also of what did not begin that it has ended
        late.notify(end)
    else:
        with pytest.raises(KeyboardInterrupt):
            late.notify(end)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("ctrl_c")
def test_who_has_ctrl_c_ignored_since_an_earlier_kernel_has_it_ignored_after_a_later_one() -> None:
    late = kernels._LateInterrupt()
    start, end = (event("glassformer.kernels.bpe", is_start) for is_start in (True, False))
    late.notify(start)
    late.notify(end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    late.notify(start)
    late.notify(end)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_held_where_a_start_before_was_missed() -> None:
    late = kernels._LateInterrupt()
    start, end = (event("glassformer.kernels.bpe", is_start) for is_start in (True, False))
    for each in (end, start):
        late.notify(each)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        late.notify(end)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, 5, 6, 7, 8, 9, 10, 12])
def test_ctrl_c_while_kernels_are_compiled_shows_the_text_that_has_come(
    seconds: int, data_dir: Path, tmp_path: Path
) -> None:
    model = str(data_dir / "llama" / "stories260K.bin")
    command = [sys.executable, "-m", "glassformer", "generate", model, "--cache", "window:64", "--endless"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    while sum(watched.cpu_times()[:2]) < seconds:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (130, "Stopped.")
    assert len(out) > 20
