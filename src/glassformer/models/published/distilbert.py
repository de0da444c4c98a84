"""DistilBERT in Hugging Face's folders, which have names of their own throughout."""

from glassformer.models.distilbert import DistilBertConfig
from glassformer.models.published.fields import ACTIVATIONS, ArchitectureClass, Field, OurConstant, TheirConstant
from glassformer.models.published.labels import LABELS_OF_TEXTS, PROBLEM_TYPE
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same

FIELDS = (
    ArchitectureClass(
        "head",
        {
            "DistilBertForMaskedLM": ("distilbert", "masked-token"),
            "DistilBertModel": ("distilbert", "none"),
            "DistilBertForSequenceClassification": ("distilbert", "classes"),
        },
    ),
    Field("vocab_size", "vocab_size", default=30522),
    Field("max_position_embeddings", "context_length", default=512),
    OurConstant("n_token_types", 0),
    Field("dim", "d_model", default=768),
    Field("n_layers", "n_layers", default=6),
    Field("n_heads", "n_heads", default=12),
    Field("hidden_dim", "d_ff", default=3072),
    Field("activation", "activation", default="gelu", values=ACTIVATIONS),
    OurConstant("norm_eps", 1e-12),
    # Of two, since ours are one: that of the sublayers.
    Field("dropout", "dropout", default=0.1, aliases=("attention_dropout",)),
    LABELS_OF_TEXTS,
    PROBLEM_TYPE,
    TheirConstant("tie_word_embeddings", True),
)


def tensors(config: DistilBertConfig) -> list[Rename]:
    """The head has tensors of its own, where there is one."""
    ours, theirs = "encoder.blocks.{i}.", "distilbert.transformer.layer.{i}."
    rows = [
        same("encoder.token_embedding.weight", "distilbert.embeddings.word_embeddings.weight"),
        same("encoder.position_embedding.weight", "distilbert.embeddings.position_embeddings.weight"),
        *modules(
            {
                "encoder.embedding_norm": "distilbert.embeddings.LayerNorm",
                f"{ours}attn.q_proj": f"{theirs}attention.q_lin",
                f"{ours}attn.k_proj": f"{theirs}attention.k_lin",
                f"{ours}attn.v_proj": f"{theirs}attention.v_lin",
                f"{ours}attn.o_proj": f"{theirs}attention.out_lin",
                f"{ours}attn_norm": f"{theirs}sa_layer_norm",
                f"{ours}mlp.up_proj": f"{theirs}ffn.lin1",
                f"{ours}mlp.down_proj": f"{theirs}ffn.lin2",
                f"{ours}mlp_norm": f"{theirs}output_layer_norm",
            }
        ),
    ]
    if config.head == "masked-token":
        rows += [
            same("head.lm_head.bias", "vocab_projector.bias"),
            *modules({"head.proj": "vocab_transform", "head.norm": "vocab_layer_norm"}),
        ]
    elif config.head == "classes":
        rows += modules({"head.proj": "pre_classifier", "head.out_proj": "classifier"})
    return rows


PUBLISHED = Published(
    config=DistilBertConfig,
    name="DistilBERT",
    model_types=("distilbert",),
    fields=FIELDS,
    tensors=tensors,
    ignored=(r"(distilbert\.)?embeddings\.position_ids",),
    base_prefix="distilbert.",
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    general={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
)
