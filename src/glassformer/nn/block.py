"""A block: attention, then a feed-forward network, each around a residual connection; a decoder's block looks at the
encoder's output in between.

Where the norms stand is `norm_placement`:

    post      Norm(x + Sublayer(x)), as the original paper has it (Vaswani et al. 2017, §3.1, arXiv:1706.03762)
    pre       x + Sublayer(Norm(x)): the stream itself is never normalised (Xiong et al. 2020, arXiv:2002.04745)
    res-post  x + Norm(Sublayer(x)): nor is it here, but what is added to it (Liu et al. 2021, §3.2, arXiv:2111.09883)

The last is for models without cross-attention alone.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn.attention import Attention
from glassformer.nn.dropout import Dropout
from glassformer.nn.kv_cache import LayerStep
from glassformer.nn.latent_attention import LatentAttention
from glassformer.nn.mask import Mask
from glassformer.nn.memory import LayerMemory
from glassformer.nn.rope import Rotation

NormPlacement = Literal["pre", "post", "res-post"]


class Block(nn.Module):
    """Attention of a text to itself and a feed-forward network: an encoder's block, and that of a decoder alone.

    What a sublayer adds to the stream is multiplied by `residual_multiplier`.
    """

    def __init__(
        self,
        attn_norm: nn.Module,
        attn: Attention | LatentAttention,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        *,
        norm_placement: NormPlacement,
        residual_multiplier: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attn
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.norm_placement = norm_placement
        self.residual_multiplier = residual_multiplier
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerStep | None = None,
        position_bias: Float[Tensor, "*#B H T S"] | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """The residual stream after this block, from the one before it.

        `position_bias` adds to the scores of attention.
        """
        where = {"rotation": rotation, "cache": cache, "position_bias": position_bias}
        if self.norm_placement == "pre":
            x = x + self.dropout(self.scaled(self.attn(self.attn_norm(x), mask, **where)))
            x = x + self.dropout(self.scaled(self.mlp(self.mlp_norm(x))))
        elif self.norm_placement == "res-post":
            x = x + self.dropout(self.scaled(self.attn_norm(self.attn(x, mask, **where))))
            x = x + self.dropout(self.scaled(self.mlp_norm(self.mlp(x))))
        else:
            x = self.attn_norm(x + self.dropout(self.scaled(self.attn(x, mask, **where))))
            x = self.mlp_norm(x + self.dropout(self.scaled(self.mlp(x))))
        return x

    def scaled(self, y: Float[Tensor, "*B T C"]) -> Float[Tensor, "*B T C"]:
        """What is added to the stream, from what a sublayer has computed."""
        if self.residual_multiplier == 1:
            return y
        scaled = y * self.residual_multiplier
        return scaled


class ParallelBlock(Block):
    """A block whose sublayers both read the stream as it comes in (Wang and Komatsuzaki 2021, GPT-J)."""

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerStep | None = None,
        position_bias: Float[Tensor, "*#B H T S"] | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """The residual stream after this block, from the one before it."""
        attn_out = self.attn(self.attn_norm(x), mask, rotation=rotation, cache=cache, position_bias=position_bias)
        mlp_out = self.mlp(self.mlp_norm(x))
        x = x + self.dropout(self.scaled(attn_out))
        x = x + self.dropout(self.scaled(mlp_out))
        return x


class SandwichBlock(nn.Module):
    """x + Norm(Sublayer(Norm(x))): each sublayer reads normalised numbers and adds normalised ones.

    "Sandwich" norms: Ding et al. 2021, §2.4 (arXiv:2105.13290); Gemma 2 has them (arXiv:2408.00118, §2).
    """

    def __init__(
        self,
        attn_norm: nn.Module,
        attn: Attention,
        attn_post_norm: nn.Module,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        mlp_post_norm: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attn
        self.attn_post_norm = attn_post_norm
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.mlp_post_norm = mlp_post_norm
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        *,
        rotation: Rotation | None = None,
        cache: LayerStep | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """The residual stream after this block, from the one before it."""
        mixed = self.attn(self.attn_norm(x), mask, rotation=rotation, cache=cache)
        x = x + self.dropout(self.attn_post_norm(mixed))
        worked = self.mlp(self.mlp_norm(x))
        x = x + self.dropout(self.mlp_post_norm(worked))
        return x


class CrossBlock(nn.Module):
    """A decoder's block beside an encoder: attention to the text itself, attention to the memory, feed-forward."""

    def __init__(
        self,
        attn_norm: nn.Module,
        attn: Attention,
        cross_norm: nn.Module,
        cross_attn: Attention,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        *,
        norm_placement: Literal["pre", "post"],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attn
        self.cross_norm = cross_norm
        self.cross_attn = cross_attn
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.norm_placement = norm_placement
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*B T C"],
        mask: Mask,
        memory: LayerMemory,
        memory_mask: Mask,
        *,
        cache: LayerStep | None = None,
        position_bias: Float[Tensor, "*#B H T S"] | None = None,
    ) -> Float[Tensor, "*B T C"]:
        """The residual stream after this block; `memory` is the encoder's output, as this layer reads it.

        `position_bias` adds to the scores of the text itself.
        """
        if self.norm_placement == "pre":
            x = x + self.dropout(self.attn(self.attn_norm(x), mask, cache=cache, position_bias=position_bias))
            x = x + self.dropout(self.cross_attn(self.cross_norm(x), memory_mask, memory=memory))
            x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        else:
            x = self.attn_norm(x + self.dropout(self.attn(x, mask, cache=cache, position_bias=position_bias)))
            x = self.cross_norm(x + self.dropout(self.cross_attn(x, memory_mask, memory=memory)))
            x = self.mlp_norm(x + self.dropout(self.mlp(x)))
        return x
