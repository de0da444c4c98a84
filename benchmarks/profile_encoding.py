"""Where the time of encoding goes, with caches of pieces empty.

Run: python benchmarks/profile_encoding.py VOCABULARY TEXT ...

The steps of `kernels/bpe.py` are called one by one for some thousand pieces at a time; `whole` is `encode_array`, which
also turns text into bytes, cuts it into blocks and gathers the ids. The best of some runs; "split" is the speed of
the scanner, which nothing that reads every byte can pass.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from paired import save

from glassformer.kernels import bpe, split_text
from glassformer.kernels.unicode_classes import class_table
from glassformer.tokenizers import Tokenizer, byte_level_fast
from glassformer.tokenizers.byte_level import BPETokenizer

REPEATS = 5
PIECES = 1 << 12  # of one call, so that calls from Python cost little
STEPS = ("split", "look_up", "learn", "write")


def profile(tokenizer: BPETokenizer, text: str) -> dict[str, float]:
    """Nanoseconds a byte of each step and of the whole, bytes a piece, and the share of pieces that are new."""
    tables = byte_level_fast._tables_of(tokenizer._pieces)
    assert tables is not None
    encoded = text.encode()
    data = np.frombuffer(encoded + bytes(bpe.PADDING), np.uint8)
    seconds = dict.fromkeys((*STEPS, "whole"), float("inf"))
    for _ in range(REPEATS):
        tables.rooms.clear()
        begin = time.perf_counter()
        n_ids = len(tokenizer.encode_array(text))
        seconds["whole"] = min(seconds["whole"], time.perf_counter() - begin)
        room = tables.rooms[0]
        room.cache.slots[:], room.cache.numbers[:] = 0, 0
        room.ids = np.empty(n_ids + bpe.SLOT_IDS, np.int32)
        spent, n_pieces = _steps(tables, room, data, len(encoded))
        seconds |= {step: min(seconds[step], spent[step]) for step in STEPS}
    figures = {step: 1e9 * taken / len(encoded) for step, taken in seconds.items()}
    n_new = int(room.cache.numbers[bpe.N_KEPT])
    return figures | {"bytes a piece": len(encoded) / n_pieces, "new pieces": n_new / n_pieces}


def _steps(tables: Any, room: Any, data: Any, size: int) -> tuple[dict[str, float], int]:
    """Seconds of each step, as `encode` takes them in turn, and how many pieces there are."""
    spent, n_pieces, result = dict.fromkeys(STEPS, 0.0), 0, np.zeros(2, np.int64)
    scratch, cache, vocabulary = room.scratch, room.cache, tables.vocabulary

    def timed(step: str, kernel: Callable[..., int], *arguments: Any) -> int:
        begin = time.perf_counter()
        number = kernel(*arguments)
        spent[step] += time.perf_counter() - begin
        return number

    while result[0] < size:
        start = int(result[0])
        n = timed(
            "split",
            split_text.split,
            data,
            start,
            size,
            False,
            tables.pattern,
            class_table(),
            vocabulary.neighbours,
            scratch.ends,
        )
        n_rest = timed("look_up", bpe.look_up, data, start, n, cache, scratch)
        timed("learn", bpe.learn, data, start, n_rest, vocabulary, cache, scratch)
        timed("write", bpe.write, data, n, vocabulary, cache, scratch, room.ids, result)
        n_pieces += n
    return spent, n_pieces


def main() -> None:
    """Print and save the figures."""
    vocabulary, *texts = map(Path, sys.argv[1:])
    byte_level_fast.BATCH = PIECES
    rows = {}
    for path in texts:
        tokenizer = Tokenizer.load(vocabulary)
        assert isinstance(tokenizer, BPETokenizer)
        rows[path.stem] = profile(tokenizer, path.read_text("utf-8"))
        print(path.stem, ", ".join(f"{name} {figure:.3g}" for name, figure in rows[path.stem].items()), flush=True)
    save("profile_encoding", rows)


if __name__ == "__main__":
    main()
