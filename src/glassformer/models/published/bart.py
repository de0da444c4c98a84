"""BART in Hugging Face's folders: the names of Marian's, a norm of what is embedded, and positions from row 2 on.

The two rows before them stood for padding once, and no token reads them. The bias of the head, which a file of the bare
trunk lacks, is zero then.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from glassformer.models.bart import BartConfig
from glassformer.models.published.fields import Field, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same
from glassformer.models.published.transformer import GENERAL, HEAD_BIAS, SIZES, layers

UNREAD_ROWS = 2

FIELDS = (
    WriteOnly("architectures", ["BartForConditionalGeneration"]),
    WriteOnly("is_encoder_decoder", True),
    Field("vocab_size", "vocab_size", default=50265),
    *SIZES,
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
    """The same names for all sizes; a file without a bias of the head has none."""
    head_bias = replace(HEAD_BIAS, absent=lambda state: torch.zeros(()).expand(1, config.vocab_size))
    rows = [same("token_embedding.weight", "model.shared.weight"), head_bias, *layers()]
    for half in ("encoder", "decoder"):
        rows += modules({f"{half}.embedding_norm": f"model.{half}.layernorm_embedding"})
        rows.append(positions(f"{half}.position_embedding.weight", f"model.{half}.embed_positions.weight"))
    return rows


def positions(ours: str, theirs: str) -> Rename:
    """A table of positions behind the rows that no position has."""

    def write(tensors: Sequence[Tensor]) -> Tensor:
        table = tensors[0].new_zeros(len(tensors[0]) + UNREAD_ROWS, tensors[0].shape[1])
        table[UNREAD_ROWS:] = tensors[0]
        return table

    return Rename(theirs=theirs, ours=(ours,), read=lambda tensor: [tensor[UNREAD_ROWS:]], write=write)


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
    general=GENERAL,
)
