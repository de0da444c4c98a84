"""DINOv2 in Hugging Face's folders. Gate and up of the giant's network are one matrix there."""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.dinov2 import Dinov2Config
from glassformer.models.published.fields import (
    ACTIVATIONS,
    ArchitectureClass,
    Field,
    FieldGroup,
    Settings,
    WriteOnly,
)
from glassformer.models.published.labels import LABELS, PROBLEM_TYPE
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, joined, modules, same
from glassformer.models.published.vit import embeddings_and_queries, one, pair


def read_sizes(theirs: Settings) -> dict[str, Any]:
    """Of images and of patches, each one number or two."""
    return {name: pair(theirs.get(name, default)) for name, default in {"image_size": 224, "patch_size": 14}.items()}


def write_sizes(ours: Dinov2Config) -> dict[str, Any]:
    """The same; `transformers` takes the grid for a square one wherever it is not sure of the image."""
    if len(set(ours.image_size)) > 1 and len(set(ours.grid)) > 1:
        raise ExportError(f"needs a square image or as many patches down as across, not {ours.grid}.")
    return {"image_size": one(ours.image_size), "patch_size": one(ours.patch_size)}


FIELDS = (
    ArchitectureClass(
        "head",
        {
            "Dinov2Model": ("dinov2", "none"),
            "Dinov2ForImageClassification": ("dinov2", "classes"),
        },
    ),
    FieldGroup(
        theirs=("image_size", "patch_size"), ours=("image_size", "patch_size"), read=read_sizes, write=write_sizes
    ),
    Field("num_channels", "n_channels", default=3),
    LABELS,
    PROBLEM_TYPE,
    Field("hidden_size", "d_model", default=768),
    Field("num_hidden_layers", "n_layers", default=12),
    Field("num_attention_heads", "n_heads", default=12),
    Field("mlp_ratio", "mlp_ratio", default=4),
    Field("use_swiglu_ffn", "ffn", default=False, values={False: "mlp", True: "swiglu"}),
    Field("hidden_act", "activation", default="gelu", values=ACTIVATIONS),
    Field("layer_norm_eps", "norm_eps", default=1e-6),
    # Of two, since ours are one: that of the embeddings.
    Field("hidden_dropout_prob", "dropout", default=0.0, aliases=("attention_probs_dropout_prob",)),
    Field("qkv_bias", "qkv_bias", default=True),
    Field("layerscale_value", "layer_scale", default=1.0),
    WriteOnly("use_mask_token", False),
)


def tensors(config: Dinov2Config) -> list[Rename]:
    """The head has a tensor of its own, where there is one."""
    ours, theirs, outside = "blocks.{i}.", "dinov2.encoder.layer.{i}.", "dinov2.embeddings."
    rows = [
        *embeddings_and_queries(config, outside, theirs),
        *modules(
            {
                f"{ours}attn_norm": f"{theirs}norm1",
                f"{ours}attn.o_proj": f"{theirs}attention.output.dense",
                f"{ours}mlp_norm": f"{theirs}norm2",
                "final_norm": "dinov2.layernorm",
            }
        ),
        same(f"{ours}attn_scale.weight", f"{theirs}layer_scale1.lambda1"),
        same(f"{ours}mlp_scale.weight", f"{theirs}layer_scale2.lambda1"),
    ]
    if config.ffn == "mlp":
        rows += modules({f"{ours}mlp.up_proj": f"{theirs}mlp.fc1", f"{ours}mlp.down_proj": f"{theirs}mlp.fc2"})
    else:
        rows += [
            joined([f"{ours}mlp.{name}_proj.{part}" for name in ("gate", "up")], f"{theirs}mlp.weights_in.{part}")
            for part in ("weight", "bias")
        ]
        rows += modules({f"{ours}mlp.down_proj": f"{theirs}mlp.weights_out"})
    if config.head == "classes":
        rows += modules({"head": "classifier"})
    return rows


PUBLISHED = Published(
    config=Dinov2Config,
    name="DINOv2",
    model_types=("dinov2",),
    fields=FIELDS,
    tensors=tensors,
    # It stands for a patch that is hidden, in a task that only its training had.
    elsewhere=(r"(dinov2\.)?embeddings\.mask_token",),
    said_by={"dinov2.embeddings.mask_token": {"use_mask_token": True}},
    base_prefix="dinov2.",
)
