"""What has been read of texts, so that others that begin alike start behind it.

A beginning is used where what follows is the same by definition: the tokens in a cache do not depend on how many were
read at once, and those behind the beginning can be forgotten as long as none has left for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.models.spec import Rewindable, State
from glassformer.nn.kv_cache import KVCache

RECENT_BYTES = 1 << 28
WORTH = 16  # tokens; fewer are read as soon as the cache of a long text is copied


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The beginning of texts, read once: the state after it and the logits of its last token, where they are kept."""

    tokens: tuple[int, ...]
    state: State
    logits: Float[Tensor, "1 V"] | None

    def begins(self, text: Sequence[int]) -> bool:
        """Whether the text has all of it at its beginning."""
        return tuple(text[: len(self.tokens)]) == self.tokens

    def n_shared(self, text: Sequence[int]) -> int:
        """How many tokens of a text need not be read: 0 where they can not be had without those behind them."""
        if self.begins(text) and (self.logits is not None or len(text) > len(self.tokens)):
            return len(self.tokens)
        if not isinstance(self.state, Rewindable) or self.state.spares[0] == 0:
            return 0
        n = min(len(self.tokens), len(text) - 1)  # of one at least the logits are needed
        if tuple(text[:n]) == self.tokens[:n]:
            return n
        return next(i for i in range(n) if text[i] != self.tokens[i])

    def rows(self, n_tokens: int, n_rows: int, device: torch.device) -> State:
        """The state after so many of its tokens, in so many rows of their own."""
        state = self.state.branch(torch.zeros(n_rows, dtype=torch.long, device=device))
        if isinstance(state, KVCache) and state.lengths is not None:
            state.rewind(state.lengths - n_tokens)
        return state


class RecentTexts:
    """The caches of the texts that were read lately, in so many bytes; those that nobody has begun with go first."""

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._prefixes: dict[tuple[int, ...], Prefix] = {}  # the latest last

    def __iter__(self) -> Iterator[Prefix]:
        """The latest last."""
        return iter(self._prefixes.values())

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return sum(_n_bytes(prefix.state) for prefix in self)

    def keep(
        self,
        tokens: Sequence[int],
        state: State,
        row: int,
        logits: Float[Tensor, "1 V"] | None = None,
        *,
        is_free: bool = False,
    ) -> None:
        """Copy what a row has read, which is these tokens and perhaps others behind them.

        A state of one row that nobody goes on with `is_free`, and is kept itself.
        """
        if not tokens or not isinstance(state, KVCache) or state.lengths is None or not self.most_bytes:
            return
        is_free = is_free and len(state.lengths) == 1
        kept = state if is_free else state.branch(torch.tensor([row], device=state.lengths.device))
        text = tuple(tokens)
        self._prefixes.pop(text, None)
        self._prefixes[text] = Prefix(text, kept, logits)
        while self.n_bytes > self.most_bytes:
            del self._prefixes[next(iter(self._prefixes))]

    def use(self, prefix: Prefix) -> None:
        """It is wanted still."""
        if self._prefixes.pop(prefix.tokens, None) is not None:
            self._prefixes[prefix.tokens] = prefix


def _n_bytes(state: State) -> int:
    assert isinstance(state, KVCache)
    return sum(buffer.nbytes for layer in state.layers for buffer in layer.buffers)
