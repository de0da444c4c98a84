"""Learning byte-level BPE: count the corpus's pre-tokens, then merge the most frequent pair, again and again.

`count_pre_tokens` streams files of any size, by several workers when they are large (`counting.py`); `learn_merges`
works on the counts alone, by `bpe.learn`.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

from glassformer.errors import TokenizerError
from glassformer.tokenizers.bpe import learn
from glassformer.tokenizers.byte_level import BPETokenizer
from glassformer.tokenizers.corpus import Files, FileSpan, files_of, shares_of
from glassformer.tokenizers.counting import count_shares
from glassformer.tokenizers.pretokenize import split_pattern
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, special_bytes, with_special_tokens
from glassformer.twins import use
from glassformer.workers import on_ray

BPEProgress = Callable[[str, int, int], None]

BYTES_PER_WORKER = 4 << 20  # for less, starting a worker takes longer than it saves
BYTES_PER_TASK = 64 << 20  # of a cluster: seconds of work, which are lost where one of its workers dies
MANY_BYTES = 1 << 21  # from which it takes less time to load a kernel than it saves


def train_bpe(
    input_path: Files,
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    field: str = "text",
    workers: int | None = None,
    ray: str = "",
    progress: BPEProgress | None = None,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """The vocabulary and the merges of a corpus: 256 bytes, then merges in order of creation, then special tokens.

    Fewer than `vocab_size` tokens when no pair is left to merge. Of pairs equally frequent, the greater one, compared
    as two byte strings, goes first. Special tokens part the text, and are part of no count. Of files of documents
    (`corpus.py`) `field` is what is learnt from.
    """
    single_bytes = {byte: bytes([byte]) for byte in range(256)}
    without_merges, _ = with_special_tokens(single_bytes, special_tokens)
    if not len(without_merges) <= vocab_size <= MAX_VOCAB_SIZE:
        raise TokenizerError(
            f"is {vocab_size}: 256 bytes and {len(without_merges) - 256} special tokens need "
            f"{len(without_merges)} or more, and {MAX_VOCAB_SIZE} is the most.",
            setting="vocab_size",
        )
    counts = count_pre_tokens(
        input_path, special_tokens, pattern=pattern, field=field, workers=workers, ray=ray, progress=progress
    )
    merges = learn_merges(counts, vocab_size - len(without_merges), progress)
    vocab = single_bytes | {256 + rank: left + right for rank, (left, right) in enumerate(merges)}
    return with_special_tokens(vocab, special_tokens)[0], merges


def train_tokenizer(
    input_path: Files,
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    field: str = "text",
    workers: int | None = None,
    ray: str = "",
    progress: BPEProgress | None = None,
) -> BPETokenizer:
    """The tokenizer of what `train_bpe` learns; `Tokenizer.train` is this."""
    vocab, merges = train_bpe(
        input_path,
        vocab_size,
        special_tokens,
        pattern=pattern,
        field=field,
        workers=workers,
        ray=ray,
        progress=progress,
    )
    return BPETokenizer(vocab, merges, special_tokens, pattern=pattern)


def learn_merges(
    words: Mapping[bytes, int], limit: int, progress: BPEProgress | None = None
) -> list[tuple[bytes, bytes]]:
    """At most `limit` merges of words and their counts, as pairs of tokens in bytes."""
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    for left, right in learn(words, limit):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        if progress is not None and len(merges) % 100 == 0:
            progress("merging", len(merges), limit)
    if progress is not None:
        progress("merging", len(merges), len(merges))
    return merges


def count_pre_tokens(
    files: Files,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    field: str = "text",
    workers: int | None = None,
    ray: str = "",
    progress: BPEProgress | None = None,
) -> Mapping[bytes, int]:
    """How often each pre-token occurs in the files, which must be UTF-8.

    The result does not depend on the number of `workers`, nor on whether a Ray cluster counts, at the address `ray`,
    whose machines see the same files.
    """
    if ray and workers is not None:
        raise TokenizerError("are of this machine, and ray names a cluster: give one of them.", setting="workers")
    sizes = files_of(files)
    total = sum(size for _, size in sizes)
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, max(1, total // BYTES_PER_WORKER))
    if workers < 1:
        raise TokenizerError(f"must be at least 1, not {workers}; without it, sizes decide.", setting="workers")
    split_pattern(pattern)
    if ray:
        workers = max(2, total // BYTES_PER_TASK)
    shares = shares_of(sizes, workers, [special_bytes(token) for token in special_tokens], field)
    counts: Mapping[bytes, int] = {}
    done = 0
    if ray:
        results = _count_on_ray(shares, pattern, special_tokens, ray)
    else:
        with use("readable") if total < MANY_BYTES else nullcontext():
            results = count_shares(shares, pattern, special_tokens)
    for result in results:
        if isinstance(result, int):
            done += result
            if progress is not None:
                progress("counting", done, total)
        else:
            counts = result
    return counts


def _count_on_ray(
    shares: Sequence[Sequence[FileSpan]], pattern: str, special_tokens: Sequence[str], address: str
) -> Iterator[int | Mapping[bytes, int]]:
    """What `count_shares` gives, from a cluster: each task counts a share, and the counts are added here."""
    counts: Counter[bytes] = Counter()
    for result in on_ray(partial(_count_share, pattern, special_tokens), shares, address):
        if isinstance(result, int):
            yield result
        else:
            counts.update(result)
    yield counts


def _count_share(
    pattern: str, special_tokens: Sequence[str], share: Sequence[FileSpan]
) -> Iterator[int | Mapping[bytes, int]]:
    yield from count_shares([share], pattern, special_tokens)
