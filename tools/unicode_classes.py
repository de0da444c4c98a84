"""The classes of characters that split patterns tell apart, by `regex`. Run: python tools/unicode_classes.py

It writes the table that `kernels/unicode_classes.py` reads; tests/kernels/test_unicode_classes.py compares the two.
"""

import importlib.metadata
import re

import regex

from glassformer.kernels import unicode_classes
from glassformer.kernels.unicode_classes import CASELESS, CODES, FILE, LOWER, MARK, NEWLINE, NUMBER, SPACE, UPPER

CLASSES = {
    UPPER: r"[\p{Lu}\p{Lt}]",
    LOWER: r"\p{Ll}",
    CASELESS: r"[\p{Lm}\p{Lo}]",
    MARK: r"\p{M}",
    NUMBER: r"\p{N}",
    SPACE: r"[^\S\r\n]",
    NEWLINE: r"[\r\n]",
}


def classes() -> list[int]:
    """The class of every code point."""
    text = "".join(map(chr, range(CODES)))
    of_code = [unicode_classes.OTHER] * CODES
    for number, pattern in CLASSES.items():
        for match in regex.finditer(pattern, text):
            of_code[match.start()] = number
    return of_code


def unicode_version() -> str:
    """The version of Unicode that the description of `regex` names."""
    description = str(importlib.metadata.metadata("regex").json["description"])
    match = re.search(r"Unicode (\d+\.\d+\.\d+)", description)
    assert match is not None
    return match[1]


def main() -> None:
    """Write the table."""
    of_code = classes()
    firsts = [code for code in range(CODES) if code == 0 or of_code[code] != of_code[code - 1]]
    head = f"# Unicode {unicode_version()}: the first code point of each span, and its class (unicode_classes.py)"
    FILE.write_text("\n".join([head, *(f"{first:x} {of_code[first]}" for first in firsts), ""]), "ascii")


if __name__ == "__main__":
    main()
