"""The Transformer in Hugging Face's folders: Marian's translators, whose tensors have fairseq's names behind `model.`.

Marian has all sines of a position before all cosines, and the paper by turns: the same model in another order of the
features, which every tensor that meets them follows. Marian's head always has a bias, which may be zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import (
    ACTIVATIONS,
    Field,
    FieldGroup,
    OurConstant,
    Settings,
    TheirConstant,
    WriteOnly,
)
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same, zeros
from glassformer.models.transformer import TransformerConfig

PROJECTIONS = {"q": "q", "k": "k", "v": "v", "o": "out"}  # ours: Hugging Face's


def read_vocabularies(theirs: Settings) -> dict[str, Any]:
    """The vocabularies of both texts, which may be one, and whether the head has the target's embedding."""
    shared, tied = theirs.get("share_encoder_decoder_embeddings", True), theirs.get("tie_word_embeddings", True)
    if type(shared) is not bool:
        raise ConfigError(f"share_encoder_decoder_embeddings must be true or false, not {shared!r}.")
    if shared and not tied:
        raise ConfigError(
            "share_encoder_decoder_embeddings without tie_word_embeddings is not supported; versions of `transformers` "
            "disagree about what it means."
        )
    vocab_size = theirs.get("vocab_size", 58101)
    if vocab_size is None:
        raise ConfigError("vocab_size must be a whole number, not null.")
    return {
        "vocab_size": vocab_size if shared else theirs.get("decoder_vocab_size") or vocab_size,
        "source_vocab_size": None if shared else vocab_size,
        "tied_head": tied,
    }


def write_vocabularies(ours: TransformerConfig) -> dict[str, Any]:
    """The same settings; one vocabulary with a head of its own is refused."""
    shared = ours.source_vocab_size is None
    if shared and not ours.tied_head:
        raise ExportError("cannot express one vocabulary for both texts with an untied head.")
    return {
        "vocab_size": ours.source_vocab_size or ours.vocab_size,
        "decoder_vocab_size": ours.vocab_size,
        "share_encoder_decoder_embeddings": shared,
        "tie_word_embeddings": ours.tied_head,
    }


SIZES = (
    Field("max_position_embeddings", "context_length", default=1024),
    Field("d_model", "d_model", default=1024),
    Field("encoder_layers", "n_encoder_layers", default=12),
    Field("decoder_layers", "n_decoder_layers", default=12),
    Field("encoder_attention_heads", "n_heads", default=16, aliases=("decoder_attention_heads",), must_agree=True),
    Field("encoder_ffn_dim", "d_ff", default=4096, aliases=("decoder_ffn_dim",), must_agree=True),
    Field("activation_function", "activation", default="gelu", values=ACTIVATIONS),
    Field("dropout", "dropout", default=0.1, aliases=("attention_dropout",)),  # of several, since ours are one
    Field("scale_embedding", "scaled_embedding", default=False),
)

FIELDS = (
    WriteOnly("architectures", ["MarianMTModel"]),
    WriteOnly("is_encoder_decoder", True),
    FieldGroup(
        theirs=("vocab_size", "decoder_vocab_size", "share_encoder_decoder_embeddings", "tie_word_embeddings"),
        ours=("vocab_size", "source_vocab_size", "tied_head"),
        read=read_vocabularies,
        write=write_vocabularies,
    ),
    *SIZES,
    Field("decoder_start_token_id", "start_id", default=58100),
    Field("eos_token_id", "eos_id", default=0),
    Field("pad_token_id", "pad_id", default=58100),
    WriteOnly("bos_token_id", None),
    WriteOnly("forced_eos_token_id", None),
    OurConstant("norm_placement", "post"),
    OurConstant("norm_eps", 1e-5),
    OurConstant("first_position", 0),
    OurConstant("position_layout", "halves", converted=("interleaved",)),
    OurConstant("head_bias", True, converted=(False,)),
    TheirConstant("normalize_before", False),
    TheirConstant("normalize_embedding", False),
    TheirConstant("add_final_layer_norm", False),
    TheirConstant("static_position_embeddings", True),
)


