"""What every test may ask for: the folder of real data, and seeds."""

import os
import shutil
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests stand side by side, and two threads add up in another order
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub; libraries read this when they are imported

import hypothesis
import jaxtyping
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes, several times what all tests leave


def with_shapes(source: Path) -> list[str]:
    """The modules whose signatures name shapes."""
    files = (file for file in source.rglob("*.py") if "from jaxtyping import" in file.read_text(encoding="utf-8"))
    return [".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__") for file in files]


# Every call of them is checked. mypy sees all that the others have, and checks would take ten times the work there.
jaxtyping.install_import_hook(with_shapes(ROOT / "src"), "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """Tests that draw examples draw the same ones each time, or those of --hypothesis-seed; no clock fails them.

    A shell that starts us in the background lets us, and what we start, ignore SIGINT, and nohup SIGHUP; some tests
    send them. Temporary folders lie in memory where there is room: half of a training test was waiting for the disk.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    same = config.getoption("hypothesis_seed") is None
    hypothesis.settings.register_profile("glassformer", deadline=None, database=None, derandomize=same)
    hypothesis.settings.load_profile("glassformer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The README's tests begin: they train for most of a minute, which one process would do alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: a gzip has the time in it, and no two workers would name a test alike."""
    return argname if isinstance(val, bytes) else None


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("hypothesis_seed")
    return "examples drawn: the same each time" if seed is None else f"examples drawn: by --hypothesis-seed={seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a failure in drawn examples, the command that draws them again."""
    seed = config.getoption("hypothesis_seed")
    failed = [report.nodeid for report in terminalreporter.stats.get("failed", [])]
    if seed is not None and failed:
        full = "GLASSFORMER_FULL=1 " if os.environ.get("GLASSFORMER_FULL") == "1" else ""
        terminalreporter.write_line(f"Again: {full}python -m pytest --hypothesis-seed={seed} '{failed[0]}'")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real weights and corpora: GLASSFORMER_DATA, by default ../shared/data beside the project."""
    folder = Path(os.environ.get("GLASSFORMER_DATA", ROOT.parent / "shared" / "data"))
    if folder.is_dir():
        return folder
    reason = f"real data: there is no folder {folder} (set GLASSFORMER_DATA)"
    if os.environ.get("GLASSFORMER_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user runs it: no type checker stands before our own checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
