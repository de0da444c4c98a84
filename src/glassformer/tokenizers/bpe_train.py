"""Learning byte-level BPE: count the corpus's pre-tokens, then merge the most frequent pair, again and again.

`count_pre_tokens` streams files of any size, in several processes when they are large; `learn_merges` works on the
counts alone, by `bpe.learn`.
"""

import codecs
import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import BinaryIO, cast

from glassformer.errors import DataError, GlassformerError, TokenizerError
from glassformer.tokenizers.bpe import learn
from glassformer.tokenizers.byte_level import BPETokenizer
from glassformer.tokenizers.pretokenize import PreTokenizer, split_pattern
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, special_bytes, with_special_tokens

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
BPEProgress = Callable[[str, int, int], None]
FileSpan = tuple[Path, int, int]  # the bytes of a file from one offset to another

READ_BYTES = 1 << 20
SEARCH_BYTES = 1 << 16
BYTES_PER_WORKER = 4 << 20  # for less, starting a process takes longer than it saves


def train_bpe(
    input_path: Files,
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    workers: int | None = None,
    progress: BPEProgress | None = None,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """The vocabulary and the merges of a corpus: 256 bytes, then merges in order of creation, then special tokens.

    Fewer than `vocab_size` tokens when no pair is left to merge. Of pairs equally frequent, the greater one, compared
    as two byte strings, goes first. Special tokens part the text, and are part of no count.
    """
    single_bytes = {byte: bytes([byte]) for byte in range(256)}
    without_merges, _ = with_special_tokens(single_bytes, special_tokens)
    if not len(without_merges) <= vocab_size <= MAX_VOCAB_SIZE:
        raise TokenizerError(
            f"is {vocab_size}: 256 bytes and {len(without_merges) - 256} special tokens need "
            f"{len(without_merges)} or more, and {MAX_VOCAB_SIZE} is the most.",
            setting="vocab_size",
        )
    counts = count_pre_tokens(input_path, special_tokens, pattern=pattern, workers=workers, progress=progress)
    words = {pre_token.encode(): count for pre_token, count in counts.items()}
    merges = learn_merges(words, vocab_size - len(without_merges), progress)
    vocab = single_bytes | {256 + rank: left + right for rank, (left, right) in enumerate(merges)}
    return with_special_tokens(vocab, special_tokens)[0], merges


def train_tokenizer(
    input_path: Files,
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    workers: int | None = None,
    progress: BPEProgress | None = None,
) -> BPETokenizer:
    """The tokenizer of what `train_bpe` learns; `Tokenizer.train` is this."""
    vocab, merges = train_bpe(
        input_path, vocab_size, special_tokens, pattern=pattern, workers=workers, progress=progress
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


# ---- counts


def count_pre_tokens(
    files: Files,
    special_tokens: Sequence[str] = (),
    *,
    pattern: str = "gpt2",
    workers: int | None = None,
    progress: BPEProgress | None = None,
) -> Counter[str]:
    """How often each pre-token occurs in the files, which must be UTF-8.

    The result does not depend on the number of `workers`.
    """
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    sizes = [_size(path) for path in paths]
    total = sum(sizes)
    if total == 0:
        raise DataError(f"{', '.join(map(str, paths)) or 'no file'}: nothing to learn from, expected text.")
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, max(1, total // BYTES_PER_WORKER))
    if workers < 1:
        raise TokenizerError(f"must be at least 1, not {workers}; without it, sizes decide.", setting="workers")
    specials = list(special_tokens)
    shares: list[list[FileSpan]] = [[] for _ in range(workers)]
    for path, size in zip(paths, sizes, strict=True):
        offsets = _cuts(path, size, workers, [special_bytes(token) for token in specials]) if workers > 1 else [0, size]
        for share, (start, stop) in zip(shares, pairwise(offsets), strict=False):
            share.append((path, start, stop))
    shares = [share for share in shares if share]

    counts: Counter[str] = Counter()
    done = 0
    pretokenizer = PreTokenizer(split_pattern(pattern), specials)
    count = _count(shares[0], pretokenizer) if len(shares) == 1 else _count_in_processes(shares, pretokenizer)
    for result in count:
        if isinstance(result, int):
            done += result
            if progress is not None:
                progress("counting", done, total)
        else:
            counts.update(result)
    return counts


def _size(path: Path) -> int:
    if not path.is_file():
        raise DataError(f"{path}: expected a text file, and this is {'a folder' if path.is_dir() else 'no file'}.")
    return path.stat().st_size


def _count(spans: Iterable[FileSpan], pretokenizer: PreTokenizer) -> Iterator[int | Counter[str]]:
    """Numbers of bytes as they are read, and last the counts of all spans."""
    counts: Counter[str] = Counter()
    for path, start, stop in spans:
        try:
            with path.open("rb") as file:
                file.seek(start)
                at = start
                for pre_tokens, _ in pretokenizer.stream(_text(file, stop)):
                    counts.update(pre_tokens)
                    if file.tell() > at:
                        yield file.tell() - at
                        at = file.tell()
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text, of which a tokenizer learns: convert it first.") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    yield counts


def _text(file: BinaryIO, stop: int) -> Iterator[str]:
    """The text of an open file up to the offset `stop`, in blocks; `\\r` stays as it is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while data := file.read(min(READ_BYTES, stop - file.tell())):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


def _count_in_processes(shares: Sequence[list[FileSpan]], pretokenizer: PreTokenizer) -> Iterator[int | Counter[str]]:
    """The same from one process a share; whatever happens, no process outlives the call."""
    context = multiprocessing.get_context("spawn")
    processes, results = [], []
    try:
        for share in shares:
            result, send = context.Pipe(duplex=False)
            process = context.Process(target=_send_counts, args=(send, share, pretokenizer), daemon=True)
            processes.append(process)
            results.append(result)
            process.start()
            send.close()
        unfinished = list(results)
        while unfinished:
            for result in cast("list[Connection]", wait(unfinished)):
                message = _receive(result)
                yield message
                if not isinstance(message, int):
                    unfinished.remove(result)
    finally:
        started = [process for process in processes if process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join()
        for result in results:
            result.close()


def _send_counts(send: Connection, share: list[FileSpan], pretokenizer: PreTokenizer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    try:
        for message in _count(share, pretokenizer):
            send.send(message)
    except GlassformerError as error:
        send.send(error)


def _receive(result: Connection) -> int | Counter[str]:
    try:
        message = result.recv()
    except EOFError:
        raise TokenizerError(
            "A process that counts the corpus died: give it more memory, or take fewer workers.",
            python='In a script, the call must stand under `if __name__ == "__main__":`.',
        ) from None
    if isinstance(message, GlassformerError):
        raise message
    assert isinstance(message, int | Counter)
    return message


def _cuts(path: Path, size: int, parts: int, special_tokens: Sequence[bytes]) -> list[int]:
    """Offsets, about `parts` + 1, between which a file's pre-tokens can be counted apart.

    A cut goes before a special token; without special tokens, before a space that follows a visible ASCII character,
    where every pattern ends a pre-token without looking further. Where no such place follows, there is no cut.
    """
    finder = re.compile(b"|".join(map(re.escape, special_tokens)) or rb"(?<=[!-~])(?= )")
    with path.open("rb") as file:
        cuts = {_next_cut(file, size * part // parts, size, finder, special_tokens) for part in range(1, parts)}
    return sorted({0, size} | cuts)


def _next_cut(
    file: BinaryIO, offset: int, size: int, finder: re.Pattern[bytes], special_tokens: Sequence[bytes]
) -> int:
    """The first place from `offset` on where a match begins and no special token is cut in two; else the end."""
    margin = max(map(len, special_tokens), default=1)
    for start in range(offset, size, SEARCH_BYTES):
        first = max(0, start - margin)
        searched = start - first + SEARCH_BYTES
        file.seek(first)
        data = file.read(searched + margin)
        for match in finder.finditer(data, start - first):
            at = match.start()
            across = (data.find(token, max(0, at - len(token) + 1), at + len(token) - 1) for token in special_tokens)
            if at < searched and max(across, default=-1) < 0:
                return first + at
    return size
