"""BERT in Hugging Face's folders, which keep the names of Google's code."""

from glassformer.models.bert import BertConfig
from glassformer.models.published.fields import ACTIVATIONS, ArchitectureClass, Field, Row, TheirConstant
from glassformer.models.published.labels import LABELS_OF_TEXTS, PROBLEM_TYPE
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same

FIELDS = (
    ArchitectureClass(
        "head",
        {
            "BertForMaskedLM": ("bert", "masked-token"),
            "BertForPreTraining": ("bert", "masked-token"),
            "BertModel": ("bert", "none"),
            "BertForSequenceClassification": ("bert", "classes"),
        },
    ),
    Field("vocab_size", "vocab_size", default=30522),
    Field("max_position_embeddings", "context_length", default=512),
)
ALIKE: tuple[Row, ...] = (  # in BERT and in RoBERTa
    Field("type_vocab_size", "n_token_types", default=2),
    Field("hidden_size", "d_model", default=768),
    Field("num_hidden_layers", "n_layers", default=12),
    Field("num_attention_heads", "n_heads", default=12),
    Field("intermediate_size", "d_ff", default=3072),
    Field("hidden_act", "activation", default="gelu", values=ACTIVATIONS),
    Field("layer_norm_eps", "norm_eps", default=1e-12),
    # Of two, since ours are one: that of the sublayers.
    Field("hidden_dropout_prob", "dropout", default=0.1, aliases=("attention_probs_dropout_prob",)),
    LABELS_OF_TEXTS,
    PROBLEM_TYPE,
    TheirConstant("tie_word_embeddings", True),
    TheirConstant("position_embedding_type", "absolute"),
    TheirConstant("is_decoder", False),
    TheirConstant("add_cross_attention", False),
)


def tensors(config: BertConfig) -> list[Rename]:
    """The head has tensors of its own, where there is one."""
    rows = encoder_tensors("bert")
    if config.head == "masked-token":
        transform = "cls.predictions.transform."
        rows += [
            same("head.lm_head.bias", "cls.predictions.bias"),
            *modules({"head.proj": f"{transform}dense", "head.norm": f"{transform}LayerNorm"}),
        ]
    elif config.head == "classes":
        rows += modules({"head.proj": "bert.pooler.dense", "head.out_proj": "classifier"})
    return rows


def encoder_tensors(trunk: str) -> list[Rename]:
    """Embeddings and blocks, under the trunk's name."""
    ours, theirs = "encoder.blocks.{i}.", f"{trunk}.encoder.layer.{{i}}."
    return [
        same("encoder.token_embedding.weight", f"{trunk}.embeddings.word_embeddings.weight"),
        same("encoder.position_embedding.weight", f"{trunk}.embeddings.position_embeddings.weight"),
        same("encoder.type_embedding.weight", f"{trunk}.embeddings.token_type_embeddings.weight"),
        *modules(
            {
                "encoder.embedding_norm": f"{trunk}.embeddings.LayerNorm",
                f"{ours}attn.q_proj": f"{theirs}attention.self.query",
                f"{ours}attn.k_proj": f"{theirs}attention.self.key",
                f"{ours}attn.v_proj": f"{theirs}attention.self.value",
                f"{ours}attn.o_proj": f"{theirs}attention.output.dense",
                f"{ours}attn_norm": f"{theirs}attention.output.LayerNorm",
                f"{ours}mlp.up_proj": f"{theirs}intermediate.dense",
                f"{ours}mlp.down_proj": f"{theirs}output.dense",
                f"{ours}mlp_norm": f"{theirs}output.LayerNorm",
            }
        ),
    ]


PUBLISHED = Published(
    config=BertConfig,
    name="BERT",
    model_types=("bert",),
    fields=(*FIELDS, *ALIKE),
    tensors=tensors,
    ignored=(r"(bert\.)?embeddings\.position_ids",),
    # The pooler and the next-sentence head say whether one text follows another, which no model of ours does.
    elsewhere=(r"(bert\.)?pooler\.dense\..*", r"(bert\.)?cls\.seq_relationship\..*"),
    base_prefix="bert.",
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
