"""Attention by torch's fused kernels: the fast twin of `naive.py`."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from glassformer.nn.mask import Mask, causal, everything


def sdpa(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    dropout: float = 0.0,
) -> Float[Tensor, "*B H T E"]:
    """What `naive` computes; a causal mask over a text in order is passed by name, so that half the work is skipped."""
    grouped = q.shape[-3] != k.shape[-3]
    if mask.rule is everything and mask.unpadded:
        if q.shape[-2] > 1:  # every query reads all of them: `benchmarks/speech.py` gains a fifth of its attention
            k, v = k.contiguous(), v.contiguous()
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, enable_gqa=grouped)
    if mask.rule is causal and mask.in_order:
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=grouped)
    allowed = mask.allowed()
    out = scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout, enable_gqa=grouped)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
