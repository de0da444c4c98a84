"""How often each pre-token of a corpus occurs: a mapping that lies in arrays, as kernels write and read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PreTokenCounts(Mapping[bytes, int]):
    """Pre-tokens side by side in `text`, where each ends, and how often it occurs; no pre-token is there twice."""

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, words: Mapping[bytes, int]) -> "PreTokenCounts":
        """Any mapping, in arrays."""
        if isinstance(words, cls):
            return words
        text = np.frombuffer(b"".join(words), np.uint8)
        ends = np.cumsum([len(word) for word in words], dtype=np.int64)
        return cls(text, ends, np.array(list(words.values()), np.int64))

    def __iter__(self) -> Iterator[bytes]:
        text = self.text.tobytes()
        return (text[start:end] for start, end in pairwise([0, *self.ends.tolist()]))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, word: bytes) -> int:
        return self._in_a_dict[word]

    @cached_property
    def _in_a_dict(self) -> dict[bytes, int]:
        return dict(zip(self, self.counts.tolist(), strict=True))
