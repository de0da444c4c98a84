"""What has been read of texts, so that others that begin alike start behind it.

A beginning is used where what follows is the same by definition: the tokens in a cache do not depend on how many were
read at once, and those behind the beginning can be forgotten as long as none has left for them.
"""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.inference.latest_logits import is_watched
from glassformer.models.spec import Rewindable, State
from glassformer.nn.kv_cache import KVCache
from glassformer.torch_internals import version
from glassformer.twins import current

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
    """The caches of the texts that a module read lately, in so many bytes; those that nobody has begun with go first.

    Other weights would have read other vectors, and so might dropout, other twins and hooks: after a change none is
    left, and while somebody watches the module none is kept or used. A change is seen as far as torch counts it, which
    it does not for what is written by `.data`, and for no tensor of inference mode: beside those none is kept.
    """

    def __init__(self, module: Any, most_bytes: int = RECENT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._module = module
        self._tensors: list[weakref.ref[Tensor]] = []  # those of the module, and the rest that vectors depend on
        self._form: list[object] = []
        self._prefixes: dict[tuple[int, ...], Prefix] = {}  # the latest last

    def __iter__(self) -> Iterator[Prefix]:
        """Those that hold now, the latest last."""
        if not self._prefixes or is_watched(self._module):
            return iter(())
        if not self._is_as_it_was():
            self._prefixes.clear()
        return iter(self._prefixes.values())

    def _is_as_it_was(self) -> bool:
        """Whether the module has the numbers, and the form, with which the texts were read."""
        return self._form == self._form_now() and all(map(is_, self._tensors_now(), (each() for each in self._tensors)))

    def _form_now(self) -> list[object]:
        training = [part.training for part in self._module.modules()]
        tensors = self._tensors_now()
        versions = [-1 if each.is_inference() else version(each) for each in tensors]
        return [current(), training, versions, [(each.data_ptr(), each.dtype) for each in tensors]]

    def _tensors_now(self) -> list[Tensor]:
        return [*chain(self._module.parameters(), self._module.buffers())]

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return sum(_n_bytes(prefix.state, prefix.logits) for prefix in self._prefixes.values())

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

        A state of one row that nobody goes on with `is_free`: it is kept itself, alone if it is larger than all may be,
        so that a long conversation goes on, too.
        """
        if not tokens or not isinstance(state, KVCache) or state.lengths is None or not self.most_bytes:
            return
        is_free = is_free and len(state.lengths) == 1
        is_too_large = _n_bytes(state, None) > self.most_bytes * len(state.lengths)
        if (is_too_large and not is_free) or is_watched(self._module):
            return
        tensors = self._tensors_now()
        if any(each.is_inference() for each in tensors):
            return
        if not self._is_as_it_was():
            self._prefixes.clear()
            self._form, self._tensors = self._form_now(), [*map(weakref.ref, tensors)]
        kept = state if is_free else state.branch(torch.tensor([row], device=state.lengths.device))
        text = tuple(tokens)
        self._prefixes.pop(text, None)
        self._prefixes[text] = Prefix(text, kept, None if logits is None else logits.clone())  # no view of a batch's
        while self.n_bytes > self.most_bytes and len(self._prefixes) > 1:
            del self._prefixes[next(iter(self._prefixes))]

    def use(self, prefix: Prefix) -> None:
        """It is wanted still."""
        if self._prefixes.get(prefix.tokens) is prefix:
            self._prefixes[prefix.tokens] = self._prefixes.pop(prefix.tokens)


def _n_bytes(state: State, logits: Tensor | None) -> int:
    assert isinstance(state, KVCache)
    of_logits = 0 if logits is None else logits.nbytes
    return of_logits + sum(buffer.nbytes for layer in state.layers for buffer in layer.buffers)
