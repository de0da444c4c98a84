"""RoBERTa in Hugging Face's folders: BERT's names for the encoder, and heads of its own.

XLM-RoBERTa and CamemBERT are RoBERTas of other languages under other names; they are written as RoBERTas.
"""

from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.published.bert import ALIKE, encoder_tensors
from glassformer.models.published.fields import ArchitectureClass, Field, FieldGroup, Settings
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same
from glassformer.models.roberta import RobertaConfig

FAMILIES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
HEADS = {"ForMaskedLM": "masked-token", "Model": "none", "ForSequenceClassification": "classes"}


def read_positions(theirs: Settings) -> dict[str, Any]:
    """How many tokens fit: the rows of the table behind that of padding."""
    n_rows, padding_id = theirs.get("max_position_embeddings", 512), theirs.get("pad_token_id", 1)
    if type(n_rows) is not int or type(padding_id) is not int or not 0 <= padding_id < n_rows - 1:
        raise ConfigError(
            f"max_position_embeddings must be a number of rows and pad_token_id one of the first of them, not "
            f"{n_rows!r} and {padding_id!r}."
        )
    return {"context_length": n_rows - padding_id - 1, "padding_id": padding_id}


def write_positions(ours: RobertaConfig) -> dict[str, Any]:
    """The rows of the table, and the token of padding."""
    return {"max_position_embeddings": ours.n_positions, "pad_token_id": ours.padding_id}


def tensors(config: RobertaConfig) -> list[Rename]:
    """The head has tensors of its own, where there is one."""
    rows = encoder_tensors("roberta")
    if config.head == "masked-token":
        rows += [
            same("head.lm_head.bias", "lm_head.bias"),
            *modules({"head.proj": "lm_head.dense", "head.norm": "lm_head.layer_norm"}),
        ]
    elif config.head == "classes":
        rows += modules({"head.proj": "classifier.dense", "head.out_proj": "classifier.out_proj"})
    return rows


PUBLISHED = Published(
    config=RobertaConfig,
    name="RoBERTa",
    model_types=tuple(FAMILIES),
    fields=(
        ArchitectureClass(
            "head",
            {
                f"{family}{task}": (model_type, head)
                for model_type, family in FAMILIES.items()
                for task, head in HEADS.items()
            },
        ),
        Field("vocab_size", "vocab_size", default=50265),
        FieldGroup(
            theirs=("max_position_embeddings", "pad_token_id"),
            ours=("context_length", "padding_id"),
            read=read_positions,
            write=write_positions,
        ),
        *ALIKE,
    ),
    tensors=tensors,
    ignored=(r"(roberta\.)?embeddings\.position_ids",),
    elsewhere=(r"(roberta\.)?pooler\.dense\..*",),
    base_prefix="roberta.",
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)
