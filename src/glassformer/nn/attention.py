"""Multi-head attention: project, normalise, rotate, cache, attend, merge.

One module serves multi-head (n_kv_heads = n_heads), grouped-query and multi-query attention (n_kv_heads = 1;
Shazeer 2019, arXiv:1911.02150), over itself or over another text (cross-attention). The arithmetic of attending is in
`attend/`, who may look at whom in `mask.py`, what stays for the next tokens in `kv_cache.py` and `memory.py`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn.attend import attend
from glassformer.nn.kv_cache import LayerStep
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Mask
from glassformer.nn.memory import KeysValues, LayerMemory
from glassformer.nn.rope import Rotation


class Attention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head₁ … head_H) Wᴼ. Vaswani et al. 2017, §3.2.2 (arXiv:1706.03762).

    `q_norm` and `k_norm` normalise heads before rotation: the D features of each (Henry et al. 2020, arXiv:2010.04245),
    or those of all together (`norm.py`).
    `scale` and `softcap` are those of `attend`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        k_bias: bool = True,  # it adds the same to all scores of a query, so the softmax loses it; some models save it
        o_bias: bool | None = None,  # None: as `bias`
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        scale: float | None = None,  # None: 1 / √d_head
        softcap: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads or n_heads
        self.d_head = d_head or d_model // n_heads
        self.q_norm = q_norm
        self.k_norm = k_norm
        self.scale = scale
        self.softcap = softcap
        self.dropout = dropout
        self.q_proj = Linear(d_model, self.n_heads * self.d_head, bias=bias)
        self.k_proj = Linear(d_model, self.n_kv_heads * self.d_head, bias=bias and k_bias)
        self.v_proj = Linear(d_model, self.n_kv_heads * self.d_head, bias=bias)
        self.o_proj = Linear(self.n_heads * self.d_head, d_model, bias=bias if o_bias is None else o_bias)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerStep | None = None,
        memory: LayerMemory | None = None,
        position_bias: Float[Tensor, "*#B H T S"] | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """Each position of x mixes the values of the positions that it may look at: of x, or of `memory` if given.

        `position_bias` adds to the scores.
        """
        q = split_heads(self.q_proj(x), self.n_heads)
        if self.q_norm is not None:
            q = self.q_norm(q)
        if rotation is not None:
            q = rotation(q)
        k, v = self.keys_values(x, rotation) if memory is None else memory.keys_values(self.keys_values)
        if cache is not None:
            k, v = cache.update(k, v)
        dropout = self.dropout if self.training else 0.0
        out = attend(q, k, v, mask, scale=self.scale, bias=position_bias, softcap=self.softcap, dropout=dropout)
        out = merge_heads(out)
        y: Tensor = self.o_proj(out)
        return y

    def keys_values(self, source: Float[Tensor, "*B S C"], rotation: Rotation | None = None) -> KeysValues:
        """What queries read of a source: its keys, turned to their positions, and its values."""
        k = split_heads(self.k_proj(source), self.n_kv_heads)
        v = split_heads(self.v_proj(source), self.n_kv_heads)
        if self.k_norm is not None:
            k = self.k_norm(k)
        if rotation is not None:
            k = rotation(k)
        return k, v


def split_heads(x: Float[Tensor, "*B T HD"], n_heads: int) -> Float[Tensor, "*B H T D"]:
    """Head h gets the h-th run of D features."""
    return x.reshape(*x.shape[:-1], n_heads, -1).transpose(-3, -2)


def merge_heads(x: Float[Tensor, "*B H T D"]) -> Float[Tensor, "*B T HD"]:
    """The heads' features side by side again."""
    return x.transpose(-3, -2).flatten(-2)
