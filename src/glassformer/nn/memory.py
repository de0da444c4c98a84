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

KeysValues = tuple[Float[Tensor, "*B G S D"], Float[Tensor, "*B G S E"]]


class LayerMemory:
    """The memory as one layer looks at it: that layer's keys and values of it, computed when first asked for."""

    def __init__(self, memory: Float[Tensor, "*B S C"], kept: KeysValues | None = None) -> None:
        self.memory = memory
        self.kept = kept

    def keys_values(self, project: Callable[[Tensor], KeysValues]) -> KeysValues:
        """What `project` makes of the memory; it is called once."""
        if self.kept is None:
            self.kept = project(self.memory)
        return self.kept

    def changed(self, memory: Float[Tensor, "B S C"], change: Callable[[Tensor], Tensor]) -> "LayerMemory":
        """Another memory, whose keys and values are these after the change."""
        return LayerMemory(memory, self.kept and (change(self.kept[0]), change(self.kept[1])))

    def joined(self, other: "LayerMemory", memory: Float[Tensor, "B S C"]) -> "LayerMemory":
        """The memory of the rows of both, each padded to its length; keys and values where both have them."""
        if self.kept is None or other.kept is None:
            return LayerMemory(memory)
        k, v = (
            torch.cat([padded(one, memory.shape[1], 2), padded(more, memory.shape[1], 2)])
            for one, more in zip(self.kept, other.kept, strict=True)
        )
        return LayerMemory(memory, (k, v))


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
        self.memories = [LayerMemory(memory) for _ in range(n_layers)]
        self.valid = valid
        self._sources = torch.arange(len(memory), device=memory.device)  # which memory each row looks at

    @property
    def rooms(self) -> list[int]:
        """How many tokens of its text each row may take in at once."""
        return self.cache.rooms

    @property
    def room(self) -> int:
        """How many tokens of the text may come at once in every row."""
        return self.cache.room

    def step(self, tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None = None) -> Step:
        """Give the new tokens of the text their slots."""
        return self.cache.step(tokens, valid)

    def holds(self, n_rows: int, dtype: torch.dtype) -> bool:
        """Whether so many rows have read something, and each layer has keys and values of this type, laid out alike."""
        kept = [layer.kept for layer in self.memories if layer.kept is not None]
        return (
            self.cache.holds(n_rows, dtype)
            and len(kept) == len(self.memories)
            and all(k.dtype == v.dtype == dtype and len(k) == n_rows for k, v in kept)
            and all(k.stride() == v.stride() and k.stride(-1) == 1 for k, v in kept)
        )

    def memory_mask(self, n_queries: int) -> Mask:
        """Every token looks at all of the memory that is no padding."""
        over = Mask.between(mask.Everything(), n_queries, self.memory.shape[-2], self.memory.device)
        if self.valid is None:
            return over
        keys = count_positions(self.valid)[:, None]  # one axis for the heads
        return Mask(rule=mask.Everything(), queries=over.queries, keys=keys)

    def again(self, n: int, policy: Policy) -> "DecoderState":
        """A state for n texts about the same single source, of which no token has been read."""
        rows = torch.zeros(n, dtype=torch.long)
        valid = None if self.valid is None else rows_of(self.valid, rows)
        state = DecoderState(rows_of(self.memory, rows), len(self.memories), policy, valid)
        if n == 1:
            state.memories = self.memories  # what one computes, the others need not
        else:
            state.memories = self._memories(state.memory, lambda kept: rows_of(kept, rows))
        return state

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        self.cache.select(rows)
        before, self._sources = self._sources, self._sources[rows]
        if torch.equal(before, self._sources):
            return  # beams of one source have changed places: they look at the same memory
        self.memory = rows_of(self.memory, rows)
        self.valid = None if self.valid is None else rows_of(self.valid, rows)
        self.memories = self._memories(self.memory, lambda kept: rows_of(kept, rows))

    def branch(self, rows: Int[Tensor, " N"]) -> "DecoderState":
        """A state of its own for these rows; this one stays as it is."""
        valid = None if self.valid is None else rows_of(self.valid, rows)
        state = DecoderState(rows_of(self.memory, rows), len(self.memories), self.cache.policy, valid)
        state.cache = self.cache.branch(rows)
        state.memories = self._memories(state.memory, lambda kept: rows_of(kept, rows))
        state._sources = self._sources[rows]
        return state

    def join(self, other: "DecoderState") -> None:
        """Go on with the rows of another state too, behind these; the shorter memory is padded."""
        length = max(self.memory.shape[1], other.memory.shape[1])
        valid = None
        if self.valid is not None or other.valid is not None or self.memory.shape[1] != other.memory.shape[1]:
            valid = torch.cat([padded(state._valid_or_all(), length) for state in (self, other)])
        memory = torch.cat([padded(state.memory, length) for state in (self, other)])
        sources = torch.cat([self._sources, other._sources + self._sources.amax() + 1])
        memories = [one.joined(more, memory) for one, more in zip(self.memories, other.memories, strict=True)]
        self.cache.join(other.cache)
        self.valid, self.memory, self._sources, self.memories = valid, memory, sources, memories  # all, or nothing

    def _valid_or_all(self) -> Bool[Tensor, "B S"]:
        return torch.ones_like(self.memory[..., 0], dtype=torch.bool) if self.valid is None else self.valid

    def _memories(self, memory: Tensor, change: Callable[[Tensor], Tensor]) -> list[LayerMemory]:
        return [layer.changed(memory, change) for layer in self.memories]


def rows_of(x: Tensor, rows: Int[Tensor, " N"]) -> Tensor:
    """These rows; where all are views of one, that is all the memory that they take."""
    return x[:1].expand(len(rows), *x.shape[1:]) if len(x) == 1 or x.stride(0) == 0 else x[rows]


def padded(x: Tensor, length: int, dim: int = 1) -> Tensor:
    """The tensor with zeros at the end of an axis, up to a length."""
    shape = list(x.shape)
    shape[dim] = length - x.shape[dim]
    return torch.cat([x, x.new_zeros(shape)], dim) if shape[dim] else x
