"""The fast twin of `pretokenize.py`: patterns as state machines (`kernels/split.py`, `kernels/split_text.py`)."""

from itertools import pairwise

import numpy as np

from glassformer.kernels import split_text as kernels
from glassformer.kernels.split import CODES
from glassformer.kernels.unicode_classes import class_table

WHOLE = np.empty(0, np.uint64)  # pre-tokens are not cut


def split(text: str, name: str) -> list[str]:
    """The pre-tokens of a text by a published pattern; joined, they are the text."""
    data = np.frombuffer(text.encode(errors="replace"), np.uint8)  # "?" is cut as a surrogate is
    ends = np.empty(len(data) + kernels.MORE_ENDS, np.int64)
    ends = ends[: kernels.split(data, 0, len(data), False, CODES[name], class_table(), WHOLE, ends)]
    if len(data) != len(text):
        kernels.count_characters(data, ends)
    return [text[start:end] for start, end in pairwise([0, *ends.tolist()])]
