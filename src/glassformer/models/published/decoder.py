"""What the families of the modern decoder have in common in Hugging Face's folders: settings and tensors.

A family's file adds what is its own. Rotary pairs that are neighbours here are half a head apart there.
"""

from collections.abc import Sequence
from typing import Any

from glassformer.config import defaults_of
from glassformer.errors import ExportError
from glassformer.models.decoder import DecoderConfig
from glassformer.models.published.fields import Field, FieldGroup, OurConstant, Row, Settings, TheirConstant
from glassformer.models.published.rope import rope_of_all
from glassformer.models.published.tensors import Rename, half_from_interleaved, same


def write_heads(ours: Any) -> dict[str, Any]:
    """The number of heads, which must divide d_model there even where d_head says otherwise."""
    if ours.d_model % ours.n_heads:
        raise ExportError(f"needs a d_model that divides into heads, not {ours.d_model} and {ours.n_heads}.")
    return {"num_attention_heads": ours.n_heads}


DEFAULTS: dict[str, Any] = {  # Llama's, which `transformers` takes where config.json leaves a setting out
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "intermediate_size": 11008,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
QWEN: dict[str, Any] = {
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 32,
    "intermediate_size": 22016,
}


def fields(*, d_ff: str = "intermediate_size", **changed: Any) -> tuple[Row, ...]:
    """The settings that all families have, with some defaults changed; `d_ff` is the one that ours stands in."""
    default = DEFAULTS | changed
    return (
        Field("vocab_size", "vocab_size", default=default["vocab_size"]),
        Field("hidden_size", "d_model", default=default["hidden_size"]),
        Field("num_hidden_layers", "n_layers", default=default["num_hidden_layers"]),
        FieldGroup(
            theirs=("num_attention_heads",),
            ours=("n_heads",),
            read=lambda theirs: {"n_heads": theirs.get("num_attention_heads", default["num_attention_heads"])},
            write=write_heads,
        ),
        Field("num_key_value_heads", "n_kv_heads", default=default["num_key_value_heads"], null=0),
        Field("head_dim", "d_head", default=default["head_dim"], null=0),
        Field(d_ff, "d_ff", default=default[d_ff]),
        TheirConstant("hidden_act", "silu"),
        Field("rms_norm_eps", "norm_eps", default=default["rms_norm_eps"]),
        rope_of_all(default["rope_theta"], default["max_position_embeddings"]),
        OurConstant("d_rotary", 0),
        OurConstant("rope_style", "half", converted=("interleaved",)),
        Field("attention_dropout", "dropout", default=0.0),
        Field("tie_word_embeddings", "tied_head", default=default["tie_word_embeddings"]),
    )


def without(*names: str) -> tuple[Row, ...]:
    """What no model of a family has: each choice of these names as it is where nobody asks for it."""
    plain = defaults_of(DecoderConfig)
    return tuple(OurConstant(name, plain[name]) for name in names)


def read_attention_bias(theirs: Settings) -> dict[str, Any]:
    """On all four projections, or on none."""
    bias = theirs.get("attention_bias", False)
    return {"qkv_bias": bias, "o_bias": bias}


def write_attention_bias(ours: DecoderConfig) -> dict[str, Any]:
    """The same."""
    if ours.qkv_bias != ours.o_bias:
        raise ExportError(f"cannot express qkv_bias = {ours.qkv_bias} with o_bias = {ours.o_bias}; they are the same.")
    return {"attention_bias": ours.o_bias}


ATTENTION_BIAS = FieldGroup(
    theirs=("attention_bias",),
    ours=("qkv_bias", "o_bias"),
    read=read_attention_bias,
    write=write_attention_bias,
)
MLP_BIAS = Field("mlp_bias", "mlp_bias", default=False)
IGNORED = (r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.((original_)?inv_freq|(cos|sin)_cached)",)
TIED = {"lm_head.weight": "model.embed_tokens.weight"}
LIKE_LLAMA: dict[str, Any] = {  # what a family's table says beside its settings and its rows of tensors
    "indices": {"i": "n_layers", "e": "n_experts"},
    "ignored": IGNORED,
    "base_prefix": "model.",
    "tied": TIED,
}
OURS, THEIRS = "blocks.{i}.", "model.layers.{i}."


def trunk(config: Any) -> list[Rename]:
    """The embedding, and the head where it has a tensor of its own."""
    rows = [same("token_embedding.weight", "model.embed_tokens.weight")]
    return rows if config.tied_head else [*rows, same("lm_head.weight", "lm_head.weight")]


def norms(attn: str = "input_layernorm", mlp: str = "post_attention_layernorm") -> list[Rename]:
    """Those of attention and of the feed-forward network, and the last."""
    return [
        same(f"{OURS}attn_norm.weight", f"{THEIRS}{attn}.weight"),
        same(f"{OURS}mlp_norm.weight", f"{THEIRS}{mlp}.weight"),
        same("final_norm.weight", "model.norm.weight"),
    ]


def attention(config: Any, *, turned: bool) -> list[Rename]:
    """Each projection by itself; `turned` says that rotary pairs are to be moved apart."""
    rows = []
    for name in "qkvo":
        a, b = f"{OURS}attn.{name}_proj.weight", f"{THEIRS}self_attn.{name}_proj.weight"
        rows.append(half_from_interleaved(a, b, config.d_head) if turned and name in "qk" else same(a, b))
    return rows


GATED = ("gate", "up", "down")


def gated(*names: str, inside: str = "", layer: int | str = "{i}") -> list[Rename]:
    """The matrices of the feed-forward network, or of a part `inside` it; of one layer where it is named."""
    ours, theirs = f"blocks.{layer}.mlp.{inside}", f"model.layers.{layer}.mlp.{inside}"
    return [same(f"{ours}{name}_proj.weight", f"{theirs}{name}_proj.weight") for name in names]


def biases(config: Any) -> list[Rename]:
    """Those that it has, with rotary pairs of queries and keys moved apart as in their matrices."""
    rows = []
    for name in "qkv" * config.qkv_bias + "o" * config.o_bias:
        pair = f"{OURS}attn.{name}_proj.bias", f"{THEIRS}self_attn.{name}_proj.bias"
        turned = config.rope_style == "interleaved" and name in "qk"
        rows.append(half_from_interleaved(*pair, config.d_head) if turned else same(*pair))
    names = GATED if config.mlp_bias else ()
    return rows + [same(f"{OURS}mlp.{name}_proj.bias", f"{THEIRS}mlp.{name}_proj.bias") for name in names]


def decoder_tensors(config: Any, norm_rows: Sequence[Rename] = tuple(norms())) -> list[Rename]:
    """What the configuration has, each by itself. A family that fuses or names it otherwise has rows of its own."""
    interleaved = config.rope_style == "interleaved"
    rows = [*trunk(config), *attention(config, turned=interleaved), *norm_rows]
    if config.experts is None:
        rows += gated(*GATED)
    else:
        rows += [same(f"{OURS}mlp.router.weight", f"{THEIRS}mlp.router.weight"), *gated(*GATED, inside="experts.{e}.")]
    rows += biases(config)
    if config.qk_norm:
        for name in "qk":
            pair = f"{OURS}attn.{name}_norm.weight", f"{THEIRS}self_attn.{name}_norm.weight"
            rows.append(half_from_interleaved(*pair, config.d_head) if interleaved else same(*pair))
    return rows
