"""Who may look at whom: rules over positions.

A rule takes the positions of queries and of keys and says which pairs are allowed; it knows nothing of tensors' layout,
so one rule serves a whole text, a tile of it, and a cache whose slots are in any order. A key at position −1 is padding
or an empty slot, and no rule allows it. Rules are values: two that allow the same by the same sizes are equal, and a
backend of attention (`attend/`) may read those sizes instead of asking about pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]  # positions of queries and keys in, a table as both broadcast to out


@dataclass(frozen=True, slots=True)
class Everything:
    """Every query sees every key that is no padding."""

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a key is no padding, whoever asks."""
        return (key >= 0).expand(torch.broadcast_shapes(query.shape, key.shape))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Causal:
    """A query sees itself and what came before it."""

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a key is at the query's position or before it."""
        return (key >= 0) & (key <= query)


@dataclass(frozen=True, slots=True)
class Window:
    """A query sees itself and the n − 1 tokens before it (Beltagy et al. 2020, §3.1, arXiv:2004.05150).

    >>> Mask.over(Window(2), 4).allowed().int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """

    n: int

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a key is one of the last n up to the query's position."""
        return (key >= 0) & (key <= query) & (query - key < self.n)


@dataclass(frozen=True, slots=True)
class Sinks:
    """A query sees the first tokens of the text and the `recent` latest ones (Xiao et al. 2023, arXiv:2309.17453).

    >>> Mask.over(Sinks(first=1, recent=2), 5).allowed()[-1].int()
    tensor([1, 0, 0, 1, 1], dtype=torch.int32)
    """

    first: int
    recent: int

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether a key is one of the first tokens, or of the latest up to the query's position."""
        return (key >= 0) & (key <= query) & ((key < self.first) | (query - key < self.recent))


@dataclass(frozen=True, slots=True, eq=False)
class Explicit:
    """A table says it: query t sees key s where `table[…, t, s]` is True. Two tables are equal if they are one."""

    table: Bool[Tensor, "*B T S"]

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """What the table has at the positions of queries and keys."""
        return self.table[..., query, key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A rule and the positions it is asked about.

    Where rows of a batch differ in their positions, these have shape (B, 1, T): one axis stands for the heads.
    `in_order` says that queries and keys are both at 0, 1, 2, …, `unpadded` that no key is at −1: backends may use it.
    """

    rule: Rule
    queries: Int[Tensor, "*Q T"]
    keys: Int[Tensor, "*K S"]
    in_order: bool = False
    unpadded: bool = False

    @classmethod
    def over(cls, rule: Rule, length: int, device: torch.device | str | None = None) -> "Mask":
        """The rule over a text of `length` tokens that looks at itself."""
        positions = torch.arange(length, device=device)
        return cls(rule=rule, queries=positions, keys=positions, in_order=True, unpadded=True)

    @classmethod
    def between(cls, rule: Rule, n_queries: int, n_keys: int, device: torch.device | str | None = None) -> "Mask":
        """The rule between two texts, as cross-attention has them."""
        queries = torch.arange(n_queries, device=device)
        return cls(rule=rule, queries=queries, keys=torch.arange(n_keys, device=device), unpadded=True)

    @classmethod
    def explicit(cls, table: Bool[Tensor, "*B T S"]) -> "Mask":
        """The mask that a table of allowed pairs spells out; its leading axes are those of the queries."""
        return cls.between(Explicit(table), table.shape[-2], table.shape[-1], table.device)

    def allowed(self, rows: slice = slice(None), columns: slice = slice(None)) -> Bool[Tensor, "*B T S"]:
        """`allowed[t, s]` says that query t may look at key s, for the given rows and columns."""
        return self.rule(self.queries[..., rows, None], self.keys[..., None, columns])
