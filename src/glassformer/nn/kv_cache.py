"""The cache of keys and values, and the policies that say which tokens it keeps.

Each row of a batch has a length of its own: rows join, leave and branch while others go on, and padding takes no room.

A policy gives every token of an endless text a slot in a buffer that never exceeds its capacity; a token leaves when
another takes its slot. Many tokens may come at once: under a window they see what was kept beside each other.

    full(capacity)        every token, until the buffer is full
    window(n)             the n latest tokens
    sinks(first, recent)  the first tokens and the latest ones: StreamingLLM (Xiao et al. 2023, arXiv:2309.17453)

As §3.2 of that paper asks, what a query sees is numbered by its place in the cache, 0, 1, 2, … without a gap, however
far the text has come. Of rotary positions only the differences matter. So a key is rotated once, by its position in the
whole text, and when tokens have left in between, the sinks alone are rotated again, to close up to the others: a few
keys a step instead of all of them. Where the frequencies depend on the length of the text, that is the number of places
at most: they are those of what is seen.
A learned position is added to a token before the first layer and cannot be changed later: a token keeps the place at
which it came in, which for a cache that has filled is its last place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.nn import mask
from glassformer.nn.mask import Mask, Rule
from glassformer.nn.rope import RoPE, Rotation

BESIDE = 512  # tokens that a window takes at once, although fewer fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which slot the token at a position takes, and whom a query then sees.

    The first `n_sinks` tokens of a text keep their slots; the later ones go round in the others. No slot is beyond its
    token's position, so that a short text needs few slots whatever the capacity.
    """

    name: str
    capacity: int
    rule: Rule
    n_sinks: int = 0
    endless: bool = True

    def slot(self, position: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """The slot of the token at each position."""
        return torch.where(
            position < self.n_sinks, position, self.n_sinks + (position - self.n_sinks) % self._ring_size
        )

    def positions(self, lengths: Int[Tensor, "*B 1"], n_slots: int) -> Int[Tensor, "*B n_slots"]:
        """The position of the token in each slot after that many tokens; −1 where there is none."""
        slots = torch.arange(n_slots, device=lengths.device)
        latest = lengths - 1 - (lengths - 1 - slots) % self._ring_size  # of the positions that go round in a slot
        if self.n_sinks:
            latest = torch.where(slots < self.n_sinks, slots.minimum(lengths - 1), latest)
        return torch.where(latest >= slots, latest, -1)

    def room(self, length: int) -> int:
        """How many tokens may come at once after that many.

        Once the cache is full, a window still takes many, which are seen beside those that then leave. With sinks one
        comes and one leaves, since their keys are rotated to where that one stands.
        """
        if not self.endless:
            return max(self.capacity - length, 0)
        return max(self.capacity - length, 1 if self.n_sinks else BESIDE)

    @property
    def _ring_size(self) -> int:
        return self.capacity - self.n_sinks


def full(capacity: int) -> Policy:
    """Keep everything; the text ends with the buffer."""
    return Policy(name="full", capacity=capacity, rule=mask.Causal(), endless=False)


def window(size: int) -> Policy:
    """Keep the latest tokens."""
    return Policy(name=f"window:{size}", capacity=size, rule=mask.Window(size))


def sinks(first: int, recent: int) -> Policy:
    """Keep the first tokens, which attract the weight that has nowhere else to go, and the latest ones."""
    return Policy(
        name=f"sinks:{first}+{recent}", capacity=first + recent, rule=mask.Sinks(first, recent), n_sinks=first
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


class LayerInputs(NamedTuple):
    """What one layer's attention is given: whom its queries see, and its cache, None where nothing is cached."""

    mask: Mask
    cache: "LayerStep | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the layers need to know of the tokens that come in.

    `places` are their places in the cache, for learned positions; `positions` those in the whole text, −1 for padding.
    `lengths` are those by which frequencies go that depend on one; None: of what comes in, or none does.
    """

    positions: Int[Tensor, "*B T"]
    places: Int[Tensor, "*B T"]
    layers: Sequence[LayerInputs]
    lengths: Int[Tensor, "*B 1"] | None = None

    def rotation(self, rope: RoPE) -> Rotation:
        """How the tokens' queries and keys turn, with one axis for the heads."""
        return rope(self.positions.unsqueeze(-2), None if self.lengths is None else self.lengths.unsqueeze(-2))


def uncached(
    tokens: Int[Tensor, "*B T"],
    n_layers: int,
    valid: Bool[Tensor, "B T"] | None = None,
    rule: Rule = mask.Causal(),
    local: Mapping[int, Rule] = MappingProxyType({}),
) -> Step:
    """The step that is a whole text by itself; `valid` is False at padding, `local` has the rules of other layers."""
    whole = valid is None
    positions = torch.arange(tokens.shape[-1], device=tokens.device) if valid is None else count_positions(valid)
    rows = positions if whole else positions[:, None]  # one axis for the heads
    rules = [local.get(i, rule) for i in range(n_layers)]
    masks = {rule: Mask(rule=rule, queries=rows, keys=rows, in_order=whole, unpadded=whole) for rule in set(rules)}
    return Step(
        positions=positions,
        places=positions if whole else positions.clamp(min=0),
        layers=[LayerInputs(masks[rule]) for rule in rules],
    )


def count_positions(valid: Bool[Tensor, "B T"], start: Int[Tensor, " B"] | int = 0) -> Int[Tensor, "B T"]:
    """Positions that count the valid tokens of each row from `start`; −1 at padding, wherever it stands."""
    if isinstance(start, Tensor):
        start = start[:, None]
    return torch.where(valid, valid.cumsum(-1) - 1 + start, -1)


class KVCache:
    """The keys and values of all layers under a policy; what `begin` returns, and `forward` moves on.

    `local` are the policies of layers that have one of their own, such as a window in every other layer; `rotated`
    says which layers turn keys by `rope`, where not all do.
    `lengths` counts the tokens that each row has taken in; which token is in which slot follows from it. Buffers grow
    with the longest row up to the policy's capacity, and have one slot more, the first, which takes the padding. A
    `static` cache has all its slots from the beginning, and asks all of them at every step: no shape depends on how far
    a text has come, as a compiled step or a captured graph needs it. Nor does it refuse a token for which there is no
    room: who steps it asks `rooms` first.
    Who reads texts in pieces sets `whole`, the length of each at the end, so that all pieces turn alike.
    """

    def __init__(
        self,
        n_layers: int,
        policy: Policy,
        rope: RoPE | None = None,
        *,
        local: Mapping[int, Policy] = MappingProxyType({}),
        rotated: Sequence[bool] = (),
        static: bool = False,
    ) -> None:
        self.policy = policy
        self.local = dict(local)
        self._rotated = rotated or [True] * n_layers
        self.layers = [LayerCache() for _ in range(n_layers)]
        self.lengths: Int[Tensor, " B"] | None = None  # before the first step
        self.whole: Int[Tensor, " B"] | None = None
        self.static = static
        self._rope = rope

    def step(self, tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None = None) -> Step:
        """Give the new tokens their slots; `valid` is False at padding, which may stand anywhere."""
        n_new, device = tokens.shape[-1], tokens.device
        before = torch.zeros(len(tokens), dtype=torch.long, device=device) if self.lengths is None else self.lengths
        lengths = before + (n_new if valid is None else valid.sum(-1))
        aligned, longest, is_first = False, None, False
        if not self.static:
            # What is known without the device is not asked of it: training's only step is a first one, without padding.
            host = [0] * len(tokens) if self.lengths is None else self.lengths.tolist()
            aligned = valid is None and min(host) == max(host)
            is_first = max(host) == 0
            ends = [length + n_new for length in host] if valid is None else lengths.tolist()
            self._check_room(host, ends)
            longest = max(host), max(ends)

        before, after = before[:, None], lengths[:, None]
        turning = None
        if self._rope is not None and self._rope.scaling is not None and self._rope.scaling.by_length:
            turning = (lengths if self.whole is None else self.whole.maximum(lengths))[:, None]
            turning = turning.clamp(max=self.policy.capacity)  # what an endless text is numbered up to
        if aligned:  # one row of positions stands for all
            before, after, turning = before[0], after[0], None if turning is None else turning[0]
            positions = torch.arange(host[0], host[0] + n_new, device=device)
        else:
            positions = count_positions(
                torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid, before[:, 0]
            )
        placements = {
            policy: self._place(policy, positions, before, after, longest, turning) for policy in self._policies
        }
        masks = {
            policy: Mask(
                rule=mask.Everything() if aligned and n_new == 1 else policy.rule,  # one token sees all that is kept
                queries=positions if aligned else positions[:, None],
                keys=keys if aligned else keys[:, None],
                in_order=aligned and is_first,
                unpadded=aligned,
            )
            for policy, (_, keys) in placements.items()
        }
        if self.static and self.lengths is not None:
            self.lengths.copy_(lengths)
        else:
            self.lengths = lengths
        return Step(
            positions=positions,
            places=positions.clamp(min=0, max=self.policy.capacity - 1),
            lengths=turning,
            layers=[
                LayerInputs(masks[policy], LayerStep(layer, placements[policy][0], rotated))
                for layer, policy, rotated in zip(self.layers, self.policies, self._rotated, strict=True)
            ],
        )

    def holds(self, n_rows: int, dtype: torch.dtype) -> bool:
        """Whether so many rows have read something, so that every layer has its buffers, of this type."""
        return (
            self.lengths is not None
            and len(self.lengths) == n_rows
            and all(layer.buffers for layer in self.layers)
            and all(buffer.dtype == dtype for layer in self.layers for buffer in layer.buffers)
        )

    def step_by(self, n_new: Sequence[int]) -> list[int]:
        """The position of the first of so many new tokens in each row, for which all buffers have room then.

        What `step` does, for who writes keys and values by itself, as `LayerStep.update` does. The cache `holds` rows.
        """
        assert self.lengths is not None
        before: list[int] = self.lengths.tolist()
        ends = [length + more for length, more in zip(before, n_new, strict=True)]
        if not self.static:
            self._check_room(before, ends)
            longest = max(ends)
            for layer, policy in zip(self.layers, self.policies, strict=True):
                n_slots = min(max(longest, 1), policy.capacity)
                if n_slots >= layer.buffers[0].shape[2]:
                    layer.buffers[:2] = (with_room(buffer, n_slots, policy.capacity) for buffer in layer.buffers[:2])
        lengths = torch.tensor(ends)
        self.lengths = self.lengths.copy_(lengths) if self.static else lengths
        return before

    def _place(
        self,
        policy: Policy,
        positions: Int[Tensor, "*B T"],
        before: Int[Tensor, "*B 1"],
        lengths: Int[Tensor, "*B 1"],
        longest: tuple[int, int] | None,
        turning: Int[Tensor, "*B 1"] | None,
    ) -> tuple["Placement", Int[Tensor, "*B S"]]:
        """Where tokens at these positions go under a policy, and the positions of all keys that they then see.

        `before` and `lengths` are those before and after this step, `longest` the greatest of each; None asks for all
        slots. `turning` are the lengths by which frequencies go, if they do.
        """
        # Where nothing but padding has come there is one slot all the same, an empty one: attention needs a key.
        n_slots = policy.capacity if longest is None else min(max(longest[1], 1), policy.capacity)
        keys, stays, n_beside, rotation = policy.positions(lengths, n_slots), positions >= 0, None, None
        if policy.n_sinks and self._rope is not None:  # the sinks close up to what is left of the text
            by = (lengths - policy.capacity).clamp(min=0)
            rotation = self._rope.further(
                by[..., None], None if turning is None else turning[..., None]
            )  # (1, 1) or (B, 1, 1): heads, keys
        elif longest is not None and longest[1] > policy.capacity and positions.shape[-1] > 1 and not policy.n_sinks:
            n_beside = min(longest[0], policy.capacity)
            keys = torch.cat([policy.positions(before, n_beside), positions], -1)
            stays = stays & (positions >= lengths - policy.capacity)
        placement = Placement(
            slots=torch.where(stays, policy.slot(positions) + 1, 0),
            sink_slots=torch.where(stays & (positions < policy.n_sinks), positions + 1, 0),
            n_slots=n_slots,
            n_beside=n_beside,
            n_rotated_sinks=policy.n_sinks if rotation is not None else 0,
            capacity=policy.capacity,
            rotation=rotation,
        )
        return placement, keys

    @property
    def policies(self) -> list[Policy]:
        """The policy of each layer."""
        return [self.local.get(i, self.policy) for i in range(len(self.layers))]

    @property
    def _policies(self) -> dict[Policy, None]:
        return dict.fromkeys((self.policy, *self.local.values()))

    @property
    def rooms(self) -> list[int]:
        """How many tokens each row may take in at once; one, for which one leaves, in an endless cache that is full."""
        lengths = [0] if self.lengths is None else self.lengths.tolist()
        policies = self._policies
        return [min([policy.room(length) for policy in policies]) for length in lengths]

    @property
    def room(self) -> int:
        """How many tokens may come at once in every row."""
        return min(self.rooms)

    @property
    def spares(self) -> list[int]:
        """How many tokens each row may take in and forget again: as many as make none leave."""
        lengths = [0] if self.lengths is None else self.lengths.tolist()
        least = min(policy.capacity for policy in self._policies)
        return [max(least - length, 0) for length in lengths]

    def rewind(self, n_forgotten: Int[Tensor, " B"]) -> None:
        """Forget the latest tokens of each row, so many of them; none may have made another leave.

        Their slots count as empty from then on, and those that come instead take the same ones.
        """
        lengths = [] if self.lengths is None else self.lengths.tolist()
        least = min(policy.capacity for policy in self._policies)
        for length, n in zip(lengths, n_forgotten.tolist(), strict=True):
            if not 0 <= n <= length or (n and length > least):
                raise GenerationError(
                    f"The cache {self.policy.name} has taken {length} tokens and cannot forget the latest {n}: others "
                    "have left for them, or it has fewer."
                )
        if self.lengths is not None:
            left = self.lengths - n_forgotten.to(self.lengths.device)
            self.lengths = self.lengths.copy_(left) if self.static else left

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""
        if self.lengths is not None:
            chosen = self.lengths[rows]
            self.lengths = self.lengths.copy_(chosen) if self.static else chosen
        for layer in self.layers:
            layer.select(rows)

    def branch(self, rows: Int[Tensor, " N"]) -> "KVCache":
        """A cache of its own for these rows; this one stays as it is."""
        cache = KVCache(
            len(self.layers), self.policy, self._rope, local=self.local, rotated=self._rotated, static=self.static
        )
        cache.lengths = None if self.lengths is None else self.lengths[rows]
        cache.layers = [layer.branch(rows) for layer in self.layers]
        return cache

    def join(self, other: "KVCache") -> None:
        """Go on with the rows of another cache too, behind these; both have read some tokens."""
        if self.lengths is None or other.lengths is None:
            raise GenerationError("A cache that has read nothing has no rows to join.")
        joined = [layer.joined(more) for layer, more in zip(self.layers, other.layers, strict=True)]
        self.lengths, self.layers = torch.cat([self.lengths, other.lengths]), joined  # all of it, or nothing

    def with_static_rows(self, n_rows: int) -> "KVCache":
        """A static cache of so many rows, all copies of the only one here; `replace` overwrites them later."""
        cache = self.branch(torch.zeros(n_rows, dtype=torch.long))
        cache.static = True
        for layer, policy in zip(cache.layers, self.policies, strict=True):
            layer.buffers[:2] = (with_slots(buffer, policy.capacity + 1) for buffer in layer.buffers[:2])
        return cache

    def replace(self, rows: Int[Tensor, " N"], other: "KVCache") -> None:
        """Put the rows of another cache in the place of these, in the same buffers."""
        if self.lengths is None or other.lengths is None:
            raise GenerationError("A cache that has read nothing has no rows to replace.")
        self.lengths[rows] = other.lengths
        for layer, more in zip(self.layers, other.layers, strict=True):
            layer.replace(rows, more)

    def _check_room(self, before: list[int], lengths: list[int]) -> None:
        """Raise where a row has no room for what comes in a step, after which it has one of the `lengths`."""
        for policy in self._policies:
            for length, after in zip(before, lengths, strict=True):
                room = policy.room(length)
                if after - length > room:
                    remedy = f"feed at most {room} at once" if room else "the context is full"
                    raise GenerationError(
                        f"The cache {policy.name} of {policy.capacity} tokens has taken {length} and cannot "
                        f"take {after - length} at once: {remedy}."
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the new tokens of a step go under a policy. Slot 0 takes padding; the others count from 1."""

    slots: Int[Tensor, "*B T"]
    sink_slots: Int[Tensor, "*B T"]  # the same for the copy of the sinks, 0 for all others
    n_slots: int  # that are read
    n_beside: int | None  # of those that are read as they were before, beside the new tokens; None: as they are after
    n_rotated_sinks: int  # whose keys are rotated anew, by `rotation`
    capacity: int
    rotation: Rotation | None


class LayerCache:
    """The buffers of one layer: keys (already rotated), values, and the sinks' keys as they came."""

    def __init__(self, buffers: Sequence[Float[Tensor, "B G _ _"]] = ()) -> None:
        self.buffers = list(buffers)

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Keep these rows, as `KVCache.select` does; buffers whose number of rows stays are written in place."""
        if self.buffers and len(rows) == len(self.buffers[0]):
            for buffer in self.buffers:
                buffer.copy_(buffer[rows])
        else:
            self.buffers = [buffer[rows] for buffer in self.buffers]

    def branch(self, rows: Int[Tensor, " N"]) -> "LayerCache":
        """Buffers of their own for these rows."""
        return LayerCache([buffer[rows] for buffer in self.buffers])

    def joined(self, other: "LayerCache") -> "LayerCache":
        """These rows and another's behind them; slots that one of them lacks are empty."""
        return LayerCache(
            [
                torch.cat([with_slots(one, more.shape[2]), with_slots(more, one.shape[2])])
                for one, more in zip(self.buffers, other.buffers, strict=True)
            ]
        )

    def replace(self, rows: Int[Tensor, " N"], other: "LayerCache") -> None:
        """Another's rows in the place of these."""
        for buffer, more in zip(self.buffers, other.buffers, strict=True):
            buffer[rows, :, : more.shape[2]] = more
            buffer[rows, :, more.shape[2] :] = 0  # what stood there may be NaN, and NaN times a weight of 0 is NaN


@dataclass(frozen=True, slots=True)
class LayerStep:
    """One layer's cache and where the new tokens go in it: what its attention is given."""

    cache: LayerCache
    placement: Placement
    rotated: bool = True  # whether its keys come turned to their positions

    def update(
        self, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T E"]
    ) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S E"]]:
        """Put the new keys (already rotated to their positions) and values away; all that are kept come back."""
        cache, at = self.cache, self.placement
        rotation = at.rotation if self.rotated else None
        if not cache.buffers:
            cache.buffers = [x.new_zeros(*x.shape[:2], 1, x.shape[-1]) for x in (k, v)]
            if rotation is not None:
                cache.buffers.append(k.new_zeros(*k.shape[:2], at.n_rotated_sinks + 1, k.shape[-1]))
        cache.buffers[:2] = (with_room(buffer, at.n_slots, at.capacity) for buffer in cache.buffers[:2])
        keys, values = cache.buffers[:2]
        if at.n_beside is not None:  # before the new ones take the slots of some
            kept = slice(1, at.n_beside + 1)
            seen = torch.cat([keys[:, :, kept], k], 2), torch.cat([values[:, :, kept], v], 2)
        put(keys, at.slots, k)
        put(values, at.slots, v)
        if at.n_beside is not None:
            return seen
        if rotation is not None:
            sinks = cache.buffers[2]
            put(sinks, at.sink_slots, k)
            n = min(at.n_rotated_sinks, at.n_slots)
            keys[:, :, 1 : n + 1] = rotation(sinks[:, :, 1 : n + 1])
        return keys[:, :, 1 : at.n_slots + 1], values[:, :, 1 : at.n_slots + 1]


def with_room(buffer: Tensor, n_slots: int, capacity: int) -> Tensor:
    """The buffer, where it has so many slots beside that of the padding, or a copy in one of twice as many.

    Doubling copies each number once on average, however long the text becomes.
    """
    if n_slots + 1 <= buffer.shape[2]:
        return buffer
    return with_slots(buffer, max(n_slots + 1, min(2 * buffer.shape[2], capacity + 1)))


def with_slots(buffer: Float[Tensor, "B G n D"], n_slots: int) -> Float[Tensor, "B G m D"]:
    """The buffer with at least so many slots; new ones are zero."""
    missing = n_slots - buffer.shape[2]
    if missing <= 0:
        return buffer
    return torch.cat([buffer, buffer.new_zeros(*buffer.shape[:2], missing, buffer.shape[-1])], 2)


def put(buffer: Float[Tensor, "B G N D"], slots: Int[Tensor, "*rows T"], new: Float[Tensor, "B G T D"]) -> None:
    """Write each new vector into its slot; slots are the same for all rows, or each row has its own."""
    if slots.dim() == 1:
        buffer.index_copy_(2, slots, new)
    else:
        buffer.scatter_(2, slots[:, None, :, None].expand_as(new), new)
