"""The way from a configuration to the first step is the one that `docs/architecture.md` tells."""

import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from glassformer.training.events import Event, StepDone
from glassformer.training.load_config import load_run_config
from glassformer.training.loop import train
from training.runs import TEXT

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
CONFIG = """
batch_size = 2
steps = 1
eval_interval = 0
[model]
architecture = "gpt2"
context_length = 8
d_model = 8
n_layers = 1
n_heads = 1
[data]
path = "{path}"
"""


def stops() -> list[str]:
    """The names that the list gives."""
    section = ARCHITECTURE.read_text().split("## From a configuration to the first step")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w.]+)`:", section, re.MULTILINE)


def code_of(name: str) -> CodeType:
    """What runs when the function, or the class, of this name is called."""
    called = pkgutil.resolve_name(f"glassformer.{name}")
    code: CodeType = inspect.unwrap(called.__init__ if inspect.isclass(called) else called).__code__
    return code


def test_each_stop_is_called_once_and_in_order(tmp_path: Path) -> None:
    names = {code_of(name): name for name in stops()}
    assert 8 <= len(names) <= 10
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "run.toml").write_text(CONFIG.format(path=tmp_path / "text.txt"))
    frames: dict[FrameType, str] = {}  # a generator is entered several times, and is one

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in names:
            frames.setdefault(frame, names[frame.f_code])

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            sys.setprofile(None)

    sys.setprofile(note)
    try:
        train(load_run_config(tmp_path / "run.toml"), tmp_path / "run", on_event=listen)
    finally:
        sys.setprofile(None)
    assert list(frames.values()) == stops()
