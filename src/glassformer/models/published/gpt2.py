"""GPT-2 in Hugging Face's folders, which keep the names of OpenAI's code, and its (d_in, d_out) matrices."""

from glassformer.models.gpt2 import GPT2Config
from glassformer.models.published.fields import ACTIVATIONS, Field, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, joined, modules, same, transposed

FIELDS = (
    WriteOnly("architectures", ["GPT2LMHeadModel"]),
    Field("vocab_size", "vocab_size", default=50257),
    Field("n_positions", "context_length", default=1024),
    Field("n_embd", "d_model", default=768),
    Field("n_layer", "n_layers", default=12),
    Field("n_head", "n_heads", default=12),
    Field("n_inner", "d_ff", default=None, null=0),
    Field("activation_function", "activation", default="gelu_new", values=ACTIVATIONS),
    Field("layer_norm_epsilon", "norm_eps", default=1e-5),
    Field("resid_pdrop", "dropout", default=0.1, aliases=("embd_pdrop", "attn_pdrop")),  # of three, since ours are one
    Field("tie_word_embeddings", "tied_head", default=True),
    TheirConstant("scale_attn_weights", True),
    Field("scale_attn_by_inverse_layer_idx", "inverse_layer_scale", default=False),
    TheirConstant("add_cross_attention", False),
)


def tensors(config: GPT2Config) -> list[Rename]:
    """A head of its own has a tensor of its own."""
    ours, theirs = "blocks.{i}.", "transformer.h.{i}."
    qkv = [f"{ours}attn.{name}_proj." for name in "qkv"]
    rows = [
        same("token_embedding.weight", "transformer.wte.weight"),
        same("position_embedding.weight", "transformer.wpe.weight"),
        transposed([f"{name}weight" for name in qkv], f"{theirs}attn.c_attn.weight"),
        joined([f"{name}bias" for name in qkv], f"{theirs}attn.c_attn.bias"),
        transposed([f"{ours}attn.o_proj.weight"], f"{theirs}attn.c_proj.weight"),
        same(f"{ours}attn.o_proj.bias", f"{theirs}attn.c_proj.bias"),
        transposed([f"{ours}mlp.up_proj.weight"], f"{theirs}mlp.c_fc.weight"),
        same(f"{ours}mlp.up_proj.bias", f"{theirs}mlp.c_fc.bias"),
        transposed([f"{ours}mlp.down_proj.weight"], f"{theirs}mlp.c_proj.weight"),
        same(f"{ours}mlp.down_proj.bias", f"{theirs}mlp.c_proj.bias"),
        *modules({f"{ours}attn_norm": f"{theirs}ln_1", f"{ours}mlp_norm": f"{theirs}ln_2"}),
        *modules({"final_norm": "transformer.ln_f"}),
    ]
    return rows if config.tied_head else [*rows, same("lm_head.weight", "lm_head.weight")]


PUBLISHED = Published(
    config=GPT2Config,
    name="GPT-2",
    model_types=("gpt2",),
    fields=FIELDS,
    tensors=tensors,
    ignored=(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",),
    base_prefix="transformer.",
    tied={"lm_head.weight": "transformer.wte.weight"},
    general={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
)
