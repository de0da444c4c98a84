"""A mixture of experts: each token goes through a few of several feed-forward networks, which a router chooses.

Shazeer et al. 2017 (arXiv:1701.06538); as Mixtral has it, Jiang et al. 2024, §2.1 (arXiv:2401.04088): the softmax is
over the chosen experts alone. Without `norm_top_k` it is over all of them, and the weights of the chosen sum to less.
DeepSeek's experts are in groups, and some are for all tokens (Dai et al. 2024, arXiv:2401.06066).
There is no loss that balances the experts here, and no expert has a limit of tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn import functional as F
from glassformer.nn import init
from glassformer.nn.feedforward import SwiGLU
from glassformer.nn.linear import Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """How many experts there are, how many of them each token goes through, and whether their weights sum to 1."""

    n: int = 8
    top_k: int = 2
    norm_top_k: bool = True

    def __post_init__(self) -> None:
        for name, most in (("n", 10_000), ("top_k", self.n)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"experts.{name} must be a whole number from 1 to {most}, not {value!r}.")
        if not isinstance(self.norm_top_k, bool):
            raise ConfigError(f"experts.norm_top_k must be true or false, not {self.norm_top_k!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedExperts(Experts):
    """Experts in groups, of which a token goes through some, and `n_shared` more that every token goes through."""

    scores: Literal["sigmoid", "softmax"] = "sigmoid"
    n_groups: int = 1
    top_k_groups: int = 1
    n_shared: int = 1  # as one network of so many times the width
    scale: float = 1.0

    def __post_init__(self) -> None:
        Experts.__post_init__(self)
        for name, most in (("n_groups", self.n), ("top_k_groups", self.n_groups), ("n_shared", 10_000)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"experts.{name} must be a whole number from 1 to {most}, not {value!r}.")
        if self.scores not in ("sigmoid", "softmax"):
            raise ConfigError(f'experts.scores must be "sigmoid" or "softmax", not {self.scores!r}.')
        size = self.n // self.n_groups
        if self.n % self.n_groups or (self.n_groups > 1 and self.scores == "sigmoid" and size < 2):
            raise ConfigError(f"{self.n} experts do not make {self.n_groups} groups, of two or more with sigmoids.")
        if self.top_k > size * self.top_k_groups:
            raise ConfigError(f"experts.top_k is {self.top_k}, but {self.top_k_groups} groups have fewer experts.")
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise ConfigError(f"experts.scale must be a positive number, not {self.scale!r}.")


class MoE(nn.Module):
    """Σ over the chosen experts e of weight_e · expert_e(x)."""

    def __init__(self, d_model: int, d_ff: int, experts: Experts) -> None:
        super().__init__()
        self.top_k = experts.top_k
        self.norm_top_k = experts.norm_top_k
        self.router = Linear(d_model, experts.n, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_ff) for _ in range(experts.n))

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The mixture at each position."""
        scores = self.router(x)
        best, chosen = scores.topk(self.top_k, dim=-1)
        weights = F.softmax(best) if self.norm_top_k else F.softmax(scores).gather(-1, chosen)
        return mixture(x, self.experts, chosen, weights)


class GroupedMoE(nn.Module):
    """shared(x) + scale · Σ over the chosen experts e of weight_e · expert_e(x).

    Experts are in groups, of which the best are chosen first, each by its best expert or, with sigmoids, its best two.
    Sigmoids of the router's scores are each expert's own affair; who is chosen is then decided by the sum of it and of
    `balance`, which training without a gradient keeps such that all experts are used. Where weights do not sum to 1
    they are those of all experts together. DeepSeek-V2, §2.1 and 2.2 (arXiv:2405.04434); V3, eq. 12 to 16
    (arXiv:2412.19437). The router computes in float32 whatever x is.
    """

    def __init__(self, d_model: int, d_ff: int, experts: GroupedExperts) -> None:
        super().__init__()
        self.config = experts
        self.router = Linear(d_model, experts.n, bias=False)
        self.balance = None
        if experts.scores == "sigmoid":
            self.balance = nn.Parameter(torch.empty(experts.n), requires_grad=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_ff) for _ in range(experts.n))
        self.shared = SwiGLU(d_model, d_ff * experts.n_shared)
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """All layers as they start by themselves, and no expert preferred."""
        for module in (self.router, *self.experts, self.shared):
            init.initialize(module, generator)
        if self.balance is not None:
            init.constant(self.balance, 0.0)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The mixture at each position."""
        wide = x if x.dtype == torch.float64 else x.float()
        scores = F.linear(wide, self.router.weight.to(wide.dtype))
        if self.balance is None:
            affinity = F.softmax(scores)
            preference = affinity
        else:
            affinity = torch.sigmoid(scores)
            preference = affinity + self.balance
        chosen = self.choose(preference)
        weights = affinity.gather(-1, chosen)
        if self.config.norm_top_k:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = self.config.scale * weights
        routed = mixture(x, self.experts, chosen, weights)
        shared: Tensor = self.shared(x)
        return shared + routed

    def choose(self, preference: Float[Tensor, "*B n_experts"]) -> Int[Tensor, "*B top_k"]:
        """The experts that are preferred, of the groups that are preferred."""
        if self.config.n_groups > 1:
            groups = preference.reshape(*preference.shape[:-1], self.config.n_groups, -1)
            best = groups.topk(1 if self.balance is None else 2, dim=-1).values.sum(-1)
            open_groups = best.topk(self.config.top_k_groups, dim=-1).indices
            is_open = (open_groups[..., None] == torch.arange(self.config.n_groups, device=preference.device)).any(-2)
            preference = groups.masked_fill(~is_open[..., None], -torch.inf).flatten(-2)
        return preference.topk(self.config.top_k, dim=-1).indices


def mixture(
    x: Float[Tensor, "*B C"],
    experts: nn.ModuleList,
    chosen: Int[Tensor, "*B top_k"],
    weights: Float[Tensor, "*B top_k"],
) -> Float[Tensor, "*B C"]:
    """The weighted sum of what the chosen experts make of each position; an expert runs on those that chose it."""
    out = torch.zeros_like(x)
    for number, expert in enumerate(experts):
        takes = chosen == number  # at most one of a position's top_k
        weight = (weights * takes).sum(-1, keepdim=True)
        here = takes.any(-1)
        output = weight[here] * expert(x[here])
        out = out + torch.zeros_like(x).index_put((here,), output.to(x.dtype))
    return out
