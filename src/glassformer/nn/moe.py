"""A mixture of experts: each token goes through a few of several feed-forward networks, which a router chooses.

Shazeer et al. 2017 (arXiv:1701.06538); as Mixtral has it, Jiang et al. 2024, §2.1 (arXiv:2401.04088): the softmax is
over the chosen experts alone. Without `norm_top_k` it is over all of them, and the weights of the chosen sum to less.
There is no loss that balances the experts here, and no expert has a limit of tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn import functional as F
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


class MoE(nn.Module):
    """Σ over the chosen experts e of weight_e · expert_e(x)."""

    def __init__(self, d_model: int, d_ff: int, experts: Experts) -> None:
        super().__init__()
        self.top_k = experts.top_k
        self.norm_top_k = experts.norm_top_k
        self.router = Linear(d_model, experts.n, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_ff) for _ in range(experts.n))

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The mixture at each position. An expert runs on the positions that chose it, and on no others."""
        scores = self.router(x)
        best, chosen = scores.topk(self.top_k, dim=-1)
        weights = F.softmax(best) if self.norm_top_k else F.softmax(scores).gather(-1, chosen)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            takes = chosen == number  # at most one of a position's top_k
            weight = (weights * takes).sum(-1, keepdim=True)
            here = takes.any(-1)
            output = weight[here] * expert(x[here])
            out = out + torch.zeros_like(x).index_put((here,), output)
        return out
