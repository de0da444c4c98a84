"""GPT-NeoX and Pythia in Hugging Face's folders, where the projections of each head stand together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.models.gpt_neox import GPTNeoXConfig
from glassformer.models.published import rope
from glassformer.models.published.fields import ACTIVATIONS, Field, FieldGroup, Settings, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same


def read_rope(theirs: Settings) -> dict[str, Any]:
    """The context and the rotary settings, which have names of their own before version 5 of `transformers`."""
    settings = {"rotary_emb_base": 10_000.0, "rotary_pct": 0.25, **theirs}
    settings |= {"rope_theta": settings["rotary_emb_base"], "partial_rotary_factor": settings["rotary_pct"]}
    d_rotary = rope.read_rotary(rope.partial_factor(settings), theirs, d_model=6144, n_heads=64)
    return {**rope.read_rope(settings, 10_000.0, 2048), "d_rotary": d_rotary}


def write_rope(ours: GPTNeoXConfig) -> dict[str, Any]:
    """The same, under the older names."""
    settings = rope.write_rope(ours)
    return {"rotary_emb_base": settings.pop("rope_theta"), "rotary_pct": rope.write_rotary(ours), **settings}


def head_by_head(ours: Sequence[str], theirs: str, n_heads: int) -> Rename:
    """Rows of several of ours in one of theirs: all of the first head, then all of the second."""

    def read(tensor: Tensor) -> Sequence[Tensor]:
        heads = tensor.reshape(n_heads, len(ours), -1, *tensor.shape[1:])
        return [part.flatten(0, 1) for part in heads.unbind(1)]

    def write(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([part.reshape(n_heads, -1, *part.shape[1:]) for part in tensors], 1).flatten(0, 2)

    return Rename(theirs=theirs, ours=tuple(ours), read=read, write=write)


def tensors(config: GPTNeoXConfig) -> list[Rename]:
    """A head of its own has a tensor of its own, and attention may have no biases."""
    ours, theirs = "blocks.{i}.", "gpt_neox.layers.{i}."
    parts = ("weight", "bias") if config.attn_bias else ("weight",)
    rows = [
        same("token_embedding.weight", "gpt_neox.embed_in.weight"),
        *modules({"final_norm": "gpt_neox.final_layer_norm"}),
        *modules(
            {
                f"{ours}attn_norm": f"{theirs}input_layernorm",
                f"{ours}mlp_norm": f"{theirs}post_attention_layernorm",
                f"{ours}mlp.up_proj": f"{theirs}mlp.dense_h_to_4h",
                f"{ours}mlp.down_proj": f"{theirs}mlp.dense_4h_to_h",
            }
        ),
        *modules({f"{ours}attn.o_proj": f"{theirs}attention.dense"}, parts),
    ]
    for part in parts:
        qkv = [f"{ours}attn.{name}_proj.{part}" for name in "qkv"]
        rows.append(head_by_head(qkv, f"{theirs}attention.query_key_value.{part}", config.n_heads))
    return rows if config.tied_head else [*rows, same("lm_head.weight", "embed_out.weight")]


PUBLISHED = Published(
    config=GPTNeoXConfig,
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    fields=(
        WriteOnly("architectures", ["GPTNeoXForCausalLM"]),
        Field("vocab_size", "vocab_size", default=50432),
        Field("hidden_size", "d_model", default=6144),
        Field("num_hidden_layers", "n_layers", default=44),
        Field("num_attention_heads", "n_heads", default=64),
        Field("intermediate_size", "d_ff", default=24576),
        Field("hidden_act", "activation", default="gelu", values={**ACTIVATIONS, "gelu_fast": "gelu_tanh"}),
        Field("layer_norm_eps", "norm_eps", default=1e-5),
        FieldGroup(
            theirs=(
                "max_position_embeddings",
                rope.ORIGINAL,
                "rotary_emb_base",
                "rotary_pct",
                "rope_scaling",
                "rope_parameters",
            ),
            ours=("context_length", "rope_theta", "rope_scaling", "d_rotary"),
            read=read_rope,
            write=write_rope,
        ),
        Field("use_parallel_residual", "parallel", default=True),
        Field("attention_bias", "attn_bias", default=True),
        Field("hidden_dropout", "dropout", default=0.0, aliases=("attention_dropout",)),
        Field("tie_word_embeddings", "tied_head", default=False),
    ),
    tensors=tensors,
    ignored=(
        r"(gpt_neox\.)?layers\.\d+\.attention\.(masked_)?bias",
        r"(gpt_neox\.)?(layers\.\d+\.attention\.)?rotary_emb\.((original_)?inv_freq|(cos|sin)_cached)",
    ),
    base_prefix="gpt_neox.",
    tied={"embed_out.weight": "gpt_neox.embed_in.weight"},
)
