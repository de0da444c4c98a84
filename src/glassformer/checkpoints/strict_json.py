"""JSON from strangers: bounded before it is parsed, and with one meaning only."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from glassformer.errors import CheckpointCorrupt

MAX_BYTES = 16 << 20
MAX_VALUES = 1 << 19  # the largest value, a small object, takes some 250 bytes of memory


def read(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a file."""
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointCorrupt(f"{path.name} has {size:,} bytes; at most {max_bytes:,} are read here.")
    return parse(path.read_bytes(), path.name)


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The object in a text; a repeated key, a number that is none, or too much of anything is an error."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise CheckpointCorrupt(f"{where} holds more than {MAX_VALUES:,} values.")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"{where} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise CheckpointCorrupt(f"{where} must hold a JSON object, not a {type(content).__name__}.")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = counts.most_common(1)[0][0]
        raise ValueError(f"the key {repeated[:80]!r} comes twice")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")
