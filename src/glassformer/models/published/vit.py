"""Vision Transformers in Hugging Face's folders: ViT, and DeiT with its second token.

Its patch embedding is a convolution, and the tables of tokens and positions have an axis of one in front.
"""

from typing import Any

from glassformer.errors import ExportError
from glassformer.models.published.fields import ACTIVATIONS, ArchitectureClass, Field, FieldGroup, OurConstant
from glassformer.models.published.labels import LABELS, PROBLEM_TYPE
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, reshaped, same
from glassformer.models.vit import ViTConfig


def pair(size: Any) -> Any:
    """(height, width), from one number if they are the same."""
    return [size, size] if type(size) is int else size


def one(size: tuple[int, int]) -> int | list[int]:
    """One number where height and width are the same."""
    return size[0] if size[0] == size[1] else list(size)


CLASSES = {  # their class: its model type, and our distillation and head
    "ViTForImageClassification": ("vit", "none", "linear"),
    "ViTModel": ("vit", "none", "none"),
    "DeiTForImageClassification": ("deit", "token", "linear"),
    "DeiTForImageClassificationWithTeacher": ("deit", "head", "linear"),
    "DeiTModel": ("deit", "token", "none"),
}
OF_DISTILLATION = ArchitectureClass("distillation", {name: values[:2] for name, values in CLASSES.items()})
OF_HEAD = ArchitectureClass("head", {name: (kind, head) for name, (kind, _, head) in CLASSES.items()})


def write_class(ours: ViTConfig) -> dict[str, Any]:
    """The class with this distillation and this head; a head with a hidden layer has none."""
    for name, (model_type, distillation, head) in CLASSES.items():
        if (distillation, head) == (ours.distillation, ours.head):
            return {"architectures": [name], "model_type": model_type}
    raise ExportError(f"cannot express head = {ours.head!r}; it always has 'linear' or 'none'.")


FIELDS = (
    OurConstant("final_norm", True),
    FieldGroup(
        theirs=("architectures", "model_type"),
        ours=("distillation", "head"),
        read=lambda theirs: {**OF_DISTILLATION.read(theirs), **OF_HEAD.read(theirs)},
        write=write_class,
    ),
    Field("image_size", "image_size", default=224, to_ours=pair, to_theirs=one),
    Field("patch_size", "patch_size", default=16, to_ours=pair, to_theirs=one),
    Field("num_channels", "n_channels", default=3),
    LABELS,
    PROBLEM_TYPE,
    Field("hidden_size", "d_model", default=768),
    Field("num_hidden_layers", "n_layers", default=12),
    Field("num_attention_heads", "n_heads", default=12),
    Field("intermediate_size", "d_ff", default=3072),
    Field("hidden_act", "activation", default="gelu", values=ACTIVATIONS),
    Field("layer_norm_eps", "norm_eps", default=1e-12),
    # Of two, since ours are one: that of the sublayers.
    Field("hidden_dropout_prob", "dropout", default=0.0, aliases=("attention_probs_dropout_prob",)),
    Field("qkv_bias", "qkv_bias", default=True),
)


def embeddings_and_queries(config: Any, outside: str, layer: str) -> list[Rename]:
    """What is embedded, and queries, keys and values of a layer, under the names of all such models."""
    c, n_positions = config.d_model, config.context_length
    kernel = (c, config.n_channels, *config.patch_size)
    return [
        reshaped("patch_embedding.weight", f"{outside}patch_embeddings.projection.weight", (c, -1), kernel),
        same("patch_embedding.bias", f"{outside}patch_embeddings.projection.bias"),
        reshaped("class_token", f"{outside}cls_token", (1, c), (1, 1, c)),
        reshaped("position_embedding.weight", f"{outside}position_embeddings", (n_positions, c), (1, n_positions, c)),
        *modules(
            {
                "blocks.{i}.attn.q_proj": f"{layer}attention.attention.query",
                "blocks.{i}.attn.k_proj": f"{layer}attention.attention.key",
                "blocks.{i}.attn.v_proj": f"{layer}attention.attention.value",
            },
            parts=("weight", "bias") if config.qkv_bias else ("weight",),
        ),
    ]


def tensors(config: ViTConfig) -> list[Rename]:
    """Hugging Face's names; a head with a hidden layer, and no last norm, are in folders that we alone read."""
    trunk = "vit." if config.distillation == "none" else "deit."
    if config.head == "none":  # which files of the bare trunk leave out
        trunk = ""
    ours, theirs, outside = "blocks.{i}.", f"{trunk}encoder.layer.{{i}}.", f"{trunk}embeddings."
    rows = [
        *embeddings_and_queries(config, outside, theirs),
        *modules(
            {
                f"{ours}attn_norm": f"{theirs}layernorm_before",
                f"{ours}attn.o_proj": f"{theirs}attention.output.dense",
                f"{ours}mlp_norm": f"{theirs}layernorm_after",
                f"{ours}mlp.up_proj": f"{theirs}intermediate.dense",
                f"{ours}mlp.down_proj": f"{theirs}output.dense",
            }
        ),
    ]
    if config.distillation != "none":
        c = config.d_model
        rows.append(reshaped("distillation_token", f"{outside}distillation_token", (1, c), (1, 1, c)))
    if config.final_norm:
        rows += modules({"final_norm": f"{trunk}layernorm"})
    if config.head == "mlp":
        rows += modules({"head.up_proj": "classifier.up_proj", "head.down_proj": "classifier.down_proj"})
    elif config.distillation == "head":
        rows += modules({"head": "cls_classifier", "distillation_head": "distillation_classifier"})
    elif config.head == "linear":
        rows += modules({"head": "classifier"})
    return rows


PUBLISHED = Published(
    config=ViTConfig,
    name="ViT",
    model_types=("vit", "deit"),
    fields=FIELDS,
    tensors=tensors,
    # The pooler and the token that hides a patch belong to other tasks.
    elsewhere=(r"((vit|deit)\.)?pooler\.dense\..*", r"((vit|deit)\.)?embeddings\.mask_token"),
)
