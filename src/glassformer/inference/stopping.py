"""When a sequence ends: after a token that ends it, after so many tokens, and before one of some strings.

Another criterion on tokens is one more line of `finish_of`; one on the text, such as a regular expression, is a class
with `take` and `met`, as `StopStrings` is.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from glassformer.errors import GenerationError

Finish = Literal["stop", "length", "context", "error"]


def finish_of(
    token: int, *, stop_tokens: frozenset[int], n_new_tokens: int, max_new_tokens: int, room: int
) -> Finish | None:
    """Why a sequence ends with this token, which is its `n_new_tokens`th, if it does; `room` is how many may follow."""
    if token in stop_tokens:
        return "stop"
    if n_new_tokens >= max_new_tokens:
        return "length"
    return "context" if room == 0 else None


def stops_within(tokens: Mapping[str, int], strings: Sequence[str]) -> frozenset[int]:
    """The tokens in whose text one of some strings is: such a token ends a text where it has no text of its own."""
    return frozenset(id for token, id in tokens.items() if any(string and string in token for string in strings))


class StopStrings:
    """Ends a text before the first of some strings; what may turn out to be the beginning of one is held back.

    >>> stop = StopStrings(["end"])
    >>> stop.take("at the en", last=False), stop.take("d of", last=False), stop.met
    ('at the ', '', True)
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise GenerationError("A stop string must have at least one character.")
        self._strings = strings
        self._held = ""
        self.met = False

    def take(self, text: str, *, last: bool) -> str:
        """The text that is sure, now that some more has come; `last` says that no more will."""
        text = self._held + text
        begins = [text.find(string) for string in self._strings if string in text]
        if begins:
            self.met = True
            return text[: min(begins)]
        n_unsure = 0 if last else max((overlap(text, string) for string in self._strings), default=0)
        n_sure = len(text) - n_unsure
        self._held = text[n_sure:]
        return text[:n_sure]


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`.

    >>> overlap("the en", "end")
    2
    """
    return max((n for n in range(1, min(len(text), len(stop)) + 1) if text.endswith(stop[:n])), default=0)
