"""Regular expressions of strangers: which of them no text can keep busy.

The `tokenizers` library matches by trying, and a pattern such as `(a+)+$` tries for ever. So each is read before it is
run: how many repetitions without a limit can share one span of text, and in how many ways the rest can match it.
"""

import regex

from glassformer.errors import TokenizerError

LONGEST_PATTERN = 1 << 13  # characters; DeepSeek lists all letters of some scripts, in 1,500
MOST_REPETITIONS = 2  # without a limit, one after another: n characters are tried in n² ways
MOST_WAYS = 1 << 12  # in which the other parts can match a span
LARGEST_LIMIT = 16  # of a repetition that counts as one with a limit

QUANTIFIER = regex.compile(r"(?:([*+?])|\{(\d{0,4})(,?)(\d{0,4})\})")
CHARACTER = regex.compile(
    r"\\[pP]\{\^?\w[\w ]*\}|\\x\{[0-9A-Fa-f]{1,6}\}|\\u[0-9A-Fa-f]{4}|\\[^\dgkKpP]|[^\\\[\](){}*+?|]"
)
GROUP = regex.compile(r"\((?:\?(?:[:=!>]|<[=!]|<\w+>|[a-z]*(?:-[a-z]+)?:|([a-z]+\))))?")


def check_pattern(pattern: str, most_repetitions: int = MOST_REPETITIONS) -> None:
    """Raise unless every short text is split by a pattern in a time that it is worth; of long ones see `patience.py`.

    >>> check_pattern(r" ?\\p{L}+|\\s+(?!\\S)|\\s+")
    >>> check_pattern("(a+)+$")
    Traceback (most recent call last):
    glassformer.errors.TokenizerError: the pattern '(a+)+$' can match a text in too many ways to be run.
    """
    too_many = f"the pattern {pattern[:40]!r} can match a text in too many ways to be run."
    if len(pattern) > LONGEST_PATTERN:
        raise TokenizerError(f"the pattern {pattern[:40]!r} … is longer than {LONGEST_PATTERN} characters.")
    try:
        repetitions, ways, end = _alternatives(pattern, 0, depth=0)
    except _TooMany:
        raise TokenizerError(too_many) from None
    if repetitions > most_repetitions or ways > MOST_WAYS:
        raise TokenizerError(too_many)
    if end < len(pattern):
        raise TokenizerError(f"the pattern {pattern[:40]!r} has {pattern[end : end + 8]!r}, which is not supported.")


class _TooMany(Exception):
    """There is no bound on the ways."""


def _alternatives(pattern: str, at: int, depth: int) -> tuple[int, int, int]:
    """Of alternatives up to a closing bracket: repetitions without a limit, ways to match, and where they end."""
    if depth > 20:
        raise _TooMany
    most, ways = 0, 0
    while True:
        repetitions, ways_of_one, at = _sequence(pattern, at, depth)
        most, ways = max(most, repetitions), ways + ways_of_one
        if pattern[at : at + 1] != "|":
            return most, ways, at
        at += 1


def _sequence(pattern: str, at: int, depth: int) -> tuple[int, int, int]:
    """The same of parts that follow each other; it ends where none follows."""
    total, ways = 0, 1
    while at < len(pattern):
        if pattern[at] == "(":
            opening = GROUP.match(pattern, at)
            assert opening is not None  # a bracket alone fits
            if opening[1]:  # options for all that follows
                at = opening.end()
                continue
            repetitions, ways_of_part, end = _alternatives(pattern, opening.end(), depth + 1)
            if pattern[end : end + 1] != ")":
                return total, ways, end
            end += 1
        elif end := _end_of_character(pattern, at):
            repetitions, ways_of_part = 0, 1
        else:
            break
        quantifier = QUANTIFIER.match(pattern, end)
        if quantifier is not None:
            repetitions, ways_of_part = _repeated(quantifier, repetitions, ways_of_part)
            end = quantifier.end()
            if quantifier[1] and pattern[end : end + 1] in ("?", "+"):  # lazy, or possessive, which tries less
                end += 1
            if QUANTIFIER.match(pattern, end):
                raise _TooMany
        total, ways, at = total + repetitions, ways * ways_of_part, end
        if ways > MOST_WAYS:
            raise _TooMany
    return total, ways, at


def _repeated(quantifier: "regex.Match[str]", repetitions: int, ways: int) -> tuple[int, int]:
    """What a quantifier makes of a part's repetitions and ways."""
    sign, least, comma, most = quantifier.groups()
    if sign == "?":
        return repetitions, ways + 1
    low = int(least or 0) if not sign else 0
    high = None if sign or (comma and not most) else int(most or low)
    if high is not None and high == low and ways == 1:
        return repetitions * low, 1
    if repetitions or (ways > 1 and (high is None or high > LARGEST_LIMIT)):
        raise _TooMany
    if high is None or high > LARGEST_LIMIT:
        return 1, 1
    return 0, sum(ways**n for n in range(low, high + 1))


def _end_of_character(pattern: str, at: int) -> int:
    """Where a single character, or a class of them, ends that begins here; 0 where none does."""
    if pattern[at] != "[":
        character = CHARACTER.match(pattern, at)
        return character.end() if character else 0
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
            at += pattern[at + 1 : at + 2] == "^"
            at += pattern[at + 1 : at + 2] == "]"  # which stands for itself where a class begins
        elif pattern[at] == "]":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return 0
