"""FlashAttention, to be read: exact attention tile by tile, in memory linear in the length.

Dao et al. 2022, algorithms 1 and 4 (arXiv:2205.14135). The scores of a tile exist only while it is worked on. Going
along a row of tiles, the softmax is kept open by a running maximum and a running sum; of the whole matrix only the
log-sum-exp of each row is kept, from which the backward pass makes any tile's weights again.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.nn.attend.naive import repeat_kv
from glassformer.nn.mask import Mask
from glassformer.twins import Backend

TILE = 256  # rows and columns: `benchmarks/attention.py` measures 64 to 1024


def tiled(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    *,
    scale: float | None = None,
    bias: None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    tile: int = TILE,
) -> Float[Tensor, "*B H T E"]:
    """What `naive` computes, without ever holding T × S numbers; a tile in which no pair is allowed is skipped."""
    assert bias is None
    assert dropout == 0
    k, v = repeat_kv(k, q.shape[-3]), repeat_kv(v, q.shape[-3])
    scoring = Scoring(mask, 1 / math.sqrt(q.shape[-1]) if scale is None else scale, softcap)
    out: Tensor = _Tiled.apply(q, k, v, scoring, tile)  # type: ignore[no-untyped-call]
    return out


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scoring: "Scoring", tile: int) -> Tensor:
        out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
        log_sum_exp = torch.full((*q.shape[:-1], 1), -torch.inf, dtype=q.dtype, device=q.device)
        for rows in tiles(q.shape[-2], tile):
            highest = torch.full_like(log_sum_exp[..., rows, :], -torch.inf)  # running maximum of the scores
            total = torch.zeros_like(highest)  # running sum of exp(score − highest)
            mixed = torch.zeros_like(out[..., rows, :])  # running sum of exp(score − highest) · v
            for columns in tiles(k.shape[-2], tile):
                scores = scoring.scores(q, k, rows, columns)
                if scores is None:
                    continue
                before = highest
                highest = torch.maximum(before, scores.amax(-1, keepdim=True))
                reference = highest.masked_fill(highest == -torch.inf, 0.0)  # −∞ − −∞ would be NaN
                exponentials = (scores - reference).exp()
                shrink = (before - reference).exp()
                total = total * shrink + exponentials.sum(-1, keepdim=True)
                mixed = mixed * shrink + exponentials @ v[..., columns, :]
            seen = total > 0
            out[..., rows, :] = mixed / total.where(seen, 1.0)
            log_sum_exp[..., rows, :] = highest + total.where(seen, 1.0).log()
        ctx.save_for_backward(q, k, v, out, log_sum_exp)
        ctx.scoring, ctx.tile = scoring, tile
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(dO ⊙ O)), dQ = dS K / √D, dK = dSᵀ Q / √D; P: the weights."""
        # torch's once_differentiable would stay silent where d_out is a constant, and leave a term out.
        if torch.is_grad_enabled():
            raise ConfigError('The "tiled" backend has no second derivative: use "naive", or leave out create_graph.')
        (d_out,) = gradients
        q, k, v, out, log_sum_exp = ctx.saved_tensors
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        row_sum = (d_out * out).sum(-1, keepdim=True)  # equals Σⱼ Pᵢⱼ dPᵢⱼ
        for rows in tiles(q.shape[-2], ctx.tile):
            # A row that sees nothing has log-sum-exp −∞ and scores −∞: its weights must be 0, not exp(NaN).
            reference = log_sum_exp[..., rows, :].nan_to_num(neginf=0.0)
            for columns in tiles(k.shape[-2], ctx.tile):
                scores = ctx.scoring.scores(q, k, rows, columns)
                if scores is None:
                    continue
                weights = (scores - reference).exp()
                d_weights = d_out[..., rows, :] @ v[..., columns, :].mT
                d_scores = weights * (d_weights - row_sum[..., rows, :])
                d_products = d_scores * ctx.scoring.slope(scores)
                d_v[..., columns, :] += weights.mT @ d_out[..., rows, :]
                d_q[..., rows, :] += d_products @ k[..., columns, :]
                d_k[..., columns, :] += d_products.mT @ q[..., rows, :]
        return d_q, d_k, d_v, None, None


@dataclass(frozen=True, slots=True)
class Scoring:
    """From the products q kᵀ of a tile to its scores, as `naive` has them."""

    mask: Mask
    scale: float
    softcap: float | None

    def scores(
        self, q: Float[Tensor, "*B T D"], k: Float[Tensor, "*B S D"], rows: slice, columns: slice
    ) -> Float[Tensor, "*B t s"] | None:
        """The scores of one tile, −∞ where the mask forbids; None where it forbids all of them."""
        allowed = self.mask.allowed(rows, columns)
        if not allowed.any():
            return None
        scores = q[..., rows, :] @ k[..., columns, :].mT * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        return scores if allowed.all() else scores.masked_fill(~allowed, -torch.inf)

    def slope(self, scores: Float[Tensor, "*B t s"]) -> Float[Tensor, "*B t s"] | float:
        """d score / d product, from the scores: the scale, under a cap c times 1 − tanh² = 1 − (score / c)²."""
        if self.softcap is None:
            return self.scale
        tanh = scores.clamp(min=-self.softcap) / self.softcap  # −∞ of a forbidden pair times its weight 0 would be NaN
        return self.scale * (1 - tanh * tanh)


def tiles(length: int, tile: int) -> Iterator[slice]:
    """The slices that cut an axis into tiles."""
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def supports(*operands: Any, bias: Tensor | None = None, dropout: float = 0.0, **settings: Any) -> bool:
    """Weights that are made again in the backward pass would be dropped otherwise than in the forward pass, and a bias
    has the T × S numbers that this backend is there to avoid."""
    return bias is None and dropout == 0


BACKEND = Backend(name="tiled", fn=tiled, supports=supports)
