"""Attention as the paper writes it: all scores at once, so memory grows with the square of the length."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.nn import functional as F
from glassformer.nn.mask import Mask
from glassformer.twins import Backend


def naive(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    *,
    scale: float | None = None,
    bias: Float[Tensor, "*#B H T S"] | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*B H T E"]:
    """softmax(q kᵀ / √D) v, over the allowed pairs only.

    Vaswani et al. 2017, eq. 1 (arXiv:1706.03762). A query that may see nothing gets zeros. `scale` stands for 1 / √D
    where a model was trained with another number. `bias` adds to the scores (T5, arXiv:1910.10683, §2.1), before
    `softcap` keeps them within ± softcap by a tanh (Gemma 2, arXiv:2408.00118, §2). `dropout` falls on the weights
    after the softmax.
    """
    k, v = repeat_kv(k, q.shape[-3]), repeat_kv(v, q.shape[-3])
    allowed = mask.allowed()
    sees_any = allowed.any(-1, keepdim=True)
    scores = q @ k.mT / math.sqrt(q.shape[-1]) if scale is None else q @ k.mT * scale
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~allowed & sees_any, -torch.inf)
    weights = F.softmax(scores)
    weights = weights.masked_fill(~sees_any, 0.0)
    if dropout > 0:
        weights = F.dropout(weights, dropout)
    return weights @ v


def repeat_kv(x: Float[Tensor, "*B G S D"], n_heads: int) -> Float[Tensor, "*B H S D"]:
    """Key head g serves the H / G query heads from g · H / G on."""
    n_kv_heads = x.shape[-3]
    return x if n_kv_heads == n_heads else x.repeat_interleave(n_heads // n_kv_heads, dim=-3)


BACKEND = Backend(name="naive", fn=naive)
