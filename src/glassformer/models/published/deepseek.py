"""What both versions of DeepSeek have in common in Hugging Face's folders: settings and tensors."""

from collections.abc import Sequence
from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.deepseek import DeepSeekConfig
from glassformer.models.published.decoder import OURS, THEIRS, norms, trunk, write_heads
from glassformer.models.published.fields import Field, FieldGroup, Row, Settings, TheirConstant
from glassformer.models.published.rope import rope_of_all, rope_parameters
from glassformer.models.published.tensors import Rename, by_head, joined, same

SHARPENS = "mscale_all_dim"
LATENT = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}


def deepseek_fields(*own: Row, **changed: Any) -> Sequence[Row]:
    """The settings of both, with the defaults of one, and those that it has of its own."""
    default = LATENT | changed
    sizes = {
        "vocab_size": "vocab_size",
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "qk_nope_head_dim": "d_plain",
        "qk_rope_head_dim": "d_rotary",
        "v_head_dim": "d_value",
        "kv_lora_rank": "kv_rank",
        "intermediate_size": "d_ff",
        "moe_intermediate_size": "d_expert",
        "first_k_dense_replace": "n_dense_layers",
    }
    return (
        *(Field(theirs, ours, default=default[theirs]) for theirs, ours in sizes.items()),
        FieldGroup(
            theirs=("num_attention_heads", "num_key_value_heads"),
            ours=("n_heads",),
            read=lambda theirs: read_heads(theirs, default["num_attention_heads"]),
            write=lambda ours: write_heads(ours) | {"num_key_value_heads": ours.n_heads},
        ),
        Field("q_lora_rank", "q_rank", default=1536, null=0, to_theirs=lambda rank: rank or None),
        Field("rms_norm_eps", "norm_eps", default=1e-6),
        Field("attention_dropout", "dropout", default=0.0),
        Field("tie_word_embeddings", "tied_head", default=False),
        TheirConstant("hidden_act", "silu"),
        TheirConstant("attention_bias", False),
        TheirConstant("moe_layer_freq", 1),
        sharpened_rope(default["max_position_embeddings"]),
        *own,
    )


def read_heads(theirs: Settings, default: int) -> dict[str, Any]:
    """As many keys and values as queries: all heads read one latent."""
    n_heads = theirs.get("num_attention_heads", default)
    n_kv_heads = theirs.get("num_key_value_heads") or n_heads
    if n_kv_heads != n_heads:
        raise ConfigError(f"num_key_value_heads must be num_attention_heads, {n_heads!r}, not {n_kv_heads!r}.")
    return {"n_heads": n_heads}


def sharpened_rope(length: int) -> FieldGroup:
    """The rotary settings, one of which sharpens scores too, where frequencies are scaled; `length` is a default."""
    plain = rope_of_all(10_000.0, length)

    def read(theirs: Settings) -> dict[str, Any]:
        ours = plain.read(theirs)
        mscale = rope_parameters(theirs).get(SHARPENS) or 0.0
        return {**ours, "mscale": mscale if ours["rope_scaling"] is not None else 0.0}

    def write(ours: DeepSeekConfig) -> dict[str, Any]:
        theirs = dict(plain.write(ours))
        if ours.rope_scaling is not None and ours.mscale:
            theirs["rope_scaling"] = {**theirs["rope_scaling"], SHARPENS: ours.mscale}
        return theirs

    return FieldGroup(theirs=plain.theirs, ours=(*plain.ours, "mscale"), read=read, write=write)


def tensors(config: DeepSeekConfig) -> list[Rename]:
    """Projections of the same input are one matrix there, one below the other or head by head."""
    attn, theirs = f"{OURS}attn.", f"{THEIRS}self_attn."
    rows = [
        joined(
            [f"{attn}{name}.weight" for name in ("kv_down_proj", "k_rotary_proj")],
            f"{theirs}kv_a_proj_with_mqa.weight",
            rows=(config.kv_rank, config.d_rotary),
        ),
        same(f"{attn}kv_norm.weight", f"{theirs}kv_a_layernorm.weight"),
        by_head(
            [f"{attn}{name}.weight" for name in ("k_up_proj", "v_up_proj")],
            f"{theirs}kv_b_proj.weight",
            (config.d_plain, config.d_value),
        ),
        same(f"{attn}o_proj.weight", f"{theirs}o_proj.weight"),
        *norms(),
    ]
    queries = {"q_down_proj": "q_a_proj", "q_norm": "q_a_layernorm", "q_up_proj": "q_b_proj"}
    for name, their_name in queries.items() if config.q_rank else [("q_proj", "q_proj")]:
        rows.append(same(f"{attn}{name}.weight", f"{theirs}{their_name}.weight"))
    return [*trunk(config), *rows, *(row for layer in range(config.n_layers) for row in networks(config, layer))]


def networks(config: DeepSeekConfig, layer: int) -> list[Rename]:
    """A block's one network, or its router, its experts and those that all tokens go through."""
    ours, theirs = f"blocks.{layer}.mlp.", f"model.layers.{layer}.mlp."
    parts = [f"{name}_proj.weight" for name in ("gate", "up", "down")]
    if layer < config.n_dense_layers:
        return [same(f"{ours}{part}", f"{theirs}{part}") for part in parts]
    rows = [same(f"{ours}router.weight", f"{theirs}gate.weight")]
    if config.experts.scores == "sigmoid":
        rows.append(same(f"{ours}balance", f"{theirs}gate.e_score_correction_bias"))
    for part in parts:
        rows.append(same(f"{ours}experts.{{e}}.{part}", f"{theirs}experts.{{e}}.{part}"))
        rows.append(same(f"{ours}shared.{part}", f"{theirs}shared_experts.{part}"))
    return rows
