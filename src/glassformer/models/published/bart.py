"""BART in Hugging Face's folders: the names of Marian's, a norm of what is embedded, and positions from row 2 on.

The two rows before them stood for padding once, and no token reads them. The bias of the head, which a file of the bare
trunk lacks, is zero then.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glassformer.models.bart import BartConfig
from glassformer.models.published.fields import ACTIVATIONS, Field, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same
from glassformer.models.published.transformer import attention

UNREAD_ROWS = 2

FIELDS = (
    WriteOnly("architectures", ["BartForConditionalGeneration"]),
    WriteOnly("is_encoder_decoder", True),
    Field("vocab_size", "vocab_size", default=50265),
    Field("max_position_embeddings", "context_length", default=1024),
    Field("d_model", "d_model", default=1024),
    Field("encoder_layers", "n_encoder_layers", default=12),
    Field("decoder_layers", "n_decoder_layers", default=12),
    Field("encoder_attention_heads", "n_heads", default=16, aliases=("decoder_attention_heads",), must_agree=True),
    Field("encoder_ffn_dim", "d_ff", default=4096, aliases=("decoder_ffn_dim",), must_agree=True),
    Field("activation_function", "activation", default="gelu", values=ACTIVATIONS),
    Field("dropout", "dropout", default=0.1, aliases=("attention_dropout",)),  # of several, since ours are one
    Field("scale_embedding", "scaled_embedding", default=False),
    Field("decoder_start_token_id", "start_id", default=2),
    Field("forced_bos_token_id", "first_id", default=None),
    Field("eos_token_id", "eos_id", default=2),
    Field("pad_token_id", "pad_id", default=1),
    WriteOnly("forced_eos_token_id", None),
    TheirConstant("tie_word_embeddings", True),
    TheirConstant("normalize_before", False),
    TheirConstant("normalize_embedding", True),
    TheirConstant("add_final_layer_norm", False),
    TheirConstant("static_position_embeddings", False),
)


def tensors(config: BartConfig) -> list[Rename]:
    """The same names for all sizes."""
    rows = [same("token_embedding.weight", "model.shared.weight"), head_bias(config.vocab_size)]
    for half, index in {"encoder": "{i}", "decoder": "{j}"}.items():
        ours, theirs = f"{half}.blocks.{index}.", f"model.{half}.layers.{index}."
        rows += attention(f"{ours}attn", f"{theirs}self_attn")
        rows += modules(
            {
                f"{ours}attn_norm": f"{theirs}self_attn_layer_norm",
                f"{ours}mlp.up_proj": f"{theirs}fc1",
                f"{ours}mlp.down_proj": f"{theirs}fc2",
                f"{ours}mlp_norm": f"{theirs}final_layer_norm",
                f"{half}.embedding_norm": f"model.{half}.layernorm_embedding",
            }
        )
        rows.append(positions(f"{half}.position_embedding.weight", f"model.{half}.embed_positions.weight"))
    rows += attention("decoder.blocks.{j}.cross_attn", "model.decoder.layers.{j}.encoder_attn")
    rows += modules({"decoder.blocks.{j}.cross_norm": "model.decoder.layers.{j}.encoder_attn_layer_norm"})
    return rows


def positions(ours: str, theirs: str) -> Rename:
    """A table of positions behind the rows that no position has."""

    def write(tensors: Sequence[Tensor]) -> Tensor:
        table = tensors[0].new_zeros(len(tensors[0]) + UNREAD_ROWS, tensors[0].shape[1])
        table[UNREAD_ROWS:] = tensors[0]
        return table

    return Rename(theirs=theirs, ours=(ours,), read=lambda tensor: [tensor[UNREAD_ROWS:]], write=write)


def head_bias(vocab_size: int) -> Rename:
    """The bias of the logits, a matrix of one row; a file without it has none."""
    return Rename(
        theirs="final_logits_bias",
        ours=("lm_head.bias",),
        read=lambda tensor: [tensor[0]],
        write=lambda tensors: tensors[0][None],
        absent=lambda state: torch.zeros(()).expand(1, vocab_size),
    )


PUBLISHED = Published(
    config=BartConfig,
    name="BART",
    model_types=("bart",),
    fields=FIELDS,
    tensors=tensors,
    indices={"i": "n_encoder_layers", "j": "n_decoder_layers"},
    ignored=(r"model\.(encoder|decoder)\.version",),
    base_prefix="model.",
    tied={
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
    general={
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    },
)
