"""Vision Transformer: an image is a sequence of patches, and a learned token beside them gathers what the image is.

Dosovitskiy et al. 2020 (arXiv:2010.11929); DeiT's second token, which learned from a teacher, is Touvron et al. 2020
(arXiv:2012.12877). Next to read: `features/patches.py`, `nn/interpolation.py`, `nn/block.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from glassformer.features.patches import patchify
from glassformer.models.spec import (
    ACTIVATION_NAMES,
    ModelSpec,
    Rename,
    check_choice,
    check_fraction,
    check_heads,
    check_sizes,
    read_activation,
    same,
)
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import ACTIVATIONS, MLP
from glassformer.nn.init import init_like_bert
from glassformer.nn.interpolation import resize_grid
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything, Mask
from glassformer.nn.norm import Dropout, LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTConfig:
    """Sizes and choices of a Vision Transformer; the defaults are those of ViT-B/16."""

    image_size: tuple[int, int] = (224, 224)  # (height, width) in pixels, to which the learned positions belong
    patch_size: tuple[int, int] = (16, 16)
    n_channels: int = 3
    n_classes: int = 1000
    labels: tuple[str, ...] = ()  # names of the classes, if they have any
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 0  # 0: four times d_model
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training
    qkv_bias: bool = True
    final_norm: bool = True
    head: Literal["linear", "mlp"] = "linear"  # "mlp": one hidden layer of d_ff
    distillation: Literal["none", "token", "head"] = "none"  # DeiT's second token, and a second head on it

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        check_sizes(self, "n_channels", "n_classes", "d_model", "n_layers", "n_heads", "d_ff")
        for name, (height, width) in {"image_size": self.image_size, "patch_size": self.patch_size}.items():
            if not all(type(side) is int and 1 <= side < 2**15 for side in (height, width)):
                raise ConfigError(f"{name} must be two whole numbers from 1 to 2¹⁵ − 1, not {(height, width)}.")
        if 0 in self.grid:
            raise ConfigError(f"An image of {self.image_size} pixels has no patch of {self.patch_size}.")
        if self.labels and len(self.labels) != self.n_classes:
            raise ConfigError(f"There are {len(self.labels)} labels for {self.n_classes} classes.")
        check_choice(self, "activation", tuple(ACTIVATION_NAMES))
        check_choice(self, "qkv_bias", (True, False))
        check_choice(self, "final_norm", (True, False))
        check_choice(self, "head", ("linear", "mlp"))
        check_choice(self, "distillation", ("none", "token", "head"))
        if self.head == "mlp" and self.distillation == "head":
            raise ConfigError(
                'A second head needs head = "linear"; no model with two heads of the other kind is known.'
            )
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        check_heads(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def n_extra_tokens(self) -> int:
        """Tokens that stand before the patches."""
        return 1 if self.distillation == "none" else 2

    @property
    def context_length(self) -> int:
        """Positions: those of the extra tokens and of the patches."""
        return self.n_extra_tokens + self.grid[0] * self.grid[1]

    @property
    def vocab_size(self) -> int:
        """What the logits are over: the classes."""
        return self.n_classes


class ViT(nn.Module):
    """Images to the logits of their classes."""

    def __init__(self, config: ViTConfig) -> None:
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
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model, eps=config.norm_eps) if config.final_norm else nn.Identity()
        self.head = head(config)
        self.distillation_head = head(config) if config.distillation == "head" else None

    def forward(self, images: Float[Tensor, "B K H W"]) -> Float[Tensor, "B N"]:
        """Logits of each image. Where an image has another number of patches, positions are interpolated for them."""
        n_images, _, height, width = images.shape
        patches = patchify(images, self.config.patch_size)
        x: Tensor = self.patch_embedding(patches)
        class_token = self.class_token.expand(n_images, 1, -1)
        extra = [class_token]
        if self.distillation_token is not None:
            extra.append(self.distillation_token.expand(n_images, 1, -1))
        x = torch.cat([*extra, x], dim=1)
        x = x + self.positions(height // self.config.patch_size[0], width // self.config.patch_size[1])
        x = self.dropout(x)
        mask = Mask.over(Everything(), x.shape[1], x.device)
        for block in self.blocks:
            x = block(x, mask)
        x = self.final_norm(x)
        logits: Tensor = self.head(x[:, 0])
        if self.distillation_head is not None:
            of_teacher = self.distillation_head(x[:, 1])
            logits = (logits + of_teacher) / 2
        return logits

    def positions(self, rows: int, columns: int) -> Float[Tensor, "T C"]:
        """The learned positions for a grid of patches, interpolated (§3.2) where it is another than the trained one."""
        learned = self.position_embedding.weight
        if (rows, columns) == self.config.grid:
            return learned
        n_extra = self.config.n_extra_tokens
        table = learned[n_extra:].reshape(*self.config.grid, -1)  # rows columns C
        resized = resize_grid(table, (rows, columns))
        return torch.cat([learned[:n_extra], resized.flatten(0, 1)])


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


def head(config: ViTConfig) -> nn.Module:
    """From the vector of the class token to logits."""
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


# ---- Hugging Face

DISTILLATION = {
    "ViTForImageClassification": "none",
    "DeiTForImageClassification": "token",
    "DeiTForImageClassificationWithTeacher": "head",
}


def from_huggingface(config: Mapping[str, Any]) -> ViTConfig:
    """Read a config.json of a ViT or a DeiT. Of its two dropouts that of the sublayers is taken, since ours are one."""
    usual = "ViTForImageClassification" if config.get("model_type", "vit") == "vit" else "DeiTForImageClassification"
    architectures = config.get("architectures") or [usual]
    architecture = architectures[0] if isinstance(architectures, list) else architectures
    if not isinstance(architecture, str) or architecture not in DISTILLATION:
        raise ConfigError(f"config.json: architectures {architectures!r} is none of {', '.join(DISTILLATION)}.")
    labels = _labels(config.get("id2label") or {})
    settings = {
        "image_size": _pair(config.get("image_size", 224)),
        "patch_size": _pair(config.get("patch_size", 16)),
        "n_channels": config.get("num_channels", 3),
        "n_classes": len(labels) or config.get("num_labels", 2),
        "labels": [] if labels == _numbered(len(labels)) else labels,
        "d_model": config.get("hidden_size", 768),
        "n_layers": config.get("num_hidden_layers", 12),
        "n_heads": config.get("num_attention_heads", 12),
        "d_ff": config.get("intermediate_size", 3072),
        "activation": read_activation(config, "hidden_act", "gelu"),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "qkv_bias": config.get("qkv_bias", True),
        "distillation": DISTILLATION[architecture],
    }
    return from_mapping(ViTConfig, settings)


def _pair(size: Any) -> Any:
    """(height, width), from one number if they are the same."""
    return [size, size] if type(size) is int else size


def _labels(id2label: Any) -> list[Any]:
    """The names of the classes in their order."""
    if isinstance(id2label, Mapping):
        named = {str(number): label for number, label in id2label.items()}
        numbers = [str(number) for number in range(len(named))]
        if set(named) == set(numbers):
            return [named[number] for number in numbers]
    raise ConfigError("config.json: id2label must map the numbers of the classes, from 0 on, to their names.")


def _numbered(n_classes: int) -> list[str]:
    """The names that `transformers` gives to classes without one."""
    return [f"LABEL_{number}" for number in range(n_classes)]


def to_huggingface(config: ViTConfig) -> dict[str, Any]:
    """The config.json that `transformers` builds the same model from."""
    for name, only in {"final_norm": True, "head": "linear"}.items():
        if getattr(config, name) != only:
            raise ExportError(
                f"Hugging Face's ViT cannot express {name} = {getattr(config, name)!r}; it always has {only!r}."
            )
    labels = config.labels or _numbered(config.n_classes)
    architecture = next(name for name, kind in DISTILLATION.items() if kind == config.distillation)
    return {
        "architectures": [architecture],
        "model_type": "vit" if config.distillation == "none" else "deit",
        "image_size": _one(config.image_size),
        "patch_size": _one(config.patch_size),
        "num_channels": config.n_channels,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "qkv_bias": config.qkv_bias,
    }


def _one(size: tuple[int, int]) -> int | list[int]:
    """One number where height and width are the same."""
    return size[0] if size[0] == size[1] else list(size)


def renames(config: ViTConfig) -> Sequence[Rename]:
    """Hugging Face's names; its patch embedding is a convolution, and tables have an axis of one in front."""
    trunk = "vit" if config.distillation == "none" else "deit"
    c, n_positions = config.d_model, config.context_length
    kernel = (c, config.n_channels, *config.patch_size)
    ours, theirs = "blocks.{}.", f"{trunk}.encoder.layer.{{}}."
    rules = [
        reshaped("patch_embedding.weight", f"{trunk}.embeddings.patch_embeddings.projection.weight", (c, -1), kernel),
        same("patch_embedding.bias", f"{trunk}.embeddings.patch_embeddings.projection.bias"),
        reshaped("class_token", f"{trunk}.embeddings.cls_token", (1, c), (1, 1, c)),
        reshaped(
            "position_embedding.weight",
            f"{trunk}.embeddings.position_embeddings",
            (n_positions, c),
            (1, n_positions, c),
        ),
    ]
    if config.distillation != "none":
        rules.append(reshaped("distillation_token", f"{trunk}.embeddings.distillation_token", (1, c), (1, 1, c)))
    layers = {
        f"{ours}attn_norm": f"{theirs}layernorm_before",
        f"{ours}attn.o_proj": f"{theirs}attention.output.dense",
        f"{ours}mlp_norm": f"{theirs}layernorm_after",
        f"{ours}mlp.up_proj": f"{theirs}intermediate.dense",
        f"{ours}mlp.down_proj": f"{theirs}output.dense",
    }
    projections = {
        f"{ours}attn.q_proj": f"{theirs}attention.attention.query",
        f"{ours}attn.k_proj": f"{theirs}attention.attention.key",
        f"{ours}attn.v_proj": f"{theirs}attention.attention.value",
    }
    rules += [same(f"{a}.weight", f"{b}.weight") for a, b in projections.items()]
    if config.qkv_bias:
        rules += [same(f"{a}.bias", f"{b}.bias") for a, b in projections.items()]
    if config.final_norm:
        layers["final_norm"] = f"{trunk}.layernorm"
    if config.head == "mlp":
        layers |= {"head.up_proj": "classifier.up_proj", "head.down_proj": "classifier.down_proj"}  # in our files alone
    else:
        layers["head"] = "cls_classifier" if config.distillation == "head" else "classifier"
    if config.distillation == "head":
        layers["distillation_head"] = "distillation_classifier"
    rules += [same(f"{a}.{part}", f"{b}.{part}") for a, b in layers.items() for part in ("weight", "bias")]
    return rules


def reshaped(ours: str, theirs: str, our_shape: tuple[int, ...], their_shape: tuple[int, ...]) -> Rename:
    """The same numbers in another shape."""
    return Rename(
        theirs=theirs,
        ours=(ours,),
        read=lambda tensor: [tensor.reshape(our_shape)],
        write=lambda tensors: tensors[0].reshape(their_shape),
    )


SPEC = ModelSpec(
    name="vit",
    config=ViTConfig,
    module=ViT,
    initialize=init_like_bert,
    presets=PRESETS,
    huggingface_type="vit",
    other_types=("deit",),
    from_huggingface=from_huggingface,
    to_huggingface=to_huggingface,
    renames=renames,
    kind="image-classifier",
    # The pooler and the token that hides a patch belong to other tasks.
    elsewhere=(r"(vit|deit)\.pooler\.dense\..*", r"(vit|deit)\.embeddings\.mask_token"),
)
