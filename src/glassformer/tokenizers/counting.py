"""How often each pre-token of a corpus occurs: cut the text, count the pre-tokens. Several processes do it in shares.

`counting_fast.py` has the twin of `count_shares`, in threads, by a kernel.
"""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import cast

from glassformer.errors import GlassformerError, TokenizerError
from glassformer.tokenizers.corpus import FileSpan
from glassformer.tokenizers.pretokenize import PreTokenizer, split_pattern
from glassformer.tokenizers.span_reader import SpanReader
from glassformer.twins import twin

READ_BYTES = 1 << 20


@twin("glassformer.tokenizers.counting_fast")
def count_shares(
    shares: Sequence[Sequence[FileSpan]], pattern: str, special_tokens: Sequence[str]
) -> Iterator[int | Mapping[bytes, int]]:
    """Numbers of bytes as they are read, and last how often each pre-token occurs in all shares.

    Each share is counted by a worker of its own. `pattern` is the name of a split pattern; the text is parted at the
    special tokens, which are not counted, and must be UTF-8.
    """
    pretokenizer = PreTokenizer(split_pattern(pattern), special_tokens)
    counts: Counter[str] = Counter()
    for result in _count(shares[0], pretokenizer) if len(shares) == 1 else _in_processes(shares, pretokenizer):
        if isinstance(result, int):
            yield result
        else:
            counts.update(result)
    yield {pre_token.encode(): count for pre_token, count in counts.items()}


def _count(spans: Iterable[FileSpan], pretokenizer: PreTokenizer) -> Iterator[int | Counter[str]]:
    """Numbers of bytes as they are read, and last the counts of all spans."""
    counts: Counter[str] = Counter()
    for span in spans:
        reader, n_told = SpanReader(span, READ_BYTES), 0
        for text in reader.texts():
            for pre_tokens, _ in pretokenizer.stream(text):
                counts.update(pre_tokens)
                if reader.n_read > n_told:
                    yield reader.n_read - n_told
                    n_told = reader.n_read
    yield counts


def _in_processes(shares: Sequence[Sequence[FileSpan]], pretokenizer: PreTokenizer) -> Iterator[int | Counter[str]]:
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


def _send_counts(send: Connection, share: Sequence[FileSpan], pretokenizer: PreTokenizer) -> None:
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
