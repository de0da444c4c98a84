"""What a decoder looks at beside its own text: the memory, which is what an encoder made of the source.

The memory stays as it is while the text grows, so each layer computes its keys and values once and keeps them.
Next to read: `block.py` for the blocks that look at it, `kv_cache.py` for the text's own cache.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.nn import mask
from glassformer.nn.kv_cache import KVCache, Policy, Step, count_positions
from glassformer.nn.mask import Mask


class MemoryCache:
    """The memory's keys and values in one layer: `kept` is None until they are there."""

    def __init__(self, kept: tuple[Tensor, Tensor] | None = None) -> None:
        self.kept = kept

    def update(
        self, k: Float[Tensor, "B G S D"], v: Float[Tensor, "B G S E"]
    ) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S E"]]:
        """Keep all of them, and give them back."""
        self.kept = k, v
        return self.kept


class DecoderState:
    """The memory with its keys and values, and the cache of the decoder's own text: what `begin` returns.

    `valid` is False where the source is padding.
    """

    def __init__(
        self,
        memory: Float[Tensor, "B S C"],
        n_layers: int,
        policy: Policy,
        valid: Bool[Tensor, "B S"] | None = None,
    ) -> None:
        self.memory = memory
        self.cache = KVCache(n_layers, policy)
        self.memories = [MemoryCache() for _ in range(n_layers)]
        self._valid = valid
        self._sources = torch.arange(len(memory), device=memory.device)  # which memory each row looks at

    @property
    def room(self) -> int:
        """How many tokens of the text may come at once."""
        return self.cache.room

    def step(self, tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None = None) -> Step:
        """Give the new tokens of the text their slots."""
        return self.cache.step(tokens, valid)

    def memory_mask(self, n_queries: int) -> Mask:
        """Every token looks at all of the memory that is no padding."""
        over = Mask.between(mask.Everything(), n_queries, self.memory.shape[-2], self.memory.device)
        if self._valid is None:
            return over
        keys = count_positions(self._valid)[:, None]  # one axis for the heads
        return Mask(rule=mask.Everything(), queries=over.queries, keys=keys)

    def again(self, n: int, policy: Policy) -> "DecoderState":
        """A state for n texts about the same single source, of which no token has been read."""
        valid = None if self._valid is None else self._valid.expand(n, -1)
        state = DecoderState(self.memory.expand(n, -1, -1), len(self.memories), policy, valid)
        if n == 1:
            state.memories = self.memories  # what one computes, the others need not
        else:
            state.memories = self._memories(lambda kept: kept.expand(n, -1, -1, -1))
        return state

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        self.cache.select(rows)
        before, self._sources = self._sources, self._sources[rows]
        if torch.equal(before, self._sources):
            return  # beams of one source have changed places: they look at the same memory
        self.memory = self.memory[rows]
        self._valid = None if self._valid is None else self._valid[rows]
        self.memories = self._memories(lambda kept: kept[rows])

    def _memories(self, change: Callable[[Tensor], Tensor]) -> list[MemoryCache]:
        kept = [layer.kept for layer in self.memories]
        return [MemoryCache(pair and (change(pair[0]), change(pair[1]))) for pair in kept]
