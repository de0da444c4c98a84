"""A text as words, for vectors of words: what is written together in letters, in lower case.

Digits, punctuation and what else there is only part words; an apostrophe within a word belongs to it. Next to read:
`training/tasks/word_vectors.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import regex
from jaxtyping import Int

from glassformer.data.text import read_text
from glassformer.errors import DataError
from glassformer.tokenizers.pretokenize import LONGEST

WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")


def words_of(paths: Sequence[Path]) -> Iterator[list[str]]:
    """The words of texts of any size, some at a time.

    >>> WORD.findall("don't stop, 2nd o'clock")
    ["don't", 'stop', 'nd', "o'clock"]
    """
    for path in paths:
        tail = ""
        for chunk in read_text(path):
            text = tail + chunk
            end = max(text.rfind(" "), text.rfind("\n")) + 1
            yield WORD.findall(text[:end].lower())
            tail = text[end:]
            if len(tail) > LONGEST:
                raise DataError(
                    f"{path} has {len(tail):,} characters in a row, from {tail[:20]!r} on, without a space or the end "
                    f"of a line; {LONGEST:,} are allowed."
                )
        yield WORD.findall(tail.lower())


def count_words(paths: Sequence[Path]) -> Counter[str]:
    """How often each word comes."""
    counts: Counter[str] = Counter()
    for words in words_of(paths):
        counts.update(words)
    return counts


def numbers_of(paths: Sequence[Path], ids: Mapping[str, int]) -> Int[np.ndarray, " N"]:
    """The texts as the ids of their words; others are left out, so that those around them are neighbours."""
    arrays = [np.array([ids[word] for word in words if word in ids], dtype=np.int64) for words in words_of(paths)]
    return np.concatenate(arrays)
