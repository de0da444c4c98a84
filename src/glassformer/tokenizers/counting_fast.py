"""The fast twin of `counting.py`: pre-tokens are counted by a kernel (`kernels/count.py`), in threads.

Files are read in blocks and not mapped into memory: a block stays in the processor's cache while it is cut and counted,
memory does not grow with the file, and a file that shrinks meanwhile is a file that ends, not a crash.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import count as kernels
from glassformer.kernels.special_tokens import automaton_of, mark
from glassformer.kernels.split import CODES
from glassformer.kernels.unicode_classes import class_table
from glassformer.tokenizers import pretokenize
from glassformer.tokenizers.corpus import FileSpan
from glassformer.tokenizers.pre_token_counts import PreTokenCounts
from glassformer.tokenizers.span_reader import SpanReader
from glassformer.tokenizers.vocabulary import special_bytes
from glassformer.workers import in_threads

READ_BYTES = 1 << 19
LONGEST_CHARACTER = 4  # bytes
SLOTS = 1 << 16  # of a table, at first


def count_shares(
    shares: Sequence[Sequence[FileSpan]], pattern: str, special_tokens: Sequence[str]
) -> Iterator[int | Mapping[bytes, int]]:
    """Numbers of bytes as they are read, and last how often each pre-token occurs in all shares."""
    specials = [special_bytes(token) for token in special_tokens]
    whole, *others = tables = [PreTokenTable(CODES[pattern], specials) for _ in shares]
    jobs = list(zip(tables, shares, strict=True))
    yield from in_threads(_count, jobs, len(jobs)) if others else whole.count(shares[0])
    for other in others:
        whole.add(other)
    yield whole.counts()


def _count(job: "tuple[PreTokenTable, Sequence[FileSpan]]") -> Iterator[int]:
    table, share = job
    return table.count(share)


class PreTokenTable:
    """Counts of pre-tokens, in a table that gets more room when it needs it."""

    def __init__(self, pattern: int, special_tokens: Sequence[bytes]) -> None:
        """Take how text is cut."""
        self._pattern = pattern
        self._automaton = automaton_of(special_tokens) if special_tokens else None
        self._longest = max(map(len, special_tokens), default=0)
        self._table = kernels.empty_table(SLOTS)

    def counts(self) -> PreTokenCounts:
        """All that has been counted."""
        return PreTokenCounts(*kernels.words_of(self._table))

    def add(self, other: "PreTokenTable") -> None:
        """Add the counts of another one."""
        text, slots = kernels.text_of(other._table), other._table.slots
        slot, is_full = kernels.add_all(self._table, text, slots, 0)
        while is_full:
            self._table = kernels.more_room(self._table)
            slot, is_full = kernels.add_all(self._table, text, slots, slot)

    def count(self, spans: Sequence[FileSpan]) -> Iterator[int]:
        """Count the pre-tokens of spans of files; numbers of bytes as they are read."""
        for span in spans:
            reader, n_told = SpanReader(span, READ_BYTES), 0
            text, block = np.frombuffer(b"", np.uint8), b""
            for data, ends in reader.blocks():
                block += data
                if ends or len(block) >= len(text):  # of a text that cannot be cut yet, twice as much
                    text, block = self._count_text(reader, np.frombuffer(text.tobytes() + block, np.uint8), ends), b""
                if reader.n_read > n_told:
                    yield reader.n_read - n_told
                    n_told = reader.n_read

    def _count_text(self, reader: SpanReader, text: NDArray[np.uint8], ends: bool) -> NDArray[np.uint8]:
        """Count what no more text can change, and return the rest."""
        n_whole = kernels.utf8_end(text)
        if len(text) - n_whole >= (1 if ends else LONGEST_CHARACTER):
            raise reader.not_utf8(len(text) - n_whole)
        rest = text[self._count_block(text[:n_whole], ends) :]
        if len(rest) > pretokenize.LONGEST:
            pretokenize.check_length(rest.tobytes().decode(errors="ignore"))
        return rest

    def _count_block(self, text: NDArray[np.uint8], is_last: bool) -> int:
        """Count what no more text can change, and return where the rest begins."""
        lengths = np.empty(len(text) if self._automaton else 0, np.uint16)
        if self._automaton:
            mark(text, self._automaton, lengths)
        rules = (self._pattern, class_table(), lengths, self._longest)
        start, is_full = kernels.count(text, 0, is_last, *rules, self._table)
        while is_full:
            self._table = kernels.more_room(self._table)
            start, is_full = kernels.count(text, start, is_last, *rules, self._table)
        return start