def tensors(config: TransformerConfig) -> list[Rename]:
    """Marian's names, for features in its order and a head with a bias."""
    rows = own_tensors(config)
    if config.position_layout == "interleaved":
        rows = [in_halves(row, config.d_model) for row in rows]
    if not config.head_bias:
        rows.append(zeros("final_logits_bias", (1, config.vocab_size)))
    return rows


def own_tensors(config: TransformerConfig) -> list[Rename]:
    """The same names for the parameters as they are here, and fairseq's for the norms of pre-norm halves."""
    rows = layers()
    if config.norm_placement == "pre":
        rows += modules({f"{half}.final_norm": f"model.{half}.layer_norm" for half in ("encoder", "decoder")})
    if config.source_vocab_size is None:
        rows.append(same("token_embedding.weight", "model.shared.weight"))
    else:
        rows.append(same("source_embedding.weight", "model.encoder.embed_tokens.weight"))
        rows.append(same("token_embedding.weight", "model.decoder.embed_tokens.weight"))
    if not config.tied_head:
        rows.append(same("lm_head.weight", "lm_head.weight"))
    return [*rows, HEAD_BIAS] if config.head_bias else rows


def attention(ours: str, theirs: str) -> list[Rename]:
    """The four projections."""
    return modules({f"{ours}.{a}_proj": f"{theirs}.{b}_proj" for a, b in PROJECTIONS.items()})


def layers(attention: Callable[[str, str], list[Rename]] = attention) -> list[Rename]:
    """The blocks of both halves, under fairseq's names."""
    rows: list[Rename] = []
    for half, index in {"encoder": "{i}", "decoder": "{j}"}.items():
        ours, theirs = f"{half}.blocks.{index}.", f"model.{half}.layers.{index}."
        rows += attention(f"{ours}attn", f"{theirs}self_attn")
        rows += modules(
            {
                f"{ours}attn_norm": f"{theirs}self_attn_layer_norm",
                f"{ours}mlp.up_proj": f"{theirs}fc1",
                f"{ours}mlp.down_proj": f"{theirs}fc2",
                f"{ours}mlp_norm": f"{theirs}final_layer_norm",
            }
        )
    rows += attention("decoder.blocks.{j}.cross_attn", "model.decoder.layers.{j}.encoder_attn")
    return rows + modules({"decoder.blocks.{j}.cross_norm": "model.decoder.layers.{j}.encoder_attn_layer_norm"})


HEAD_BIAS = Rename(  # a matrix of one row
    theirs="final_logits_bias",
    ours=("lm_head.bias",),
    read=lambda tensor: [tensor[0]],
    write=lambda tensors: tensors[0][None],
)
GENERAL = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
}
FEATURES = {  # the axis along which a parameter has the features of a position
    **{f"{name}_proj.": -1 for name in ("q", "k", "v", "up")},
    **{f"{name}_proj.": 0 for name in ("o", "down")},
    "norm.": 0,
    "embedding.": -1,
    "lm_head.": -1,
}


def in_halves(row: Rename, d_model: int) -> Rename:
    """The same tensor with its features in another order: those at even places first, where it has features at all."""
    order = torch.cat([torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)])
    back = order.argsort()
    axes = [axis for part, axis in FEATURES.items() if part in row.ours[0]]
    if not axes:
        return row
    axis = axes[0]
    if axis == -1 and row.ours[0].endswith(".bias"):  # it adds to what the weights make of the features
        return row

    def read(tensor: Tensor) -> Sequence[Tensor]:
        return [part.index_select(axis, back.to(part.device)) for part in row.read(tensor)]

    def write(tensors: Sequence[Tensor]) -> Tensor:
        return row.write([part.index_select(axis, order.to(part.device)) for part in tensors])

    return replace(row, read=read, write=write)


PUBLISHED = Published(
    config=TransformerConfig,
    name="Marian",
    model_types=("marian",),
    fields=FIELDS,
    tensors=tensors,
    own_tensors=own_tensors,
    indices={"i": "n_encoder_layers", "j": "n_decoder_layers"},
    ignored=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
    base_prefix="model.",
    tied={
        "lm_head.weight": "model.decoder.embed_tokens.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
    general=GENERAL,
)
