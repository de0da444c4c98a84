"""Vision Transformer: an image is a sequence of patches, and a learned token beside them gathers what the image is.

Dosovitskiy et al. 2020 (arXiv:2010.11929); DeiT's second token, which learned from a teacher, is Touvron et al. 2020
(arXiv:2012.12877). Next to read: `features/patches.py`, `nn/interpolation.py`, `nn/block.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.features.patches import patchify
from glassformer.models.spec import (
    ModelSpec,
    check_choice,
    check_fraction,
    check_grid,
    check_heads,
    check_labels,
    check_sizes,
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_bert
from glassformer.nn.interpolation import resize_positions
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything, Mask
from glassformer.nn.norm import LayerNorm


class ViTSettings:
    """What `ViT` asks of a configuration: what follows from its sizes, and which it cannot have."""

    __slots__ = ()
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    n_classes: int

    def check(self) -> None:
        """Raise for what cannot be built."""
        check_sizes(self, "n_channels", "n_classes", "d_model", "n_layers", "n_heads", "d_ff")
        check_grid(self)
        check_labels(self)
        check_choice(self, "activation", tuple(ACTIVATIONS))
        check_choice(self, "qkv_bias", (True, False))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_heads(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def n_extra_tokens(self) -> int:
        """Tokens that stand before the patches: that of the class."""
        return 1

    @property
    def context_length(self) -> int:
        """Positions: those of the extra tokens and of the patches."""
        return self.n_extra_tokens + self.grid[0] * self.grid[1]

    @property
    def vocab_size(self) -> int:
        """What the logits are over: the classes."""
        return self.n_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTConfig(ViTSettings):
    """Sizes and choices of a Vision Transformer; the defaults are those of ViT-B/16."""

    architecture: ClassVar[str] = "vit"

    image_size: tuple[int, int] = (224, 224)  # (height, width) in pixels, to which the learned positions belong
    patch_size: tuple[int, int] = (16, 16)
    n_channels: int = 3
    n_classes: int = 1000
    labels: tuple[str, ...] = ()  # names of the classes, if they have any
    problem_type: Literal["single-label", "multi-label", "regression"] = "single-label"  # or amounts
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 0  # 0: four times d_model
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training
    qkv_bias: bool = True
    final_norm: bool = True
    head: Literal["linear", "mlp", "none"] = "linear"  # "mlp": one hidden layer of d_ff; "none": the vectors
    distillation: Literal["none", "token", "head"] = "none"  # DeiT's second token, and a second head on it

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        self.check()
        check_choice(self, "final_norm", (True, False))
        check_choice(self, "head", ("linear", "mlp", "none"))
        check_choice(self, "distillation", ("none", "token", "head"))
        if self.head != "linear" and self.distillation == "head":
            raise ConfigError(
                'A second head needs head = "linear"; no model with two heads of the other kind is known.'
            )

    @property
    def n_extra_tokens(self) -> int:
        """Tokens that stand before the patches."""
        return 1 if self.distillation == "none" else 2


class ViT(nn.Module):
    """Images to the logits of their classes, or without a head to the vectors of all tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        patch_features = config.n_channels * config.patch_size[0] * config.patch_size[1]
        self.patch_embedding = Linear(patch_features, config.d_model)
        self.class_token = nn.Parameter(torch.zeros(1, config.d_model))
        self.distillation_token = (
            None if config.distillation == "none" else nn.Parameter(torch.zeros(1, config.d_model))
        )
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(self.new_block() for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model, eps=config.norm_eps) if config.final_norm else nn.Identity()
        self.head: Any = self.new_head()
        self.distillation_head = self.new_head() if config.distillation == "head" else None

    def new_block(self) -> nn.Module:
        """One of the n_layers equal blocks."""
        return block(self.config)

    def new_head(self) -> nn.Module | None:
        """From vectors to logits, if there is a head."""
        return head(self.config)

    def forward(self, images: Float[Tensor, "B K H W"]) -> Float[Tensor, "B ..."]:
        """(B, N), or without a head (B, T, C). Where an image has another grid, positions are interpolated for it."""
        n_images, _, height, width = images.shape
        patches = patchify(images, self.config.patch_size)
        x: Tensor = self.patch_embedding(patches)
        class_token = self.class_token.expand(n_images, 1, -1)
        extra = [class_token]
        if self.distillation_token is not None:
            extra.append(self.distillation_token.expand(n_images, 1, -1))
        x = torch.cat([*extra, x], dim=1)
        grid = height // self.config.patch_size[0], width // self.config.patch_size[1]
        x = x + resize_positions(self.position_embedding.weight, self.config.grid, grid, self.config.n_extra_tokens)
        x = self.dropout(x)
        mask = Mask.over(Everything(), x.shape[1], x.device)
        for block in self.blocks:
            x = block(x, mask)
        x = self.final_norm(x)
        return x if self.head is None else self.classify(x)

    def classify(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B N"]:
        """Logits from the vector of the class token, and from that of the second token where it has a head."""
        logits: Tensor = self.head(x[:, 0])
        if self.distillation_head is not None:
            of_teacher = self.distillation_head(x[:, 1])
            logits = (logits + of_teacher) / 2
        return logits


class MLPHead(nn.Module):
    """down(activation(up(x))), down to the classes."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.d_model, config.d_ff)
        self.activation = ACTIVATIONS[config.activation]
        self.down_proj = Linear(config.d_ff, config.n_classes)

    def forward(self, x: Float[Tensor, "B C"]) -> Float[Tensor, "B N"]:
        """Logits of each image from the vector of its class token."""
        hidden = self.up_proj(x)
        activated = self.activation(hidden)
        logits: Tensor = self.down_proj(activated)
        return logits


def head(config: ViTConfig) -> nn.Module | None:
    """From the vector of the class token to logits, if there is one."""
    if config.head == "none":
        return None
    return Linear(config.d_model, config.n_classes) if config.head == "linear" else MLPHead(config)


def block(config: ViTConfig) -> Block:
    """One of the n_layers equal blocks."""
    return Block(
        attn_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        attn=Attention(config.d_model, config.n_heads, bias=config.qkv_bias, o_bias=True, dropout=config.dropout),
        mlp_norm=LayerNorm(config.d_model, eps=config.norm_eps),
        mlp=MLP(config.d_model, config.d_ff, config.activation),
        norm_placement="pre",
        dropout=config.dropout,
    )


PRESETS = {
    "vit-base": ViTConfig(),
    "vit-large": ViTConfig(d_model=1024, n_layers=24, n_heads=16),
    "vit-huge": ViTConfig(patch_size=(14, 14), d_model=1280, n_layers=32, n_heads=16),
    "deit-tiny": ViTConfig(d_model=192, n_heads=3, distillation="head"),
    "deit-small": ViTConfig(d_model=384, n_heads=6, distillation="head"),
    "deit-base": ViTConfig(distillation="head"),
    "vit-mnist": ViTConfig(  # digits of 28 × 28, 16 patches: 0.2 million parameters
        image_size=(28, 28), patch_size=(7, 7), n_channels=1, n_classes=10, d_model=64, n_layers=6, n_heads=8, d_ff=128
    ),
}


SPEC = ModelSpec(
    config=ViTConfig,
    module=ViT,
    initialize=init_like_bert,
    presets=PRESETS,
    kind="image-classifier",
)
