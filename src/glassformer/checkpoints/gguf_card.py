"""What a GGUF file says about its model, name, authors and licence, as the model card of a folder has it: README.md.

    ---
    license: "apache-2.0"
    language: ["en"]
    ---

Of a card that others wrote, only the lines of its head are read that are a name and a text, or a list of texts; what
stands in other forms of YAML stays in the folder. Next to read: `rest.py`, which carries the card along.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

FIELDS = {  # of GGUF's metadata, and of a card's head as llama.cpp's converter reads it
    "general.name": "name",
    "general.author": "author",
    "general.organization": "organization",
    "general.version": "version",
    "general.license": "license",
    "general.license.name": "license_name",
    "general.license.link": "license_link",
    "general.languages": "language",
    "general.tags": "tags",
}
LISTS = ("general.languages", "general.tags")
LONGEST, MOST = 1 << 10, 1 << 8  # characters of a text, texts of a list
HEAD = re.compile(r"---\r?\n(.{0,65536}?)\n---\s", re.DOTALL)
QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(?:\s+#.*)?""")
LINE = re.compile(r"([a-z_]+):[ \t]*(.*)|- +(.+)")


def card_of(metadata: Mapping[str, Any]) -> bytes | None:
    """The card with what the metadata say; None where they say nothing of it."""
    head: dict[str, Any] = {}
    for field, name in FIELDS.items():
        texts = metadata.get(field)
        texts = texts if isinstance(texts, list) else [texts]
        if texts and len(texts) <= MOST and all(map(_is_text, texts)):
            head[name] = texts if field in LISTS else texts[0]
    if not head:
        return None
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    return "\n".join(["---", *lines, "---", ""]).encode()


def metadata_of(card: bytes) -> dict[str, Any]:
    """The metadata that a card's head says."""
    head = HEAD.match(card.decode(errors="replace"))
    texts_of: dict[str, list[str]] = {}
    for name, text in _entries(head[1] if head else ""):
        texts_of.setdefault(name, []).append(text)
    metadata: dict[str, Any] = {}
    for field, name in FIELDS.items():
        texts = [text for text in texts_of.get(name, []) if _is_text(text)][:MOST]
        if texts and (field in LISTS or len(texts) == 1):
            metadata[field] = texts if field in LISTS else texts[0]
    return metadata


def _entries(head: str) -> Iterator[tuple[str, str]]:
    """The texts in a head with the name that each stands under."""
    name = ""
    for line in head.splitlines():
        match = LINE.fullmatch(line.strip() if line.lstrip().startswith("- ") else line.rstrip())
        if match is None:
            name = "" if line.strip() else name
            continue
        name = match[1] or name
        value = match[2] if match[3] is None else match[3]
        values = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
        yield from ((name, text) for each in values if (text := _plain(each.strip())))


def _plain(value: str) -> str:
    """A text without its quotes and without a comment behind it; nothing of what YAML reads in another way."""
    if (quoted := QUOTED.fullmatch(value)) is not None:
        try:
            return str(json.loads(quoted[1])) if value[0] == '"' else quoted[1][1:-1].replace("''", "'")
        except ValueError:
            return ""
    return "" if re.match(r"[|>&*!%@`{\[\"'#]", value) else re.split(r"\s#", value, maxsplit=1)[0].strip()


def _is_text(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST and text.isprintable()
