"""The cache of keys and values, and the policies that say which tokens it keeps.

A policy gives every token of an endless text a slot in a buffer that never exceeds its capacity; a token leaves when
another takes its slot.

    full(capacity)        every token, until the buffer is full
    window(n)             the n latest tokens
    sinks(first, recent)  the first tokens and the latest ones: StreamingLLM (Xiao et al. 2023, arXiv:2309.17453)

Positions are places in the cache, as §3.2 of that paper asks: what a query sees is always numbered 0, 1, 2, … without
a gap, however far the text has come. Rotary positions only matter by their differences. So a key is turned once, by its
place in the whole text, and when tokens have left in between, the sinks alone are turned again to close up to the
others: a handful of keys a step instead of all of them.
A learned position is added to a token before the first layer and cannot be changed later: a token keeps the place at
which it came in, which for a cache that has filled is its last place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.nn import mask
from glassformer.nn.mask import Mask, Rule
from glassformer.nn.rope import RoPE, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which slot the token at a position takes (an array of positions in, slots out), and whom a query then sees.

    No slot is beyond its token's position, so that a short text needs few slots whatever the capacity.
    """

    name: str
    capacity: int
    slot: Callable[[Tensor], Tensor]
    rule: Rule
    sinks: int = 0
    endless: bool = True


def full(capacity: int) -> Policy:
    """Keep everything; the text ends with the buffer."""
    return Policy(name="full", capacity=capacity, slot=lambda position: position, rule=mask.Causal(), endless=False)


def window(size: int) -> Policy:
    """Keep the latest tokens."""
    return Policy(name=f"window:{size}", capacity=size, slot=lambda position: position % size, rule=mask.Window(size))


def sinks(first: int, recent: int) -> Policy:
    """Keep the first tokens, which attract the weight that has nowhere else to go, and the latest ones."""

    def slot(position: Tensor) -> Tensor:
        return torch.where(position < first, position, first + (position - first) % recent)

    return Policy(
        name=f"sinks:{first}+{recent}",
        capacity=first + recent,
        slot=slot,
        rule=mask.Sinks(first, recent),
        sinks=first,
    )


