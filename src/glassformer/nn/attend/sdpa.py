"""Attention by torch's fused kernels: the fast twin of `naive.py`."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from glassformer.nn.mask import Causal, Everything, Mask
from glassformer.twins import Backend


def sdpa(
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
    """What `naive` computes; a causal mask over a text in order is passed by name, so that half the work is skipped.

    With a bias, the mask is written into that.
    """
    assert softcap is None
    grouped = q.shape[-3] != k.shape[-3]
    if bias is not None:
        allowed = mask.allowed()
        sees_any = allowed.any(-1, keepdim=True)
        bias = bias.masked_fill(~allowed & sees_any, -torch.inf)
        out = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale, enable_gqa=grouped)
        return out.masked_fill(~sees_any, 0.0)
    if isinstance(mask.rule, Everything) and mask.unpadded:
        if q.shape[-2] > 1:  # every query reads all of them: `benchmarks/speech.py` gains a fifth of its attention
            k, v = k.contiguous(), v.contiguous()
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale, enable_gqa=grouped)
    if isinstance(mask.rule, Causal) and mask.in_order:
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=grouped)
    allowed = mask.allowed()
    out = scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout, scale=scale, enable_gqa=grouped)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def supports(*operands: Any, softcap: float | None = None, **settings: Any) -> bool:
    """torch's kernels have no cap on scores."""
    return softcap is None


BACKEND = Backend(name="sdpa", fn=sdpa, supports=supports, priority=1)
