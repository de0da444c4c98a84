"""A small checkpoint as a stranger would publish it, the tools to spoil it, and the bar for who reads the result."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glassformer.checkpoints.huggingface import save_directory
from glassformer.errors import GlassformerError
from glassformer.models.gpt2 import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=5, context_length=8, d_model=4, n_layers=2, n_heads=2, d_ff=6, tied_head=False)
SECONDS = 2
MEMORY = 200 << 20  # beside three times the size of the files


def publish(folder: Path, config: GPT2Config = CONFIG) -> Path:
    """A folder as the hub has it: config.json and model.safetensors, no manifest."""
    save_directory(GPT2(config), folder)
    for name in ("manifest.json", "glassformer.json", "generation_config.json"):
        (folder / name).unlink()
    return folder


def take_apart(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a folder's weights."""
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put_together(folder: Path, header: object, data: bytes, length: int | None = None) -> None:
    """Write weights with this header, an object or its text, and with this length if it is to be a lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    declared = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(declared.to_bytes(8, "little") + text + data)


def set_config(folder: Path, **settings: object) -> None:
    """Change settings of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@contextmanager
def bounded(path: Path) -> Iterator[None]:
    """The block is done soon, and with little memory for the size of what it reads."""
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
    size = size or (path.stat().st_size if path.is_file() else 0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of memory starts anew
    before, started = memory("VmRSS"), time.process_time()  # of the processor: others may be at work
    yield
    assert time.process_time() - started < SECONDS
    assert memory("VmHWM") - before < 3 * size + MEMORY


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """The block raises a typed error of one line, soon, and with little memory."""
    with bounded(path), pytest.raises(GlassformerError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) < 1000, message


def memory(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
