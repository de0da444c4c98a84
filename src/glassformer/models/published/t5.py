"""T5 in Hugging Face's folders, where a layer is a list of sublayers, and the first layer holds the table of distances.

Whether the head is the embedding they say as `tie_word_embeddings`, and since version 5 of `transformers`, which ties
whatever is equal, as `scale_decoder_outputs`: what a tied head reads is scaled, and nothing else is.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from glassformer.models.published.fields import Field, FieldGroup, Settings, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same
from glassformer.models.t5 import T5Config

FFN = {  # as they are called there: ours; the first of several is written
    "relu": "relu",
    "gated-gelu": "geglu",
    "gated-silu": "swiglu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "gated-gelu_new": "geglu",
    "gated-gelu_pytorch_tanh": "geglu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}

TIED = dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight")


def read_layers(theirs: Settings) -> dict[str, Any]:
    """The layers of both halves, which are as many unless the decoder's are counted."""
    n_layers, n_decoder_layers = theirs.get("num_layers", 6), theirs.get("num_decoder_layers")
    return {
        "n_encoder_layers": n_layers,
        "n_decoder_layers": n_layers if n_decoder_layers is None else n_decoder_layers,
    }


def write_layers(ours: T5Config) -> dict[str, Any]:
    """Both numbers."""
    return {"num_layers": ours.n_encoder_layers, "num_decoder_layers": ours.n_decoder_layers}


def read_head(theirs: Settings) -> dict[str, Any]:
    """Whether the head is the embedding."""
    return {"tied_head": theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings", True))}


def write_head(ours: T5Config) -> dict[str, Any]:
    """The setting from which all versions conclude the other one."""
    return {"tie_word_embeddings": ours.tied_head}


FIELDS = (
    WriteOnly("architectures", ["T5ForConditionalGeneration"]),
    WriteOnly("is_encoder_decoder", True),
    Field("vocab_size", "vocab_size", default=32128),
    Field("n_positions", "context_length", default=512),
    Field("d_model", "d_model", default=512),
    FieldGroup(
        theirs=("num_layers", "num_decoder_layers"),
        ours=("n_encoder_layers", "n_decoder_layers"),
        read=read_layers,
        write=write_layers,
    ),
    Field("num_heads", "n_heads", default=8),
    Field("d_kv", "d_head", default=64),
    Field("d_ff", "d_ff", default=2048),
    Field("feed_forward_proj", "ffn", default="relu", values=FFN),
    Field("relative_attention_num_buckets", "n_buckets", default=32),
    Field("relative_attention_max_distance", "max_distance", default=128),
    Field("layer_norm_epsilon", "norm_eps", default=1e-6),
    Field("dropout_rate", "dropout", default=0.1),
    FieldGroup(
        theirs=("tie_word_embeddings", "scale_decoder_outputs"), ours=("tied_head",), read=read_head, write=write_head
    ),
    Field("decoder_start_token_id", "start_id", default=0, null=0),
    Field("eos_token_id", "eos_id", default=1),
    Field("pad_token_id", "pad_id", default=0),
    WriteOnly("bos_token_id", None),
)


def tensors(config: T5Config) -> list[Rename]:
    """The names of the sublayers follow from their places: attention, in a decoder cross-attention, feed-forward."""
    rows = [same("token_embedding.weight", "shared.weight")]
    if not config.tied_head:
        head = same("lm_head.weight", "lm_head.weight")
        rows.append(replace(head, absent=embedding))  # where they are equal
    for half, index in {"encoder": "{i}", "decoder": "{j}"}.items():
        ours, theirs = f"{half}.blocks.{index}.", f"{half}.block.{index}.layer."
        last = 1 if half == "encoder" else 2
        rows += attention(f"{ours}attn", f"{theirs}0.SelfAttention")
        if half == "decoder":
            rows += attention(f"{ours}cross_attn", f"{theirs}1.EncDecAttention")
            rows.append(same(f"{ours}cross_norm.weight", f"{theirs}1.layer_norm.weight"))
        rows += [
            same(f"{ours}attn_norm.weight", f"{theirs}0.layer_norm.weight"),
            same(f"{ours}mlp_norm.weight", f"{theirs}{last}.layer_norm.weight"),
            same(f"{ours}mlp.down_proj.weight", f"{theirs}{last}.DenseReluDense.wo.weight"),
            same(f"{half}.final_norm.weight", f"{half}.final_layer_norm.weight"),
            same(
                f"{half}.position_bias.weight",
                f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            ),
        ]
        gated = config.ffn in ("geglu", "swiglu")
        for a, b in ({"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}).items():
            rows.append(same(f"{ours}mlp.{a}_proj.weight", f"{theirs}{last}.DenseReluDense.{b}.weight"))
    return rows


def embedding(state: Mapping[str, Tensor]) -> Tensor:
    """The embedding in a file, under one of its names."""
    return next(state[name] for name in ("shared.weight", *TIED) if name in state)


def attention(ours: str, theirs: str) -> list[Rename]:
    """The four projections."""
    return [same(f"{ours}.{name}_proj.weight", f"{theirs}.{name}.weight") for name in "qkvo"]


PUBLISHED = Published(
    config=T5Config,
    name="T5",
    model_types=("t5",),
    fields=FIELDS,
    tensors=tensors,
    indices={"i": "n_encoder_layers", "j": "n_decoder_layers"},
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    tied=TIED,
    general={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    },
)
