"""What the families of the modern decoder have in common in Hugging Face's folders: settings and tensors.

A family's file adds what is its own. Rotary pairs that are neighbours here are half a head apart there.
"""

from collections.abc import Mapping
from typing import Any

from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import Field, FieldGroup, OurConstant, Row, Settings, TheirConstant
from glassformer.models.published.tensors import Rename, half_from_interleaved, same


def read_rope(theirs: Settings) -> dict[str, Any]:
    """The rotary settings, where version 4 or where version 5 of `transformers` writes them."""
    rope = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"the rotary settings must be an object, not {rope!r}.")
    kind = rope.get("rope_type", rope.get("type", "default"))
    names = {  # ours: theirs
        "default": {},
        "linear": {"factor": "factor"},
        "llama3": {
            "factor": "factor",
            "low_freq_factor": "low_freq_factor",
            "high_freq_factor": "high_freq_factor",
            "original_context_length": "original_max_position_embeddings",
        },
    }
    if not isinstance(kind, str) or kind not in names:
        raise ConfigError(f'rope_type {kind!r} is not supported; "default", "linear" and "llama3" are.')
    scaling = {"kind": kind, **{ours: rope.get(name) for ours, name in names[kind].items()}}
    return {
        "rope_theta": rope.get("rope_theta", theirs.get("rope_theta", 10_000.0)),
        "rope_scaling": None if kind == "default" else scaling,
    }


def write_rope(ours: Any) -> dict[str, Any]:
    """The rotary settings where version 4 writes them, which version 5 reads too."""
    scaling = ours.rope_scaling
    rope: dict[str, Any] | None = None
    if scaling is not None:
        rope = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context_length,
            }
    return {"rope_theta": ours.rope_theta, "rope_scaling": rope}


def write_heads(ours: Any) -> dict[str, Any]:
    """The number of heads, which must divide d_model there even where d_head says otherwise."""
    if ours.d_model % ours.n_heads:
        raise ExportError(f"needs a d_model that divides into heads, not {ours.d_model} and {ours.n_heads}.")
    return {"num_attention_heads": ours.n_heads}


FIELDS: tuple[Row, ...] = (
    Field("vocab_size", "vocab_size", default=32000),
    Field("max_position_embeddings", "context_length", default=2048),
    Field("hidden_size", "d_model", default=4096),
    Field("num_hidden_layers", "n_layers", default=32),
    FieldGroup(
        theirs=("num_attention_heads",),
        ours=("n_heads",),
        read=lambda theirs: {"n_heads": theirs.get("num_attention_heads", 32)},
        write=write_heads,
    ),
    Field("num_key_value_heads", "n_kv_heads", default=None, null=0),
    Field("head_dim", "d_head", default=None, null=0),
    Field("intermediate_size", "d_ff", default=11008),
    TheirConstant("hidden_act", "silu"),
    Field("rms_norm_eps", "norm_eps", default=1e-6),
    FieldGroup(
        theirs=("rope_theta", "rope_scaling", "rope_parameters"),
        ours=("rope_theta", "rope_scaling"),
        read=read_rope,
        write=write_rope,
    ),
    OurConstant("rope_style", "half", converted=("interleaved",)),
    TheirConstant("attention_bias", False),
    TheirConstant("mlp_bias", False),
    Field("attention_dropout", "dropout", default=0.0),
    Field("tie_word_embeddings", "tied_head", default=False),
)
IGNORED = (r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
INDICES = {"i": "n_layers", "e": "n_experts"}
TIED = {"lm_head.weight": "model.embed_tokens.weight"}
OURS, THEIRS = "blocks.{i}.", "model.layers.{i}."


def trunk(config: Any) -> list[Rename]:
    """The embedding, and the head where it has a tensor of its own."""
    rows = [same("token_embedding.weight", "model.embed_tokens.weight")]
    return rows if config.tied_head else [*rows, same("lm_head.weight", "lm_head.weight")]


def norms() -> list[Rename]:
    """Those before the sublayers, and the last."""
    return [
        same(f"{OURS}attn_norm.weight", f"{THEIRS}input_layernorm.weight"),
        same(f"{OURS}mlp_norm.weight", f"{THEIRS}post_attention_layernorm.weight"),
        same("final_norm.weight", "model.norm.weight"),
    ]


def attention(config: Any, *, turned: bool) -> list[Rename]:
    """Each projection by itself; `turned` says that rotary pairs are to be moved apart."""
    rows = []
    for name in "qkvo":
        a, b = f"{OURS}attn.{name}_proj.weight", f"{THEIRS}self_attn.{name}_proj.weight"
        rows.append(half_from_interleaved(a, b, config.d_head) if turned and name in "qk" else same(a, b))
    return rows


def gated(*names: str) -> list[Rename]:
    """The matrices of the feed-forward network."""
    return [same(f"{OURS}mlp.{name}_proj.weight", f"{THEIRS}mlp.{name}_proj.weight") for name in names]


def decoder_tensors(config: Any) -> list[Rename]:
    """What the configuration has, each by itself. A family that fuses or names it otherwise has rows of its own."""
    interleaved = config.rope_style == "interleaved"
    rows = [*trunk(config), *attention(config, turned=interleaved), *norms()]
    if config.experts is None:
        rows += gated("gate", "up", "down")
    else:
        names = ("router", *(f"experts.{{e}}.{name}_proj" for name in ("gate", "up", "down")))
        rows += [same(f"{OURS}mlp.{name}.weight", f"{THEIRS}mlp.{name}.weight") for name in names]
    if config.qkv_bias:
        biases = {name: (f"{OURS}attn.{name}_proj.bias", f"{THEIRS}self_attn.{name}_proj.bias") for name in "qkv"}
        rows += [
            half_from_interleaved(*pair, config.d_head) if interleaved and name in "qk" else same(*pair)
            for name, pair in biases.items()
        ]
    if config.qk_norm:
        for name in "qk":
            pair = f"{OURS}attn.{name}_norm.weight", f"{THEIRS}self_attn.{name}_norm.weight"
            rows.append(half_from_interleaved(*pair, config.d_head) if interleaved else same(*pair))
    return rows
