"""The fast twin of `special_tokens.py`: all tokens at once, by an automaton (`kernels/special_tokens.py`)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from glassformer.kernels import special_tokens as kernels
from glassformer.kernels.split_text import count_characters


def find(text: str, longest_first: tuple[str, ...]) -> Sequence[tuple[int, int]]:
    """Begin and end of each special token."""
    automaton = _automaton(longest_first)
    data = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)
    lengths = np.empty(len(data), np.uint16)
    kernels.mark(data, automaton, lengths)
    spans = np.empty((kernels.list_spans(lengths, np.empty((0, 2), np.int64)), 2), np.int64)
    kernels.list_spans(lengths, spans)
    if len(data) != len(text):
        count_characters(data, spans.reshape(-1))
    return [(begin, end) for begin, end in spans.tolist()]


@lru_cache(maxsize=16)
def _automaton(longest_first: tuple[str, ...]) -> kernels.Automaton:
    return kernels.automaton_of([token.encode() for token in longest_first])
