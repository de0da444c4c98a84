"""A block: attention, then a feed-forward network, each around a residual connection."""

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn.attention import Attention, KeysValues
from glassformer.nn.kv_cache import LayerCache
from glassformer.nn.mask import Mask
from glassformer.nn.norm import Dropout
from glassformer.nn.rope import Rotation


class PreNormBlock(nn.Module):
    """x + Sublayer(Norm(x)): the residual stream itself is never normalised (Xiong et al. 2020, arXiv:2002.04745)."""

    def __init__(
        self, attn_norm: nn.Module, attn: Attention, mlp_norm: nn.Module, mlp: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attn
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """See the class."""
        x = x + self.dropout(self.attn(self.attn_norm(x), mask, rotation=rotation, cache=cache))
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return x


class PreNormCrossBlock(nn.Module):
    """The block of a decoder that also looks at a memory, such as an encoder's output, between its two sublayers.

    Vaswani et al. 2017, §3.1 (arXiv:1706.03762), with the norms before the sublayers, as in `PreNormBlock`.
    """

    def __init__(
        self,
        attn_norm: nn.Module,
        attn: Attention,
        cross_norm: nn.Module,
        cross_attn: Attention,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attn
        self.cross_norm = cross_norm
        self.cross_attn = cross_attn
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        memory: KeysValues,
        memory_mask: Mask,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """`memory` are the keys and values that `cross_attn.keys_values` makes of the memory, once for all steps."""
        x = x + self.dropout(self.attn(self.attn_norm(x), mask, cache=cache))
        x = x + self.dropout(self.cross_attn(self.cross_norm(x), memory_mask, memory=memory))
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return x


class PostNormBlock(PreNormBlock):
    """Norm(x + Sublayer(x)), as the original paper has it (Vaswani et al. 2017, §3.1, arXiv:1706.03762)."""

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """See the class."""
        x = self.attn_norm(x + self.dropout(self.attn(x, mask, rotation=rotation, cache=cache)))
        x = self.mlp_norm(x + self.dropout(self.mlp(x)))
        return x
