"""Speculative decoding: tokens are drafted cheaply, and one pass of the model reads and verifies them all.

What is written has the model's own distribution, whatever is drafted (Leviathan et al. 2023, algorithm 1,
arXiv:2211.17192; Chen et al. 2023, algorithm 2, arXiv:2302.01318): a drafted token stays with probability
min(1, p/q), and where it does not, another comes from what p has beyond q. The engine reads drafts behind the token
that is to be read anyway, and its state forgets those that are rejected. `draft_model.py` has the drafts of a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.logits import Sampling, draw


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, and the distributions they were drawn from; None: nothing else could be drafted."""

    tokens: Sequence[int] = ()
    probs: Float[Tensor, "k V"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A text that goes on, for which at most so many tokens may be drafted."""

    sequence: int
    tokens: Sequence[int]
    sampling: Sampling
    at_most: int


@dataclass(slots=True)
class Speculation:
    """What has become of drafts: in so many passes so many tokens were drafted, and of these so many accepted."""

    passes: int = 0
    drafted: int = 0
    accepted: int = 0

    def count(self, drafted: int, accepted: int) -> None:
        """One more pass that has verified a draft."""
        if drafted:
            self.passes, self.drafted, self.accepted = self.passes + 1, self.drafted + drafted, self.accepted + accepted


@runtime_checkable
class Drafter(Protocol):
    """Guesses how texts go on. A guess that is wrong costs time and changes nothing."""

    @property
    def speculation(self) -> Speculation:
        """What has become of its drafts, which the engine counts."""

    def propose(self, texts: Sequence[Unfinished]) -> list[Draft]:
        """A draft for each text, perhaps an empty one; a sequence that is not among them has ended."""


class Lookup:
    """Drafts what has followed the last tokens of the text where they stood before, in the prompt or since.

    Saxena 2023, "Prompt lookup decoding". The longest match counts, of those the latest one.
    """

    def __init__(self, n_drafted: int = 8, *, shortest: int = 2, longest: int = 4) -> None:
        check_n_drafted(n_drafted)
        self.n_drafted, self.shortest, self.longest = n_drafted, shortest, longest
        self.speculation = Speculation()

    def propose(self, texts: Sequence[Unfinished]) -> list[Draft]:
        """What followed before."""
        return [Draft(self.continuation(text.tokens)[: text.at_most]) for text in texts]

    def continuation(self, text: Sequence[int]) -> Sequence[int]:
        """The tokens behind the best match, none where there is no match.

        >>> Lookup(3).continuation([5, 6, 7, 8, 1, 5, 6])
        [7, 8, 1]
        """
        latest, longest, follows = text[-1], self.shortest - 1, 0
        for end in range(len(text) - 2, -1, -1):
            if text[end] == latest:
                n = self._matching(text, end)
                if n > longest:
                    longest, follows = n, end + 1
                if n == self.longest:
                    break
        return text[follows : follows + self.n_drafted] if follows else []

    def _matching(self, text: Sequence[int], end: int) -> int:
        """How many tokens up to this place are those at the end of the text."""
        n = 1
        while n < self.longest and n <= end and text[end - n] == text[-1 - n]:
            n += 1
        return n


def check_n_drafted(n: int) -> None:
    """Raise unless so many tokens can be drafted at once."""
    if not 1 <= n <= 64:
        raise GenerationError(f"must be from 1 to 64, not {n}.", setting="n_drafted")


def verified(p: Float[Tensor, " V"], q: Float[Tensor, " V"] | None, token: int, generator: torch.Generator) -> int:
    """The token that was drafted with probability q, or another, so that what comes is distributed as p.

    With q None it was certain, and another token comes with its own probability.
    """
    drafted_with = 1.0 if q is None else float(q[token])
    if float(torch.rand((), generator=generator, dtype=torch.float64)) * drafted_with < float(p[token]):
        return token
    residual = p.clone()
    if q is None:
        residual[token] = 0
    else:
        residual[: len(q)] -= q[: len(p)]
        residual.clamp_(min=0)
    if not residual.any():  # p and q differ by rounding alone
        residual = p
    return int(draw(residual[None], torch.rand(1, generator=generator, dtype=torch.float64)))
