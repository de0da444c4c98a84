"""DINOv2: a Vision Transformer that learnt from images without labels, so that its vectors serve many tasks as such.

Oquab et al. 2023 (arXiv:2304.07193). What each sublayer adds to the stream is first scaled, feature by feature (Touvron
et al. 2021, arXiv:2103.17239, §2.2); the giant has a gated network. Classes are read from the class token's vector and
the mean of the patches' vectors. Next to read: `vit.py`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import ModelSpec, check_choice, check_sizes
from glassformer.models.vit import ViT, ViTSettings
from glassformer.nn.attention import Attention
from glassformer.nn.feedforward import MLP, SwiGLU
from glassformer.nn.init import constant, init_like_bert
from glassformer.nn.layer_scale import LayerScale
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Mask
from glassformer.nn.norm import LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Dinov2Config(ViTSettings):
    """Sizes and choices of a DINOv2; the defaults are those of ViT-B/14."""

    architecture: ClassVar[str] = "dinov2"
    distillation: ClassVar[str] = "none"
    final_norm: ClassVar[bool] = True

    image_size: tuple[int, int] = (518, 518)  # (height, width) in pixels, to which the learned positions belong
    patch_size: tuple[int, int] = (14, 14)
    n_channels: int = 3
    n_classes: int = 1000
    labels: tuple[str, ...] = ()  # names of the classes, if they have any
    problem_type: Literal["single-label", "multi-label", "regression"] = "single-label"  # or amounts
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    mlp_ratio: int = 4  # hidden features of a plain network for each of d_model
    ffn: Literal["mlp", "swiglu"] = "mlp"
    activation: str = "gelu"  # of "mlp"
    norm_eps: float = 1e-6
    dropout: float = 0.0  # on embeddings and attention weights, while training
    qkv_bias: bool = True
    layer_scale: float = 1.0  # at which the scales of the sublayers start
    head: Literal["classes", "none"] = "classes"  # "none": the vectors of all tokens

    def __post_init__(self) -> None:
        check_sizes(self, "mlp_ratio")
        self.check()
        check_choice(self, "ffn", ("mlp", "swiglu"))
        check_choice(self, "head", ("classes", "none"))
        if not isinstance(self.layer_scale, int | float) or not 0 <= self.layer_scale <= 1:
            raise ConfigError(f"layer_scale must be from 0 to 1, not {self.layer_scale!r}.")

    @property
    def d_ff(self) -> int:
        """Hidden features: of a gated network two thirds as many, rounded up to eights."""
        plain = self.d_model * self.mlp_ratio
        return plain if self.ffn == "mlp" else (plain * 2 // 3 + 7) // 8 * 8


class Dinov2(ViT):
    """Images to the logits of their classes, or without a head to the vectors of the class token and of all patches."""

    def new_block(self) -> "ScaledBlock":
        """One of the n_layers equal blocks."""
        return ScaledBlock(self.config)

    def new_head(self) -> Linear | None:
        """From the vector of the class token and the mean of the patches' to logits, if there is a head."""
        return Linear(2 * self.config.d_model, self.config.n_classes) if self.config.head == "classes" else None

    def classify(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B N"]:
        """Logits from the vector of the class token and the mean of the patches'."""
        patch_mean = x[:, 1:].mean(1)
        joined = torch.cat([x[:, 0], patch_mean], dim=-1)
        logits: Tensor = self.head(joined)
        return logits


class ScaledBlock(nn.Module):
    """x + γ₁ ⊙ Attention(Norm(x)), and the same with the feed-forward network and γ₂."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        c = config.d_model
        self.attn_norm = LayerNorm(c, eps=config.norm_eps)
        self.attn = Attention(c, config.n_heads, bias=config.qkv_bias, o_bias=True, dropout=config.dropout)
        self.attn_scale = LayerScale(c)
        self.mlp_norm = LayerNorm(c, eps=config.norm_eps)
        self.mlp = (
            SwiGLU(c, config.d_ff, bias=True) if config.ffn == "swiglu" else MLP(c, config.d_ff, config.activation)
        )
        self.mlp_scale = LayerScale(c)

    def forward(self, x: Float[Tensor, "B T C"], mask: Mask) -> Float[Tensor, "B T C"]:
        """The residual stream after this block, from the one before it."""
        x = x + self.attn_scale(self.attn(self.attn_norm(x), mask))
        x = x + self.mlp_scale(self.mlp(self.mlp_norm(x)))
        return x


def initialize(model: Dinov2, generator: torch.Generator | None = None) -> None:
    """As BERT starts; the scales of the sublayers at layer_scale."""
    init_like_bert(model, generator)
    for part in model.modules():
        if isinstance(part, LayerScale):
            constant(part.weight, model.config.layer_scale)


PRESETS = {
    "dinov2-small": Dinov2Config(d_model=384, n_heads=6),
    "dinov2-base": Dinov2Config(),
    "dinov2-large": Dinov2Config(d_model=1024, n_layers=24, n_heads=16),
    "dinov2-giant": Dinov2Config(d_model=1536, n_layers=40, n_heads=24, ffn="swiglu"),
}


SPEC = ModelSpec(
    config=Dinov2Config,
    module=Dinov2,
    initialize=initialize,
    presets=PRESETS,
    kind="image-classifier",
)
