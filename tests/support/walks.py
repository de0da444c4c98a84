"""The ways through the house that `docs/architecture.md` tells, stop by stop, and those that a call takes."""

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def stops(title: str) -> list[str]:
    """The names that the list under a heading gives, at most ten."""
    section = ARCHITECTURE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    names = re.findall(r"^\d+\. `([\w.]+)`:", section, re.MULTILINE)
    assert 8 <= len(names) <= 10
    return names


def walked(names: list[str], call: Callable[[], object]) -> list[str]:
    """Those of the names that run during a call, each as often as it is called."""
    codes = {code_of(name): name for name in names}
    frames: dict[FrameType, str] = {}  # a generator is entered several times, and is one

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in codes:
            frames.setdefault(frame, codes[frame.f_code])

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(frames.values())


def code_of(name: str) -> CodeType:
    """What runs when the function, or the class, of this name is called."""
    called = pkgutil.resolve_name(f"glassformer.{name}")
    code: CodeType = inspect.unwrap(called.__init__ if inspect.isclass(called) else called).__code__
    return code
