"""How often each pre-token of a corpus occurs: cut the text, count the pre-tokens. Several processes do it in shares.

`counting_fast.py` has the twin of `count_shares`, in threads, by a kernel.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from glassformer.tokenizers.corpus import FileSpan
from glassformer.tokenizers.pretokenize import PreTokenizer, split_pattern
from glassformer.tokenizers.span_reader import SpanReader
from glassformer.twins import twin
from glassformer.workers import in_processes

READ_BYTES = 1 << 20


@twin("glassformer.tokenizers.counting_fast")
def count_shares(
    shares: Sequence[Sequence[FileSpan]], pattern: str, special_tokens: Sequence[str]
) -> Iterator[int | Mapping[bytes, int]]:
    """Numbers of bytes as they are read, and last how often each pre-token occurs in all shares.

    Each share is counted by a worker of its own. `pattern` is the name of a split pattern; the text is parted at the
    special tokens, which are not counted, and must be UTF-8.
    """
    task = partial(_count, PreTokenizer(split_pattern(pattern), special_tokens))
    counts: Counter[str] = Counter()
    for result in task(shares[0]) if len(shares) == 1 else in_processes(task, shares, len(shares)):
        if isinstance(result, int):
            yield result
        else:
            counts.update(result)
    yield {pre_token.encode(): count for pre_token, count in counts.items()}


def _count(pretokenizer: PreTokenizer, spans: Iterable[FileSpan]) -> Iterator[int | Counter[str]]:
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
