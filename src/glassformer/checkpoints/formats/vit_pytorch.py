"""State dicts of vit-pytorch's first Vision Transformer, of which many small programs have a copy.

Wang, github.com/lucidrains/vit-pytorch, in its form of October 2020: queries, keys and values in one matrix without
bias, no norm after the last block, a head with a hidden layer, and scores divided by the root of the whole width
instead of a head's. That scale is folded into the queries here. A patch's pixels have their channels last there.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from glassformer.checkpoints import pickles
from glassformer.checkpoints.formats.format import Contents, Format, Option, Source
from glassformer.errors import CheckpointMismatch
from glassformer.models import spec_of
from glassformer.models.vit import ViTConfig

MARK = "patch_to_embedding.weight"
LAYER = re.compile(r"transformer\.layers\.(\d{1,4})\.")

NAMES = {  # ours: theirs
    "patch_embedding.weight": "patch_to_embedding.weight",
    "patch_embedding.bias": "patch_to_embedding.bias",
    "class_token": "cls_token",
    "position_embedding.weight": "pos_embedding",
    "head.up_proj.weight": "mlp_head.0.weight",
    "head.up_proj.bias": "mlp_head.0.bias",
    "head.down_proj.weight": "mlp_head.2.weight",
    "head.down_proj.bias": "mlp_head.2.bias",
}
LAYER_NAMES = {
    "attn_norm.weight": "0.fn.norm.weight",
    "attn_norm.bias": "0.fn.norm.bias",
    "attn.o_proj.weight": "0.fn.fn.to_out.weight",
    "attn.o_proj.bias": "0.fn.fn.to_out.bias",
    "mlp_norm.weight": "1.fn.norm.weight",
    "mlp_norm.bias": "1.fn.norm.bias",
    "mlp.up_proj.weight": "1.fn.fn.net.0.weight",
    "mlp.up_proj.bias": "1.fn.fn.net.0.bias",
    "mlp.down_proj.weight": "1.fn.fn.net.2.weight",
    "mlp.down_proj.bias": "1.fn.fn.net.2.bias",
}
QKV = "0.fn.fn.to_qkv.weight"


def sniff(source: Source) -> bool:
    """Whether this is such a state dict."""
    return source.is_pickle and isinstance(source.pickled, Mapping) and MARK in source.pickled


def read(source: Source, *, n_heads: int, n_channels: int) -> tuple[Contents, dict[str, Tensor]]:
    """The configuration, from the shapes of the tensors, and our parameters."""
    state = {str(name): tensor for name, tensor in source.pickled.items()}
    pickles.check_tensors(state, source.path)
    config = _config(state, n_heads, n_channels)
    weights = _ours(state, config)
    for name, parameter in spec_of(config).outline(config).named_parameters():
        if weights[name].shape != parameter.shape or not weights[name].is_floating_point():
            raise CheckpointMismatch(
                f"{name} is {tuple(weights[name].shape)} of {weights[name].dtype}, but the sizes of the other tensors "
                f"ask for {tuple(parameter.shape)} of floating point numbers."
            )
    return Contents(config=config), weights


FORMAT = Format(
    name="vit-pytorch",
    files=".pt of vit-pytorch",
    sniff=sniff,
    read=read,
    options=(
        Option(name="n_heads", type=int, meaning="in its code 8 where nothing else is asked for"),
        Option(name="n_channels", type=int, meaning="1 for grey pictures, 3 for coloured ones"),
    ),
)


def _config(state: Mapping[str, Tensor], n_heads: int, n_channels: int) -> ViTConfig:
    n_layers = len({match[1] for match in map(LAYER.match, state) if match})
    d_model, patch_features = _matrix(state, MARK)
    d_ff, _ = _matrix(state, "mlp_head.0.weight")
    n_classes, _ = _matrix(state, "mlp_head.2.weight")
    patch = math.isqrt(patch_features // n_channels) if n_channels > 0 else 0
    if n_channels * patch**2 != patch_features:
        raise CheckpointMismatch(f"{patch_features} numbers are no square patch of {n_channels} channels.")
    n_positions = _tensor(state, "pos_embedding").numel() // d_model
    side = math.isqrt(max(n_positions - 1, 0)) * patch
    return ViTConfig(
        image_size=(side, side),
        patch_size=(patch, patch),
        n_channels=n_channels,
        n_classes=n_classes,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=d_ff,
        norm_eps=1e-5,
        qkv_bias=False,
        final_norm=False,
        head="mlp",
    )


def _ours(state: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Our names; every tensor of the file is used."""
    names = dict(NAMES)
    layers = [(f"blocks.{layer}.", f"transformer.layers.{layer}.") for layer in range(config.n_layers)]
    names |= {a + ours: b + theirs for a, b in layers for ours, theirs in LAYER_NAMES.items()}
    weights = {ours: _tensor(state, theirs) for ours, theirs in names.items()}
    if unread := state.keys() - {*names.values(), *(b + QKV for _, b in layers)}:
        raise CheckpointMismatch(f"The tensor {min(unread)[:200]!r} has no place in a ViT of vit-pytorch.")
    for a, b in layers:
        q, k, v = _qkv(_tensor(state, b + QKV))
        scale = math.sqrt(config.n_heads)  # √C / √D: our scores are divided by √D, theirs by √C
        weights |= {f"{a}attn.q_proj.weight": q / scale, f"{a}attn.k_proj.weight": k, f"{a}attn.v_proj.weight": v}
    try:
        for name in ("class_token", "position_embedding.weight"):
            weights[name] = weights[name].reshape(-1, config.d_model)
        patches = weights["patch_embedding.weight"].reshape(config.d_model, -1, config.n_channels)  # pixels, channels
    except RuntimeError:
        raise CheckpointMismatch(f"the tokens, positions or patches are no rows of {config.d_model} numbers.") from None
    weights["patch_embedding.weight"] = patches.mT.flatten(1)
    return weights


def _qkv(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.dim() != 2 or len(tensor) % 3:
        raise CheckpointMismatch(f"{QKV} is {tuple(tensor.shape)}; queries, keys and values have as many rows each.")
    return tensor.chunk(3)


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise CheckpointMismatch(f"The tensor {name} is missing, which a ViT of vit-pytorch has.")
    return state[name]


def _matrix(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The shape of a matrix."""
    tensor = _tensor(state, name)
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise CheckpointMismatch(f"{name} is {tuple(tensor.shape)}, but must be a matrix.")
    return tensor.shape[0], tensor.shape[1]
