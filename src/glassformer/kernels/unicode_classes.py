"""What split patterns tell characters apart by: eight classes, from the table `unicode_classes.txt`.

Each class is a bit, so that a set of classes is a number too: `letters = UPPER | LOWER | CASELESS`. The table is of the
Unicode version that its first line names; `tools/unicode_classes.py` writes it.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OTHER = 1
UPPER = 2  # Lu and Lt
LOWER = 4  # Ll
CASELESS = 8  # Lm and Lo
MARK = 16  # M
NUMBER = 32  # N
SPACE = 64  # White_Space but for the next two
NEWLINE = 128  # \r and \n
CODES = 0x110000
PAGE = 128  # code points that share a page number
N_PAGES = CODES // PAGE
FILE = Path(__file__).with_suffix(".txt")


def read_classes() -> NDArray[np.uint8]:
    """The class of every code point. A line of the table has the first of a span of one class, and this class."""
    lines = [line.split() for line in FILE.read_text("ascii").splitlines() if not line.startswith("#")]
    firsts = [int(first, 16) for first, _ in lines]
    classes = np.array([int(class_) for _, class_ in lines], np.uint8)
    return np.repeat(classes, np.diff([*firsts, CODES]))


@cache
def class_table() -> NDArray[np.uint8]:
    """The same in 40 KB: of every 128 code points the number of their page, then the pages, each once.

    The class of a code point is `table[N_PAGES + PAGE * table[code // PAGE] + code % PAGE]`. Page 0 is ASCII.
    """
    rows = read_classes().reshape(N_PAGES, PAGE)
    numbers: dict[bytes, int] = {}
    of_row = [numbers.setdefault(row.tobytes(), len(numbers)) for row in rows]
    return np.frombuffer(bytes(of_row) + b"".join(numbers), np.uint8)
