"""Continuations that are compared when all have ended: the best of several that were drawn, or of a search."""

from collections.abc import Sequence
from dataclasses import dataclass

from glassformer.errors import GenerationError
from glassformer.inference.beam import Hypothesis
from glassformer.inference.request import NewToken
from glassformer.inference.stopping import Finish

MOST = 1024  # continuations at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A text, why it ended, its tokens, and its score: the mean log p (nats) of them, or the score of a search."""

    text: str
    finish: Finish
    tokens: tuple[NewToken, ...]
    score: float


def check_counts(n: int, best_of: int) -> None:
    """Raise unless the best `n` of so many can be chosen."""
    for name, value, least in (("n", n, 1), ("best_of", best_of, n)):
        if not least <= value <= MOST:
            raise GenerationError(f"must be from {least} to {MOST}, not {value}.", setting=name)


def mean_logprob(tokens: Sequence[NewToken]) -> float:
    """The mean log-probability (nats) of a text's tokens, the one that ends it included."""
    return sum(new.logprob for new in tokens) / len(tokens)


def tokens_of(hypotheses: Sequence[Hypothesis]) -> list[NewToken]:
    """What a search has written, token by token, as if it had come so: a sequence for each text."""
    return [
        NewToken(sequence=rank, token=token, finish=text.finish if i == len(text.tokens) else None)
        for rank, text in enumerate(hypotheses)
        for i, token in enumerate(text.tokens, 1)
    ]
