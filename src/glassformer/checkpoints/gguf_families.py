"""Architectures as GGUF has them: for each its settings and its tensors, by their names in Hugging Face's folders.

A family that `models/published/` has a table for is one row of `FAMILIES`; what the settings and tensors then mean is
said in that table alone. llama.cpp's converter changes four things on the way: Llama's queries and keys are reordered
so that rotary pairs are neighbours, GPT-NeoX's queries, keys and values of each head are moved apart, GPT-2's matrices
are transposed, and Gemma's norms are scales, not offsets from 1.
"""

import math
import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import CheckpointCorrupt, ConfigError, ExportError
from glassformer.models.published.rope import ORIGINAL, context_factor, fraction_of
from glassformer.nn.rope import RoPE, RopeScaling

ROPE_FREQUENCIES = "rope_freqs.weight"  # by what each frequency is divided, as Llama 3.1 has it
LONGROPE = {"short_factor": "rope_factors_short.weight", "long_factor": "rope_factors_long.weight"}  # as Phi-3 has it
WINDOW = "attention.sliding_window"  # 0 for none
ROPE_TENSORS = (ROPE_FREQUENCIES, *LONGROPE.values())
LAYER = re.compile(r"(|enc\.|dec\.)blk\.(0|[1-9]\d{0,5})\.")
OF_ONE_EXPERT = re.compile(r"(blk\.\{i\}\.ffn_(?:gate|up|down))\.(0|[1-9]\d{0,5})")  # in files of before April 2024
ORIGINAL_CONTEXT = 8192  # of Llama 3.1, and where a file with divisors says nothing else
SCALINGS = {  # by their type: settings of GGUF after "rope.scaling.", and of config.json
    "linear": {"factor": "factor"},
    "yarn": {
        "factor": "factor",
        "original_context_length": ORIGINAL,
        "yarn_beta_fast": "beta_fast",
        "yarn_beta_slow": "beta_slow",
    },
}
QKV = 3  # queries, keys and values
UNUSED = ("tensor_data_layout", "rope.scaling.finetuned", "pooling_type")  # that change nothing here: a caller pools
TOKEN_TYPES = "tokenizer.ggml.token_type_count"  # a size of the model, whose name is the same in all architectures
NEUTRAL = {f"rope.scaling.{name}": 1 for name in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor")}


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFFamily:
    """An architecture: `model_type` is Hugging Face's.

    `settings` are those of GGUF without the architecture in front, and of config.json; a file must have them, unless
    they are `optional`. `modules` are GGUF's and those of the folder, with `{i}` for a layer; of `transposed` the
    weights are (d_in, d_out) in a folder, and rows of `turned`, heads of what setting, have rotary pairs side by side.
    In `by_head` queries, keys and values are one matrix, in a folder head by head. With `norms_from_one` a norm's
    weight is 1 more than in a folder; with `head_too` a head that is the embedding is stored again. `unsaid` is what
    follows from the other settings; `fixed` is said of all models,
    and a setting of `alike` is said to be what another one is.
    `{e}` is an expert: those of a layer are one tensor in GGUF, in older files one each. `architecture` is GGUF's
    where another has it, too.
    """

    model_type: str
    architecture: str = ""
    settings: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str]
    transposed: frozenset[str] = frozenset()
    turned: Mapping[str, str] = field(default_factory=dict)
    by_head: Mapping[str, str] = field(default_factory=dict)
    norms_from_one: bool = False
    head_too: bool = False
    unsaid: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda config: {}
    fixed: Mapping[str, Any] = field(default_factory=dict)
    alike: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_rotary(self) -> bool:
        """Whether positions turn queries and keys."""
        return "rope.freq_base" in (*self.settings, *self.optional)

    def folder_name(self, name: str) -> str:
        """A tensor's name in a folder; with `{e}` for an expert where it is that of all."""
        module, _, part = name.rpartition(".")
        layer = LAYER.match(module)
        pattern = module if layer is None else LAYER.sub(r"\1blk.{i}.", module)
        if (expert := OF_ONE_EXPERT.fullmatch(pattern)) is not None:
            pattern = f"{expert[1]}_exps"
        if part not in ("weight", "bias") or pattern not in self.modules:
            raise CheckpointCorrupt(f"its tensor {name} has no place in a {self.model_type} that is read here.")
        return f"{self.modules[pattern]}.{part}".format(i=layer and int(layer[2]), e=expert[2] if expert else "{e}")

    def gguf_name(self, folder_name: str) -> str:
        """The name in GGUF of a folder's tensor."""
        module, _, part = folder_name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", module)
        pattern = module if layer is None else f"{module[: layer.start()]}.{{i}}.{module[layer.end() :]}"
        pattern = re.sub(r"\.experts\.\d+\.", ".experts.{e}.", pattern)
        names = {theirs: ours for ours, theirs in self.modules.items()}
        if pattern not in names:
            raise ExportError(f"GGUF has no tensor for {folder_name} of a {self.model_type}.")
        return f"{names[pattern]}.{part}".format(i=layer and layer[1])

    def change_back(self, name: str, config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
        """What makes the tensor of this name in GGUF of a folder's."""
        module = LAYER.sub(r"\1blk.{i}.", name.rpartition(".")[0])
        if module in self.turned:
            n_heads = config[self.turned[module]]
            return lambda tensor: neighbours_from_half(tensor, n_heads)
        if module in self.by_head:
            n_heads = config[self.by_head[module]]
            return lambda tensor: _transposed(tensor, n_heads, QKV)
        if self.norms_from_one and module.endswith("norm"):
            return lambda tensor: tensor.float() + 1
        return self.change(name, config)

    def change(self, name: str, config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
        """What makes a folder's tensor of that of this name in GGUF."""
        module = LAYER.sub(r"\1blk.{i}.", name.rpartition(".")[0])
        if module in self.transposed and name.endswith(".weight"):
            return lambda tensor: tensor.mT
        if module in self.turned:
            n_heads = config[self.turned[module]]
            return lambda tensor: half_from_neighbours(tensor, n_heads)
        if module in self.by_head:
            n_heads = config[self.by_head[module]]
            return lambda tensor: _transposed(tensor, QKV, n_heads)
        if self.norms_from_one and module.endswith("norm"):
            return lambda tensor: tensor.float() - 1
        return lambda tensor: tensor


def half_from_neighbours(tensor: Tensor, n_heads: int) -> Tensor:
    """Rows of a projection whose rotary pairs are neighbours, with these half a head apart."""
    if n_heads < 1 or tensor.shape[0] % (2 * n_heads):
        raise CheckpointCorrupt(f"{tensor.shape[0]} rows do not divide into pairs of {n_heads} heads.")
    return tensor.reshape(n_heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


def neighbours_from_half(tensor: Tensor, n_heads: int) -> Tensor:
    """The other way round."""
    return tensor.reshape(n_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


def _transposed(tensor: Tensor, a: int, b: int) -> Tensor:
    """Rows that are `a` groups of `b` runs as `b` groups of `a` runs."""
    if a < 1 or b < 1 or tensor.shape[0] % (a * b):
        raise CheckpointCorrupt(f"{tensor.shape[0]} rows do not divide into {a} times {b} parts.")
    return tensor.reshape(a, b, -1, *tensor.shape[1:]).transpose(0, 1).flatten(0, 2)


def experts(mlp: str, **names: str) -> dict[str, str]:
    """The router of each layer, and its experts' matrices by their names in a folder."""
    theirs = f"model.layers.{{i}}.{mlp}"
    matrices = {f"blk.{{i}}.ffn_{ours}_exps": f"{theirs}.experts.{{e}}.{name}" for ours, name in names.items()}
    return {"blk.{i}.ffn_gate_inp": f"{theirs}.gate", **matrices}


SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
}
DECODER = {
    **SIZES,
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
OF_DECODER = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
DECODER_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
}
WITHOUT_MLP = {ours: theirs for ours, theirs in DECODER_MODULES.items() if ".mlp." not in theirs}
HEAD_NORMS = {
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
}
OF_GRANITE = {
    "embedding_scale": "embedding_multiplier",
    "attention.scale": "attention_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
NORMS_AFTER = {
    "blk.{i}.post_attention_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.post_ffw_norm": "model.layers.{i}.post_feedforward_layernorm",
}
NORMS_AROUND = {
    **{ours: theirs for ours, theirs in DECODER_MODULES.items() if ours not in ("output", "blk.{i}.ffn_norm")},
    "blk.{i}.ffn_norm": "model.layers.{i}.pre_feedforward_layernorm",
    **NORMS_AFTER,
}
ROTARY_NEIGHBOURS = {"blk.{i}.attn_q": "num_attention_heads", "blk.{i}.attn_k": "num_key_value_heads"}


def _query_scalar(config: Mapping[str, Any], largest: int) -> dict[str, Any]:
    """What Gemma's scores are divided by the root of: a head's width, or in a model of so many layers its own part."""
    by_part = config["num_hidden_layers"] == largest
    part = config["hidden_size"] // config["num_attention_heads"]
    return {"query_pre_attn_scalar": part if by_part else config["head_dim"]}


def _of_gemma2(config: Mapping[str, Any]) -> dict[str, Any]:
    """As llama.cpp's own code has it, where 27B is the one of 46 layers."""
    return _query_scalar(config, 46)


def _of_gemma3(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same, where 27B is the one of 62 layers; without a window all layers see everything."""
    return {"sliding_window": config.get("sliding_window"), **_query_scalar(config, 62)}


def _of_t5(half: str, n_attentions: int) -> dict[str, str]:
    """The modules of the encoder's layers or of the decoder's, where each sublayer has its number in a folder."""
    ours, theirs = f"{half[:3]}.blk.{{i}}.", f"{half}.block.{{i}}.layer."
    mlp = f"{theirs}{n_attentions}."
    modules = {
        f"{half[:3]}.output_norm": f"{half}.final_layer_norm",
        f"{ours}attn_norm": f"{theirs}0.layer_norm",
        f"{ours}attn_rel_b": f"{theirs}0.SelfAttention.relative_attention_bias",
        f"{ours}ffn_norm": f"{mlp}layer_norm",
        f"{ours}ffn_gate": f"{mlp}DenseReluDense.wi_0",
        f"{ours}ffn_up": f"{mlp}DenseReluDense.wi_1",
        f"{ours}ffn_down": f"{mlp}DenseReluDense.wo",
        **{f"{ours}attn_{name}": f"{theirs}0.SelfAttention.{name}" for name in "qkvo"},
    }
    if n_attentions > 1:
        modules[f"{ours}cross_attn_norm"] = f"{theirs}1.layer_norm"
        modules |= {f"{ours}cross_attn_{name}": f"{theirs}1.EncDecAttention.{name}" for name in "qkvo"}
    return modules


def _of_gptneox(config: Mapping[str, Any]) -> dict[str, Any]:
    """What no setting says: all published models have biases, and GELU is approximated in that of 44 layers alone."""
    return {
        "hidden_act": "gelu_fast" if config["num_hidden_layers"] == 44 else "gelu",
        "rotary_pct": config.get("partial_rotary_factor", 1.0),
        "attention_bias": True,
    }


FAMILIES = {  # by general.architecture; Mistral's and Mixtral's is that of Llama
    "llama": GGUFFamily(
        model_type="llama",
        settings=DECODER,
        optional=OF_DECODER,
        modules=DECODER_MODULES,
        turned=ROTARY_NEIGHBOURS,
    ),
    "mistral": GGUFFamily(  # without its window, which this architecture has no setting for; read as a Llama
        model_type="mistral",
        architecture="llama",
        settings=DECODER,
        optional=OF_DECODER,
        modules=DECODER_MODULES,
        turned=ROTARY_NEIGHBOURS,
    ),
    "qwen2": GGUFFamily(model_type="qwen2", settings=DECODER, optional=OF_DECODER, modules=DECODER_MODULES),
    "qwen3": GGUFFamily(
        model_type="qwen3", settings=DECODER, optional=OF_DECODER, modules={**DECODER_MODULES, **HEAD_NORMS}
    ),
    "olmo2": GGUFFamily(
        model_type="olmo2",
        settings=DECODER,
        optional=OF_DECODER,
        modules={
            **{ours: theirs for ours, theirs in DECODER_MODULES.items() if not theirs.endswith("layernorm")},
            **HEAD_NORMS,
            **NORMS_AFTER,
        },
    ),
    "smollm3": GGUFFamily(  # of which every fourth layer is without rotation; no setting says so
        model_type="smollm3",
        settings=DECODER,
        optional=OF_DECODER,
        modules=DECODER_MODULES,
        turned=ROTARY_NEIGHBOURS,
    ),
    "granite": GGUFFamily(
        model_type="granite",
        settings={**DECODER, **OF_GRANITE},
        optional=OF_DECODER,
        modules=DECODER_MODULES,
        turned=ROTARY_NEIGHBOURS,
    ),
    "phi3": GGUFFamily(
        model_type="phi3",
        settings=DECODER,
        optional={
            **OF_DECODER,
            WINDOW: "sliding_window",
        },
        modules={
            **{name: DECODER_MODULES[name] for name in ("token_embd", "output_norm", "output", "blk.{i}.attn_norm")},
            **{name: DECODER_MODULES[name] for name in ("blk.{i}.attn_output", "blk.{i}.ffn_norm", "blk.{i}.ffn_down")},
            "blk.{i}.attn_qkv": "model.layers.{i}.self_attn.qkv_proj",
            "blk.{i}.ffn_up": "model.layers.{i}.mlp.gate_up_proj",
        },
    ),
    "gemma2": GGUFFamily(
        model_type="gemma2",
        settings=DECODER,
        optional={
            **OF_DECODER,
            WINDOW: "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        modules=NORMS_AROUND,
        norms_from_one=True,
        unsaid=_of_gemma2,
    ),
    "gemma3": GGUFFamily(
        model_type="gemma3_text",
        settings={**DECODER, "rope.freq_base": "rope_theta"},
        optional={
            **OF_DECODER,
            "rope.freq_base_swa": "rope_local_base_freq",
            WINDOW: "sliding_window",
            "attention.sliding_window_pattern": "sliding_window_pattern",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        modules={**NORMS_AROUND, **HEAD_NORMS, "output": "lm_head"},
        norms_from_one=True,
        unsaid=_of_gemma3,
    ),
    "qwen3moe": GGUFFamily(
        model_type="qwen3_moe",
        settings={
            **{ours: theirs for ours, theirs in DECODER.items() if ours != "feed_forward_length"},
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_count": "num_experts",
            "expert_used_count": "num_experts_per_tok",
        },
        optional={**OF_DECODER, "feed_forward_length": "intermediate_size"},  # of layers without experts
        modules={**WITHOUT_MLP, **HEAD_NORMS, **experts("mlp", gate="gate_proj", up="up_proj", down="down_proj")},
        unsaid=lambda config: {"norm_topk_prob": True},
    ),
    "mixtral": GGUFFamily(
        model_type="mixtral",
        architecture="llama",
        settings={
            **DECODER,
            "rope.freq_base": "rope_theta",
            "expert_count": "num_local_experts",
            "expert_used_count": "num_experts_per_tok",
        },
        optional=OF_DECODER,
        modules={**WITHOUT_MLP, **experts("block_sparse_moe", gate="w1", up="w3", down="w2")},
        turned=ROTARY_NEIGHBOURS,
    ),
    "gptneox": GGUFFamily(
        model_type="gpt_neox",
        settings={
            **SIZES,
            "feed_forward_length": "intermediate_size",
            "attention.head_count": "num_attention_heads",
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "use_parallel_residual": "use_parallel_residual",
        },
        optional={"rope.freq_base": "rotary_emb_base"},
        modules={
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "embed_out",
            "blk.{i}.attn_norm": "gpt_neox.layers.{i}.input_layernorm",
            "blk.{i}.attn_qkv": "gpt_neox.layers.{i}.attention.query_key_value",
            "blk.{i}.attn_output": "gpt_neox.layers.{i}.attention.dense",
            "blk.{i}.ffn_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
            "blk.{i}.ffn_up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
            "blk.{i}.ffn_down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
        },
        by_head={"blk.{i}.attn_qkv": "num_attention_heads"},
        head_too=True,
        unsaid=_of_gptneox,
    ),
    "bert": GGUFFamily(
        model_type="bert",
        settings={
            **SIZES,
            "feed_forward_length": "intermediate_size",
            "attention.head_count": "num_attention_heads",
            "attention.layer_norm_epsilon": "layer_norm_eps",
            TOKEN_TYPES: "type_vocab_size",
        },
        modules={
            "token_embd": "bert.embeddings.word_embeddings",
            "position_embd": "bert.embeddings.position_embeddings",
            "token_types": "bert.embeddings.token_type_embeddings",
            "token_embd_norm": "bert.embeddings.LayerNorm",
            "blk.{i}.attn_q": "bert.encoder.layer.{i}.attention.self.query",
            "blk.{i}.attn_k": "bert.encoder.layer.{i}.attention.self.key",
            "blk.{i}.attn_v": "bert.encoder.layer.{i}.attention.self.value",
            "blk.{i}.attn_output": "bert.encoder.layer.{i}.attention.output.dense",
            "blk.{i}.attn_output_norm": "bert.encoder.layer.{i}.attention.output.LayerNorm",
            "blk.{i}.ffn_up": "bert.encoder.layer.{i}.intermediate.dense",
            "blk.{i}.ffn_down": "bert.encoder.layer.{i}.output.dense",
            "blk.{i}.layer_output_norm": "bert.encoder.layer.{i}.output.LayerNorm",
        },
        unsaid=lambda config: {"architectures": ["BertModel"], "hidden_act": "gelu"},
        fixed={"attention.causal": False},
    ),
    "t5": GGUFFamily(  # of version 1.1, whose feed-forward networks are gated
        model_type="t5",
        settings={
            "context_length": "n_positions",
            "embedding_length": "d_model",
            "block_count": "num_layers",
            "feed_forward_length": "d_ff",
            "attention.head_count": "num_heads",
            "attention.key_length": "d_kv",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
            "attention.relative_buckets_count": "relative_attention_num_buckets",
            "decoder_start_token_id": "decoder_start_token_id",
        },
        optional={
            "decoder_block_count": "num_decoder_layers",
            "tokenizer.ggml.eos_token_id": "eos_token_id",
            "tokenizer.ggml.padding_token_id": "pad_token_id",
        },
        modules={
            "token_embd": "shared",
            "output": "lm_head",
            **_of_t5("encoder", 1),
            **_of_t5("decoder", 2),
        },
        unsaid=lambda config: {"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 128},
        alike={
            "attention.value_length": "attention.key_length",
            "attention.layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
        },
    ),
    "gpt2": GGUFFamily(
        model_type="gpt2",
        settings={
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        modules={
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
            "blk.{i}.attn_norm": "transformer.h.{i}.ln_1",
            "blk.{i}.attn_qkv": "transformer.h.{i}.attn.c_attn",
            "blk.{i}.attn_output": "transformer.h.{i}.attn.c_proj",
            "blk.{i}.ffn_norm": "transformer.h.{i}.ln_2",
            "blk.{i}.ffn_up": "transformer.h.{i}.mlp.c_fc",
            "blk.{i}.ffn_down": "transformer.h.{i}.mlp.c_proj",
        },
        transposed=frozenset({"blk.{i}.attn_qkv", "blk.{i}.attn_output", "blk.{i}.ffn_up", "blk.{i}.ffn_down"}),
    ),
}


def key_of(name: str, key: str) -> str:
    """A setting's name in the metadata of this architecture."""
    return key if key.startswith("tokenizer.") else f"{name}.{key}"


def family_of(metadata: Mapping[str, Any]) -> tuple[str, GGUFFamily]:
    """The architecture that the metadata name."""
    name = metadata.get("general.architecture")
    if name == "llama" and metadata.get("llama.expert_count"):
        return name, FAMILIES["mixtral"]
    if not isinstance(name, str) or name not in FAMILIES or FAMILIES[name].architecture:
        raise ConfigError(
            f"its architecture is {str(name)[:80]!r}; of GGUF files, {', '.join(FAMILIES)} are read here."
        )
    return name, FAMILIES[name]


def settings_of(
    metadata: Mapping[str, Any], *, tied: bool, vocab_size: int, rope_tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The config.json of a folder with the same model; a setting that is not followed is an error, unless it is off.

    `rope_tensors` are those with divisors of rotary frequencies, where the file has some.
    """
    name, family = family_of(metadata)
    left = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    named = {**family.settings, **family.optional}
    left |= {key: metadata[key] for key in named if key == key_of(name, key) and key in metadata}
    config: dict[str, Any] = {"model_type": family.model_type, "tie_word_embeddings": tied, "vocab_size": vocab_size}
    if missing := [key_of(name, key) for key in family.settings if key not in left]:
        raise CheckpointCorrupt(f"its metadata lack {missing[0]}.")
    for key, other in family.alike.items():
        if left.pop(key, left[other]) != left[other]:
            raise ConfigError(f"its {name}.{key} is not its {name}.{other}, which is not followed here.")
    for key, theirs in named.items():
        if key in left:
            config[theirs] = left.pop(key)
    if family.is_rotary:
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
        config |= _rope(left, config, rope_tensors)
    config |= family.unsaid(config)
    if left.pop("vocab_size", vocab_size) != vocab_size:
        raise ConfigError(f"{name}.vocab_size is not the {vocab_size:,} rows of its embedding.")
    for key, value in left.items():
        if key not in UNUSED and not _is_off(value) and NEUTRAL.get(key) != value:
            raise ConfigError(f"its setting {name}.{key} = {str(value)[:40]} is not followed here.")
    if config.get("sliding_window") == 0:
        config["sliding_window"] = None
    for theirs, value in config.items():
        if isinstance(value, list | array) and theirs != "architectures":
            raise ConfigError(f"its {theirs} differs from layer to layer, which is not followed here.")
    return config


def _is_off(value: Any) -> bool:
    return isinstance(value, int | float | str) and value in (0, "", "none")


def _rope(left: dict[str, Any], config: Mapping[str, Any], rope_tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The width of a head and the rotary settings of config.json; takes theirs out of what is left to be read."""
    n_heads = config["num_attention_heads"]
    if not isinstance(n_heads, int) or not isinstance(config["hidden_size"], int) or n_heads < 1:
        raise ConfigError("its sizes must be whole numbers from 1 on.")
    d_head = config.get("head_dim", config["hidden_size"] // n_heads)
    if (size := left.pop("attention.value_length", d_head)) != d_head:
        raise ConfigError(
            f"its values are {str(size)[:40]} features wide; only the {d_head} of keys are followed here."
        )
    d_rotary = left.pop("rope.dimension_count", d_head)
    if not isinstance(d_rotary, int) or not isinstance(d_head, int) or not 0 < d_rotary <= d_head:
        raise ConfigError(f"its rope.dimension_count must be from 1 to {str(d_head)[:40]}, not {str(d_rotary)[:40]}.")
    scaling = _scaling(left, d_head, config, rope_tensors)
    rope = {"head_dim": d_head, "rope_scaling": scaling}
    if scaling is not None and scaling["rope_type"] == "longrope":
        rope[ORIGINAL] = scaling.pop(ORIGINAL)  # which stands outside in Phi-3's config.json
    return rope if d_rotary == d_head else {**rope, "partial_rotary_factor": fraction_of(d_rotary, d_head)}


def _scaling(
    left: dict[str, Any], d_head: int, config: Mapping[str, Any], rope_tensors: Mapping[str, Tensor]
) -> dict[str, Any] | None:
    """The scaling of rotary frequencies; without a type, a factor is a linear one."""
    prefix = "rope.scaling."
    kind = left.pop(f"{prefix}type", "linear" if left.get(f"{prefix}factor") else "none")
    if kind not in ("none", "", "longrope", *SCALINGS) or (kind == "longrope" and len(rope_tensors) < len(LONGROPE)):
        raise ConfigError(f"its rotary scaling of type {str(kind)[:40]!r} is not followed here.")
    names = SCALINGS["yarn"]
    values = {theirs: left.pop(f"{prefix}{key}") for key, theirs in names.items() if f"{prefix}{key}" in left}
    original = values.get(names["original_context_length"])
    if rope_tensors:
        if kind in SCALINGS:
            raise ConfigError(f"it has both {next(iter(rope_tensors))} and a rotary scaling of type {kind!r}.")
        if set(rope_tensors) == set(LONGROPE.values()):
            return _longrope(left, config, rope_tensors, original)
        if set(rope_tensors) != {ROPE_FREQUENCIES}:
            raise ConfigError(f"it has {' and '.join(rope_tensors)}, which are not followed together here.")
        theta = config.get("rope_theta", 10_000.0)
        return _llama3(rope_tensors[ROPE_FREQUENCIES], d_head, theta, original or ORIGINAL_CONTEXT)
    if kind not in SCALINGS:
        return None
    theirs = SCALINGS[kind].values()
    return {"rope_type": kind, **{name: value for name, value in values.items() if name in theirs}}


def _longrope(
    left: dict[str, Any], config: Mapping[str, Any], rope_tensors: Mapping[str, Tensor], original: Any
) -> dict[str, Any]:
    """Phi-3's scaling: divisors for short texts and for long ones, and what multiplies cos and sin."""
    scaling = {name: rope_tensors[tensor].tolist() for name, tensor in LONGROPE.items()}
    attention = left.pop("rope.scaling.attn_factor", 1.0)
    factor = context_factor(config["max_position_embeddings"], original, "longrope")
    if factor is not None and original > 1:
        recommended = RopeScaling(
            kind="longrope", factor=factor, original_context_length=original, short_factors=(1.0,), long_factors=(1.0,)
        ).amplitude
        if isinstance(attention, float) and math.isclose(attention, recommended, rel_tol=1e-5):
            attention = None
    return {
        "rope_type": "longrope",
        ORIGINAL: original,
        "attention_factor": attention,
        **scaling,
    }


def _llama3(divisors: Tensor, d_head: int, theta: Any, original: Any) -> dict[str, Any]:
    """Llama 3.1's scaling of which these divisors come; raises where they are those of no published one."""
    sizes_are_numbers = isinstance(original, int) and isinstance(theta, float) and theta > 0
    if sizes_are_numbers and original > 0 and divisors.shape == (d_head // 2,) and divisors.isfinite().all():
        factor = max(1.0, float(str(divisors.float().max().numpy())))
        scaling = RopeScaling(kind="llama3", factor=factor, original_context_length=original)
        if torch.allclose(divisors_of(scaling, d_head, theta), divisors.double(), rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                ORIGINAL: original,
            }
    raise ConfigError(f"{ROPE_FREQUENCIES} does not follow from the scaling of Llama 3.1, which alone is read here.")


def divisors_of(scaling: RopeScaling, d_head: int, theta: float) -> Tensor:
    """By what each frequency is divided, as Llama 3.1's files have it."""
    plain, scaled = (RoPE(d_head=d_head, theta=theta, scaling=each).frequencies() for each in (None, scaling))
    return plain / scaled


def scaling_metadata(theirs: Mapping[str, Any], scaling: RopeScaling | None) -> dict[str, Any]:
    """What GGUF says of a scaling of rotary frequencies that config.json has so, beside their divisors."""
    settings = theirs.get("rope_scaling") or {}
    if scaling is not None and scaling.kind in SCALINGS:
        values = {f"rope.scaling.{key}": settings[name] for key, name in SCALINGS[scaling.kind].items()}
        return {"rope.scaling.type": scaling.kind, **values}
    original = theirs.get(ORIGINAL, settings.get(ORIGINAL, ORIGINAL_CONTEXT))
    if scaling is not None and scaling.kind == "longrope":
        return {"rope.scaling.original_context_length": original, "rope.scaling.attn_factor": scaling.amplitude}
    if scaling is not None and scaling.kind != "llama3":
        raise ExportError(f"GGUF cannot express a rope_scaling of kind {scaling.kind}.")
    return {} if original == ORIGINAL_CONTEXT else {"rope.scaling.original_context_length": original}
