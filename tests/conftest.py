"""What every test may ask for: the folder of real data, and seeds."""

import os
import signal
from pathlib import Path

import jaxtyping
import pytest
import torch


def pytest_configure() -> None:
    """A shell that starts us in the background lets us, and what we start, ignore SIGINT, which some tests send."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real weights and corpora: GLASSFORMER_DATA, by default ../shared/data beside the project."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GLASSFORMER_DATA", root.parent / "shared" / "data"))
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
