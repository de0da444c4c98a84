"""JSON from strangers: bounded before it is parsed, and with one meaning only."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from glassformer.errors import CheckpointCorrupt, GlassformerError

MAX_BYTES = 16 << 20
MAX_VALUES = 1 << 19  # the largest value, a small object, takes some 250 bytes of memory


def read(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a file."""
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointCorrupt(f"{path.name} has {size:,} bytes; at most {max_bytes:,} are read here.")
    return parse(path.read_bytes(), path.name)


def parse(
    data: bytes, where: str, *, max_values: int = MAX_VALUES, error: type[GlassformerError] = CheckpointCorrupt
) -> dict[str, Any]:
    """The object in a text.

    A repeated key, a key that is no Unicode text, a number that is none, or too much of anything is an `error`.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > max_values:
        raise error(f"{where} holds more than {max_values:,} values.")
    try:
        content = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )
    except RecursionError:
        raise error(f"{where} is not valid JSON: it is nested too deeply.") from None
    except ValueError as reason:
        raise error(f"{where} is not valid JSON: {reason}.") from None
    if not isinstance(content, dict):
        raise error(f"{where} must hold a JSON object, not a {type(content).__name__}.")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = counts.most_common(1)[0][0]
        raise ValueError(f"the key {repeated[:80]!r} comes twice")
    "".join(content).encode()  # surrogates are a ValueError
    return content


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:80]} is too large")
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")
