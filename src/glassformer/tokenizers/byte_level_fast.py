"""The fast twins of `byte_level.py`: text to ids and back by kernels (`kernels/bpe.py`), for tables that they read."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import TokenizerError
from glassformer.kernels import bpe as kernels
from glassformer.kernels import split as split_kernels
from glassformer.kernels.split_text import MORE_ENDS
from glassformer.kernels.unicode_classes import class_table
from glassformer.tokenizers.byte_pieces import BytePieces, IdArray
from glassformer.tokenizers.merge_table import MAX_CUT_BYTES, MAX_PAIRS, ConcatenationRanks

CACHED_PIECES = 1 << 17  # for which a cache has slots at first: 32 bytes each, those of five megabytes of text
MOST_CACHED_PIECES = 1 << 20  # at last, for whole texts
MOST_OF_A_STREAM = 1 << 14  # at first and at last, for texts that go on, in little memory
STORE = 1 << 22  # words of its store, which are memory only when they are used
BATCH = 1 << 8  # pieces that are looked up at once
SYMBOLS = 1 << 12  # of the longest piece for whose merges a room has place
IDS = 1 << 18  # for which a room has place
MOST_IDS, MOST_SYMBOLS = 1 << 21, 1 << 16  # that a room has place for when it is free: 10 MB
DECODED_IDS = 1 << 14  # at once


def encode(
    text: str, pieces: BytePieces, goes_on: bool, *, in_little_memory: bool = False
) -> tuple[list[int] | NDArray[np.int32], int]:
    """The ids of a text, of one that goes on but for its last two pre-tokens; and of how many characters."""
    data = text.encode()
    encoded = _encode(data, pieces, goes_on, in_little_memory=in_little_memory)
    if encoded is None:
        return pieces.encode(text, goes_on)
    ids, end = encoded
    return ids, len(text) - len(data[end:].decode())


def _encode(
    text: bytes, pieces: BytePieces, goes_on: bool, *, in_little_memory: bool
) -> tuple[NDArray[np.int32], int] | None:
    """The ids, and of how many bytes; None for what kernels cannot encode, or nobody can."""
    tables = _tables_of(pieces)
    if tables is None:
        return None
    result = np.zeros(2, np.int64)
    room = tables.take_room(min(CACHED_PIECES, MOST_OF_A_STREAM) if in_little_memory else CACHED_PIECES)
    if len(room.ids) < len(text) + kernels.SLOT_IDS:
        room.data, room.ids = _data_and_ids(len(text) + kernels.SLOT_IDS)
    room.data[: len(text)] = np.frombuffer(text, np.uint8)
    room.data[len(text) : len(text) + kernels.PADDING] = 0

    def run() -> int:
        return kernels.encode(
            room.data,
            len(text),
            goes_on,
            tables.pattern,
            class_table(),
            tables.vocabulary,
            room.cache,
            room.scratch,
            room.ids,
            result,
        )

    while (status := run()) in (kernels.NEEDS_ROOM, kernels.NEEDS_SLOTS):
        if status == kernels.NEEDS_ROOM:
            room.scratch = _scratch(len(text))
        else:
            room.cache = _with_room(room.cache, MOST_OF_A_STREAM if in_little_memory else MOST_CACHED_PIECES)
    end, n = result.tolist()
    ids = room.ids[:n].copy()
    tables.free(room)
    return None if status == kernels.NO_BYTE else (ids, end)


def decode(ids: "Sequence[int] | IdArray", pieces: BytePieces) -> bytes:
    """The bytes of a sequence of tokens; an id that no token has stands for none."""
    tables = _tables_of(pieces)
    if tables is None:
        return pieces.decode(ids)
    tokens, starts = tables.vocabulary.tokens, tables.vocabulary.starts
    blocks, each = [], iter(ids)
    for i in range(0, len(ids), DECODED_IDS):
        try:
            if isinstance(ids, np.ndarray):
                numbers = ids[i : i + DECODED_IDS].astype(np.int64)
            else:
                numbers = np.fromiter(each, np.int64, min(DECODED_IDS, len(ids) - i))
        except OverflowError:
            return pieces.decode(ids)
        data = np.empty(kernels.count_bytes(numbers, starts) + kernels.PADDING, np.uint8)
        kernels.gather_bytes(numbers, tokens, starts, data)
        blocks.append(data[: -kernels.PADDING].tobytes())
    return b"".join(blocks)


# ---- what kernels read and write


@dataclass(eq=False)
class _Room:
    """What one call writes while it encodes, the text with PADDING too. The cache stays, for the next call."""

    cache: kernels.Cache
    scratch: kernels.Scratch
    data: NDArray[np.uint8]
    ids: NDArray[np.int32]


class _Tables:
    """The tables of a vocabulary, and rooms in which no thread encodes at the moment."""

    def __init__(self, vocabulary: kernels.Vocabulary, pattern: int) -> None:
        self.vocabulary, self.pattern = vocabulary, pattern
        self.rooms: list[_Room] = []

    def take_room(self, n_slots: int) -> _Room:
        """A room that no other thread has until it is back in `rooms`; a new one has a cache of so many slots."""
        try:
            return self.rooms.pop()
        except IndexError:
            cache = _cache(n_slots, np.empty(STORE, np.uint64))
            return _Room(cache, _scratch(SYMBOLS), *_data_and_ids(IDS))

    def free(self, room: _Room) -> None:
        """Let others have a room, without what one long text alone needed."""
        if len(room.ids) > MOST_IDS:
            room.data, room.ids = _data_and_ids(IDS)
        if len(room.scratch.symbols) > MOST_SYMBOLS:
            room.scratch = _scratch(SYMBOLS)
        self.rooms.append(room)


def _data_and_ids(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    return np.empty(n + kernels.PADDING, np.uint8), np.empty(n, np.int32)


def _cache(n_slots: int, store: NDArray[np.uint64]) -> kernels.Cache:
    slots = np.zeros(n_slots * kernels.SLOT, np.uint64)
    return kernels.Cache(slots, slots.view(np.int32), store, store.view(np.int32), np.zeros(2, np.int64))


def _with_room(cache: kernels.Cache, n_most: int) -> kernels.Cache:
    """The same pieces with twice as many slots; where these are too many, or the store is full, an empty cache."""
    n_slots = 2 * len(cache.slots) // kernels.SLOT
    if n_slots > n_most or cache.numbers[kernels.N_STORED] > len(cache.store) // 2:
        cache.slots[:], cache.numbers[:] = 0, 0
        return cache
    larger = _cache(n_slots, cache.store)
    kernels.move(cache, larger)
    larger.numbers[:] = cache.numbers
    return larger


def _scratch(n: int) -> kernels.Scratch:
    return kernels.Scratch(
        ends=np.empty(BATCH + MORE_ENDS, np.int64),
        keys=np.empty(2 * (BATCH + MORE_ENDS), np.uint64),
        places=np.empty(BATCH + MORE_ENDS, np.int64),
        rest=np.empty(BATCH + MORE_ENDS, np.int64),
        symbols=np.empty(n, np.int32),
        ranks=np.empty(n, np.uint32),
        after=np.empty(n, np.int32),
        before=np.empty(n, np.int32),
        tree=np.empty(3 * n, np.uint32),
    )


_tables: WeakKeyDictionary[BytePieces, _Tables | None] = WeakKeyDictionary()
_lock = threading.Lock()


def _tables_of(pieces: BytePieces) -> _Tables | None:
    """The tables of a vocabulary, made once; None where they would be too large."""
    with _lock:
        if pieces not in _tables:
            _tables[pieces] = _make_tables(pieces)
        return _tables[pieces]


def _make_tables(pieces: BytePieces) -> _Tables | None:
    tokens = [pieces.tokens.get(id, b"") for id in range(max(pieces.tokens) + 1)]
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    ordinary = np.array(list(pieces.ids.values()), np.int32)
    vocabulary = kernels.Vocabulary(
        tokens=np.frombuffer(b"".join(tokens) + bytes(kernels.PADDING), np.uint8),
        starts=starts,
        byte_ids=np.array([pieces.byte_ids.get(byte, -1) for byte in range(256)], np.int32),
        wholes=np.full(_places(len(ordinary)), -1, np.int32),
        keys=np.zeros(2 * len(tokens), np.uint64),
        whole_marks=_no_marks(len(ordinary)),
        pairs=np.empty(0, np.uint64),
        pair_marks=np.empty(0, np.uint64),
        byte_ranks=np.empty(1 << 16, np.uint32),
        joined=np.empty(0, np.int32),
        neighbours=np.zeros((1 << 16) // 64, np.uint64),
    )
    kernels.add_tokens(ordinary, vocabulary)
    try:
        left, right, ranks, joined = _listed_pairs(pieces, ordinary, vocabulary)
    except TokenizerError:  # too many to list
        return None
    joined_of_rank = np.zeros(int(ranks.max(initial=0)) + 1, np.int32)
    joined_of_rank[ranks] = joined
    vocabulary = vocabulary._replace(
        whole_marks=vocabulary.whole_marks if pieces.whole_pieces else _no_marks(0),
        pairs=np.full(_places(len(left)), kernels.ALL),
        pair_marks=_no_marks(len(left)),
        joined=joined_of_rank,
    )
    kernels.add_pairs(left, right, ranks, vocabulary)
    scratch = _scratch(int(np.diff(starts).max()) + 1)
    kernels.add_neighbours(ordinary, vocabulary._replace(whole_marks=_no_marks(0)), scratch)
    _with_room(_cache(1, np.empty(1, np.uint64)), 2)  # its kernel is loaded here, and not in the middle of a text
    return _Tables(vocabulary, split_kernels.CODES[pieces.pattern])


def _listed_pairs(
    pieces: BytePieces, ordinary: NDArray[np.int32], vocabulary: kernels.Vocabulary
) -> tuple[NDArray[np.int32], ...]:
    """Left, right, rank and id of all pairs that are merged."""
    if not isinstance(pieces.table.ranks, ConcatenationRanks):
        if len(pieces.table.ranks) > MAX_PAIRS:
            raise TokenizerError(f"more than {MAX_PAIRS:,} merges.")
        return tuple(np.array(column, np.int32) for column in pieces.table.arrays())
    lengths = np.diff(vocabulary.starts)[ordinary]
    if int((lengths**2).sum()) > MAX_CUT_BYTES or len(ordinary) > MAX_PAIRS:
        raise TokenizerError("the tokens of the vocabulary are too long to list the pairs that make them up.")
    left, right = np.empty_like(ordinary), np.empty_like(ordinary)
    kernels.list_pairs(ordinary, vocabulary, _scratch(int(lengths.max(initial=0)) + 1), left, right)
    is_merged = left >= 0
    return left[is_merged], right[is_merged], ordinary[is_merged], ordinary[is_merged]  # a token's rank is its id


def _no_marks(n: int) -> NDArray[np.uint64]:
    """No bit set, of eight or some more for each of so many."""
    return np.zeros(max(_places(4 * n) // 64, 1), np.uint64)


def _places(n: int) -> int:
    """A power of two, at least twice as many."""
    return 1 << (2 * n).bit_length()