def parse_policy(text: str, context_length: int) -> Policy:
    """The policy that "full", "window:N" or "sinks:K+N" names, for a model that knows `context_length` positions."""
    kind, _, sizes = text.partition(":")
    numbers = [int(n) for n in sizes.split("+") if n.isdecimal() and len(n) < 10]
    if text == "full":
        policy = full(context_length)
    elif kind == "window" and len(numbers) == 1 and sizes == f"{numbers[0]}" and numbers[0] > 0:
        policy = window(numbers[0])
    elif kind == "sinks" and len(numbers) == 2 and sizes == f"{numbers[0]}+{numbers[1]}" and min(numbers) > 0:
        policy = sinks(*numbers)
    else:
        raise ConfigError(
            f'The cache policy {text!r} is none of "full", "window:N" and "sinks:K+N", with numbers from 1 on.'
        )
    if policy.capacity > context_length:
        raise ConfigError(
            f"The cache policy {text!r} keeps {policy.capacity} tokens, but this model has {context_length} positions."
        )
    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the layers need to know of the tokens that come in.

    `places` are their places in the cache, for learned positions; `positions` those in the whole text, −1 for padding.
    `caches` has one entry a layer: None where nothing is cached.
    """

    positions: Int[Tensor, "*B T"]
    places: Int[Tensor, "*B T"]
    mask: Mask
    caches: "list[LayerCache] | list[None]"


def uncached(
    tokens: Int[Tensor, "*B T"], n_layers: int, valid: Bool[Tensor, "B T"] | None = None, rule: Rule = mask.Causal()
) -> Step:
    """The step that is a whole text by itself; `valid` is False at padding."""
    nothing: list[None] = [None] * n_layers
    if valid is None:
        over = Mask.over(rule, tokens.shape[-1], tokens.device)
        return Step(positions=over.queries, places=over.queries, mask=over, caches=nothing)
    positions = count_positions(valid)
    rows = positions[:, None]  # one axis for the heads
    over = Mask(rule=rule, queries=rows, keys=rows)
    return Step(positions=positions, places=positions.clamp(min=0), mask=over, caches=nothing)


def count_positions(valid: Bool[Tensor, "B T"], start: Int[Tensor, " B"] | int = 0) -> Int[Tensor, "B T"]:
    """Positions that count the valid tokens of each row from `start`; −1 at padding, wherever it stands."""
    if isinstance(start, Tensor):
        start = start[:, None]
    return torch.where(valid, valid.cumsum(-1) - 1 + start, -1)


class KVCache:
    """The keys and values of all layers under one policy; what `begin` returns, and `forward` moves on.

    Buffers grow with the text up to the policy's capacity, and have one slot more, the first, which takes the padding.
    """

    def __init__(self, n_layers: int, policy: Policy, rope: RoPE | None = None) -> None:
        self.policy = policy
        self.layers = [LayerCache(policy) for _ in range(n_layers)]
        self.length = 0  # tokens that came in, padding counted
        self._rope = rope
        self._counts: Int[Tensor, " B"] | None = None  # valid tokens of each row, once rows differ
        self._positions: Int[Tensor, "*B slots"] | None = None  # of the token in each slot, −1 where there is none

    def step(self, tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None = None) -> Step:
        """Give the new tokens their slots. `valid` is False at padding; only the first step may bring it anew."""
        n_new = tokens.shape[-1]
        self._check_room(n_new)
        positions = self._next_positions(tokens, valid)
        capacity = self.policy.capacity
        slots = torch.where(positions >= 0, self.policy.slot(positions) + 1, 0)
        first = self.length == 0
        self.length += n_new
        used = min(self.length, capacity)
        if self._positions is None:
            self._positions = torch.full((*positions.shape[:-1], 1), -1, device=tokens.device)
        self._positions = with_room(self._positions, used, capacity, dim=-1, fill=-1)
        self._positions.scatter_(-1, slots, positions)

        turn = None
        if self.policy.sinks and self._rope is not None:
            left = (positions.amax(-1, keepdim=True) + 1 - capacity).clamp(min=0)
            turn = self._rope(left[..., None])  # (1, 1) or (B, 1, 1): heads, keys
        for layer in self.layers:
            layer.expect(slots, positions, used, turn)

        aligned = positions.dim() == 1
        keys = self._positions[..., 1 : used + 1]
        over = Mask(
            rule=mask.Everything() if aligned and n_new == 1 else self.policy.rule,  # one token sees all that is kept
            queries=positions if aligned else positions[:, None],
            keys=keys if aligned else keys[:, None],
            in_order=aligned and first,
            unpadded=aligned,
        )
        places = positions.clamp(min=0, max=capacity - 1)
        return Step(positions=positions, places=places, mask=over, caches=self.layers)

    @property
    def room(self) -> int:
        """How many tokens may come at once; later only one at a time, since each sees other tokens than the next."""
        return max(self.policy.capacity - self.length, 1 if self.policy.endless else 0)

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        if self._positions is not None and self._positions.dim() == 2:
            self._positions = self._positions[rows]
        if self._counts is not None:
            self._counts = self._counts[rows]
        for layer in self.layers:
            layer.select(rows)

    def _check_room(self, n_new: int) -> None:
        if n_new > self.room:
            remedy = "feed one token at a time" if self.policy.endless else "the context is full"
            raise GenerationError(
                f"The cache {self.policy.name} of {self.policy.capacity} tokens has taken {self.length} and cannot "
                f"take {n_new} at once: {remedy}."
            )

    def _next_positions(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None and self._counts is None:
            return torch.arange(self.length, self.length + tokens.shape[-1], device=tokens.device)
        if valid is None:
            valid = torch.ones_like(tokens, dtype=torch.bool)
        if self._counts is None:
            if self.length > 0:
                raise GenerationError("Padding must be given from the first step on.")
            self._counts = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        positions = count_positions(valid, self._counts)
        self._counts = self._counts + valid.sum(-1)
        return positions


class LayerCache:
    """The keys and values of one layer, in the slots that the step has chosen."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        self._sinks: Tensor | None = None  # the sinks' keys as they came, before they follow the text
        self._used = 0

    def expect(self, slots: Tensor, positions: Tensor, used: int, turn: Rotation | None) -> None:
        """Take note of where the next keys and values go."""
        self._slots, self._used, self._turn = slots, used, turn
        first = self._policy.sinks
        self._sink_slots = torch.where((positions >= 0) & (positions < first), positions + 1, 0)

    def update(
        self, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T E"]
    ) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S E"]]:
        """Put the new keys (already turned to their positions) and values away; all that are kept come back."""
        capacity, kept = self._policy.capacity, slice(1, self._used + 1)
        if self._k is None or self._v is None:
            self._k = k.new_zeros(*k.shape[:2], 1, k.shape[-1])
            self._v = v.new_zeros(*v.shape[:2], 1, v.shape[-1])
            self._sinks = k.new_zeros(*k.shape[:2], self._policy.sinks + 1, k.shape[-1])
        self._k = with_room(self._k, self._used, capacity, dim=2)
        self._v = with_room(self._v, self._used, capacity, dim=2)
        put(self._k, self._slots, k)
        put(self._v, self._slots, v)
        if self._turn is not None and self._sinks is not None:
            put(self._sinks, self._sink_slots, k)
            first = min(self._policy.sinks, self._used)
            self._k[:, :, 1 : first + 1] = self._turn(self._sinks[:, :, 1 : first + 1])
        return self._k[:, :, kept], self._v[:, :, kept]

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """See `KVCache.select`; where as many rows stay, the buffers do, and only what is in them moves."""
        if self._k is None or self._v is None or self._sinks is None:
            return
        if len(rows) == len(self._k):
            for buffer in (self._k, self._v, self._sinks):
                buffer[:, :, : self._used + 1] = buffer[rows, :, : self._used + 1]
        else:
            self._k, self._v, self._sinks = self._k[rows], self._v[rows], self._sinks[rows]


def with_room(buffer: Tensor, n_slots: int, capacity: int, *, dim: int, fill: int = 0) -> Tensor:
    """The buffer, where it has so many slots beside that of the padding, or a copy in one of twice as many.

    Doubling copies each number once on average, however long the text becomes.
    """
    missing = n_slots + 1 - buffer.shape[dim]
    if missing <= 0:
        return buffer
    shape = list(buffer.shape)
    shape[dim] = max(missing, min(2 * buffer.shape[dim], capacity + 1) - buffer.shape[dim])
    return torch.cat([buffer, buffer.new_full(shape, fill)], dim)


def put(buffer: Float[Tensor, "B G N D"], slots: Int[Tensor, "*rows T"], new: Float[Tensor, "B G T D"]) -> None:
    """Write each new vector into its slot; slots are the same for all rows, or each row has its own."""
    if slots.dim() == 1:
        buffer.index_copy_(2, slots, new)
    else:
        buffer.scatter_(2, slots[:, None, :, None].expand_as(new), new)
