"""Multi-head latent attention: keys and values of all heads, made anew from one short vector for each token.

DeepSeek-V2, §2.1 (arXiv:2405.04434). The cache keeps that vector, the latent, and one rotated key that all heads share:
for each token `kv_rank + d_rotary` numbers, whatever the number of heads, where `attention.py` keeps keys and values of
each head. Each step makes the keys and values of what is kept again, as the equations have it. §2.1.2 goes on to move
W_UK into the queries and W_UV into the output, so that heads read latents themselves; that is not done here.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn.attend import attend
from glassformer.nn.attention import merge_heads, split_heads
from glassformer.nn.kv_cache import LayerStep
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Mask
from glassformer.nn.norm import RMSNorm
from glassformer.nn.rope import Rotation

LATENT_EPS = 1e-6  # of the norms of latents, whatever a model's others have


class LatentAttention(nn.Module):
    """c = Norm(W_DKV x), k_h = [W_UK,h c; RoPE(W_KR x)], v_h = W_UV,h c; queries have two parts likewise. Eq. 9 to 19.

    A head compares `d_plain` features that do not turn and `d_rotary` that do, and mixes `d_value` others. With a
    `q_rank`, queries come from a latent of that length too, else from x. `scale` is that of `attend`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_plain: int,
        d_rotary: int,
        d_value: int,
        kv_rank: int,
        q_rank: int = 0,
        scale: float | None = None,  # None: 1 / √(d_plain + d_rotary)
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.d_plain = d_plain
        self.scale = scale
        self.dropout = dropout
        d_head = d_plain + d_rotary
        self.q_proj = Linear(d_model, n_heads * d_head, bias=False) if q_rank == 0 else None
        self.q_down_proj = Linear(d_model, q_rank, bias=False) if q_rank else None
        self.q_norm = RMSNorm(q_rank, eps=LATENT_EPS) if q_rank else None
        self.q_up_proj = Linear(q_rank, n_heads * d_head, bias=False) if q_rank else None
        self.kv_down_proj = Linear(d_model, kv_rank, bias=False)
        self.kv_norm = RMSNorm(kv_rank, eps=LATENT_EPS)
        self.k_rotary_proj = Linear(d_model, d_rotary, bias=False)
        self.k_up_proj = Linear(kv_rank, n_heads * d_plain, bias=False)
        self.v_up_proj = Linear(kv_rank, n_heads * d_value, bias=False)
        self.o_proj = Linear(n_heads * d_value, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerStep | None = None,
        position_bias: Float[Tensor, "*#B H T S"] | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """Each position of x mixes the values of those that it may look at; `position_bias` adds to the scores."""
        q = split_heads(self.queries(x), self.n_heads)
        q_plain, q_rotary = q[..., : self.d_plain], q[..., self.d_plain :]
        latent = split_heads(self.kv_norm(self.kv_down_proj(x)), 1)
        k_rotary = split_heads(self.k_rotary_proj(x), 1)
        if rotation is not None:
            q_rotary, k_rotary = rotation(q_rotary), rotation(k_rotary)
        if cache is not None:
            k_rotary, latent = cache.update(k_rotary, latent)

        latent = merge_heads(latent)
        k_plain = split_heads(self.k_up_proj(latent), self.n_heads)
        v = split_heads(self.v_up_proj(latent), self.n_heads)
        q = torch.cat([q_plain, q_rotary], -1)
        k = torch.cat([k_plain, k_rotary.expand(*k_plain.shape[:-1], -1)], -1)
        dropout = self.dropout if self.training else 0.0
        out = attend(q, k, v, mask, scale=self.scale, bias=position_bias, dropout=dropout)
        out = merge_heads(out)
        y: Tensor = self.o_proj(out)
        return y

    def queries(self, x: Float[Tensor, "*B T C"]) -> Float[Tensor, "*B T HD"]:
        """Those of all heads, from x itself or by way of a latent of their own."""
        if self.q_proj is not None:
            q: Tensor = self.q_proj(x)
            return q
        assert self.q_down_proj is not None
        assert self.q_norm is not None
        assert self.q_up_proj is not None
        q_latent = self.q_norm(self.q_down_proj(x))
        q = self.q_up_proj(q_latent)
        return q
