"""FlashAttention, to be read: exact attention tile by tile, in memory linear in the length.

Dao et al. 2022, algorithms 1 and 4 (arXiv:2205.14135). The scores of a tile exist only while it is worked on. Going
along a row of tiles, the softmax is kept open by a running maximum and a running sum; of the whole matrix only the
log-sum-exp of each row is kept, from which the backward pass makes any tile's weights again.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.nn.attend.naive import share_heads
from glassformer.nn.mask import Mask

TILE = 256  # rows and columns: `benchmarks/attention.py` measures 64 to 1024


def tiled(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    dropout: float = 0.0,
    *,
    tile: int = TILE,
) -> Float[Tensor, "*B H T E"]:
    """What `naive` computes, without ever holding T × S numbers; a tile in which no pair is allowed is skipped."""
    if dropout > 0:
        raise ConfigError('The "tiled" backend drops no attention weights: use "naive" or "sdpa", or set dropout to 0.')
    k, v = share_heads(k, q.shape[-3]), share_heads(v, q.shape[-3])
    out: Tensor = _Tiled.apply(q, k, v, mask, tile)  # type: ignore[no-untyped-call]
    return out


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Mask, tile: int) -> Tensor:
        scale = 1 / math.sqrt(q.shape[-1])
        out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
        log_sum_exp = torch.full((*q.shape[:-1], 1), -torch.inf, dtype=q.dtype, device=q.device)
        for rows in tiles(q.shape[-2], tile):
            highest = torch.full_like(log_sum_exp[..., rows, :], -torch.inf)  # running maximum of the scores
            total = torch.zeros_like(highest)  # running sum of exp(score − highest)
            mixed = torch.zeros_like(out[..., rows, :])  # running sum of exp(score − highest) · v
            for columns in tiles(k.shape[-2], tile):
                scores = masked_scores(q, k, mask, rows, columns, scale)
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
        ctx.mask, ctx.tile = mask, tile
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(dO ⊙ O)), dQ = dS K / √D, dK = dSᵀ Q / √D; P: the weights."""
        # torch's once_differentiable would stay silent where d_out is a constant, and leave a term out.
        if torch.is_grad_enabled():
            raise ConfigError('The "tiled" backend has no second derivative: use "naive", or leave out create_graph.')
        (d_out,) = gradients
        q, k, v, out, log_sum_exp = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        row_sum = (d_out * out).sum(-1, keepdim=True)  # equals Σⱼ Pᵢⱼ dPᵢⱼ
        for rows in tiles(q.shape[-2], ctx.tile):
            # A row that sees nothing has log-sum-exp −∞ and scores −∞: its weights must be 0, not exp(NaN).
            reference = log_sum_exp[..., rows, :].nan_to_num(neginf=0.0)
            for columns in tiles(k.shape[-2], ctx.tile):
                scores = masked_scores(q, k, ctx.mask, rows, columns, scale)
                if scores is None:
                    continue
                weights = (scores - reference).exp()
                d_weights = d_out[..., rows, :] @ v[..., columns, :].mT
                d_scores = weights * (d_weights - row_sum[..., rows, :]) * scale
                d_v[..., columns, :] += weights.mT @ d_out[..., rows, :]
                d_q[..., rows, :] += d_scores @ k[..., columns, :]
                d_k[..., columns, :] += d_scores.mT @ q[..., rows, :]
        return d_q, d_k, d_v, None, None


def tiles(length: int, tile: int) -> Iterator[slice]:
    """The slices that cut an axis into tiles."""
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def masked_scores(
    q: Float[Tensor, "*B T D"], k: Float[Tensor, "*B S D"], mask: Mask, rows: slice, columns: slice, scale: float
) -> Float[Tensor, "*B t s"] | None:
    """The scores of one tile, −∞ where the mask forbids; None where it forbids all of them."""
    allowed = mask.allowed(rows, columns)
    if not allowed.any():
        return None
    scores = q[..., rows, :] @ k[..., columns, :].mT * scale
    return scores if allowed.all() else scores.masked_fill(~allowed, -torch.inf)
