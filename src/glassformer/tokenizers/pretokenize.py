"""Text cut into pre-tokens, the spans that no merge crosses: by a split pattern, and at special tokens.

`PreTokenizer.stream` takes text in chunks of any size, cut anywhere, and gives the pre-tokens of the whole;
`PreTokenizer.each` hands the same spans of text to who makes something else of them. `split` runs the published
patterns, and `pretokenize_fast.py` has its twin.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import regex

from glassformer.errors import TokenizerError
from glassformer.tokenizers.special_tokens import SpecialTokens
from glassformer.twins import twin

Result = TypeVar("Result")

_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": _GPT4,
    "llama3": _GPT4,
    "qwen2": _GPT4.replace(r"\p{N}{1,3}", r"\p{N}"),
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
"""The published split patterns, in a spelling that the regex module and Oniguruma read alike."""

BLOCK = 1 << 16  # characters that are split at once: larger blocks of memory, of many sizes, leave holes behind
SCANNED_AGAIN = 1 << 12  # characters that wait for more text; of more than that, the text must have doubled
LONGEST = 1 << 24  # characters of a pre-token: text has spaces, and what has none is something else
MANY = 1 << 18  # characters from which on kernels are worth their loading, half a second, and at first their compiling
UNDECIDED = 2  # pre-tokens at the end of a text that may change when the text goes on
SURROGATES = regex.compile("[\ud800-\udfff]")


def split_pattern(name: str) -> str:
    """The split pattern of that name."""
    if name not in PATTERNS:
        raise TokenizerError(f"{name!r} is no split pattern: expected one of {', '.join(PATTERNS)}.")
    return PATTERNS[name]


@twin("glassformer.tokenizers.pretokenize_fast")
def split(text: str, name: str) -> list[str]:
    """The pre-tokens of a text by a published pattern; joined, they are the text."""
    pre_tokens: list[str] = _compiled(split_pattern(name)).findall(text)
    return pre_tokens


@cache
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)


def without_surrogates(text: str) -> str:
    """`text` with its pairs of surrogates joined, and U+FFFD for one alone, which UTF-8 cannot express."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def blocks(text: str) -> Iterator[str]:
    """A text as a stream, so that no more of it is split at once."""
    return (text[i : i + BLOCK] for i in range(0, len(text), BLOCK))


def check_length(text: str) -> None:
    """Raise where a text that cannot be cut yet has become too long."""
    if len(text) > LONGEST:
        raise TokenizerError(
            f"The text has {len(text):,} characters in a row, from {text[:20]!r} on, without a place "
            f"where it may be cut into words; {LONGEST:,} are allowed."
        )


class PreTokenizer:
    """Cuts text at special tokens, the longest first, and what lies between them by a pattern that covers any text."""

    def __init__(self, pattern: str, special_tokens: Iterable[str] = ()) -> None:
        """Take a regular expression, and the tokens that are looked for before it."""
        self._pattern = regex.compile(pattern)
        self._name = next((name for name in PATTERNS if PATTERNS[name] == pattern), None)
        self._n_split = 0  # characters so far
        self.special = SpecialTokens(special_tokens)

    def split(self, text: str) -> list[str]:
        """The pre-tokens of a text that holds no special token; joined, they are the text."""
        self._n_split += len(text)
        if self._name is not None and self._n_split >= MANY:
            return split(text, self._name)
        pre_tokens: list[str] = self._pattern.findall(text)
        return pre_tokens

    def _split_decided(self, text: str, goes_on: bool) -> tuple[list[str], int]:
        pre_tokens = self.split(text)
        decided = pre_tokens[:-UNDECIDED] if goes_on else pre_tokens
        return decided, sum(map(len, decided))

    def stream(self, chunks: Iterable[str]) -> Iterator[tuple[list[str], str | None]]:
        """The pre-tokens of the joined chunks, in lists; with each list the special token that follows it, or None."""
        return self.each(chunks, self._split_decided)

    def each(
        self, chunks: Iterable[str], make: Callable[[str, bool], tuple[Result, int]]
    ) -> Iterator[tuple[Result, str | None]]:
        """What `make` makes of the joined chunks, span by span, with the special token that follows each, or None.

        `make(text, goes_on)` takes a text without special tokens; of one that goes on it leaves out the last two
        pre-tokens. It returns what it has made, and of how many characters.

        A text that goes on can change its last two pre-tokens and no others: `don`, `'`, and then `t` (every pattern
        looks past a pre-token by one character or into the next one, and no further). So these two wait for more text;
        so do the last characters where a special token, or a longer one, may still be on its way. All others are
        given before the next chunk is asked for. Text without them that grows long is scanned again only when it has
        doubled, so that a pre-token of n characters costs O(n).
        """
        waiting: list[str] = []
        size, enough, half = 0, 0, ""
        for block in chain.from_iterable(map(blocks, chunks)):
            text = half + block
            half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""  # of a pair that the next chunk may join
            waiting.append(without_surrogates(text[: len(text) - len(half)]))
            size += len(block)
            if size < enough:
                continue
            text = "".join(waiting)
            start = yield from self._decided(text, make)
            waiting, size = [text[start:]], len(text) - start
            check_length(waiting[0])
            enough = 0 if size < SCANNED_AGAIN else 2 * size
        yield from self._rest("".join([*waiting, without_surrogates(half)]), make)

    def _decided(
        self, text: str, make: Callable[[str, bool], tuple[Result, int]]
    ) -> Generator[tuple[Result, str | None], None, int]:
        """What is made of a text that goes on as far as no more text can change it; returns where the rest begins."""
        start, certain = 0, len(text) - self.special.begun(text)
        for begin, end in self.special.find(text):
            if begin >= certain:
                break
            yield make(text[start:begin], False)[0], text[begin:end]
            start = end
        result, n_characters = make(text[start:certain], True)
        yield result, None
        return start + n_characters

    def _rest(self, text: str, make: Callable[[str, bool], tuple[Result, int]]) -> Iterator[tuple[Result, str | None]]:
        """What is made of a text that ends here."""
        for span, token in self.spans(text):
            yield make(span, False)[0], token

    def spans(self, text: str) -> Iterator[tuple[str, str | None]]:
        """The text between special tokens, each span with the token that follows it, or None."""
        start = 0
        for begin, end in self.special.find(text):
            yield text[start:begin], text[begin:end]
            start = end
        yield text[start:], None
