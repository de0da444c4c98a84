"""Architectures as GGUF has them: for each its settings and its tensors, by their names in Hugging Face's folders.

A family that `models/published/` has a table for is one row of `FAMILIES`; what the settings and tensors then mean is
said in that table alone. llama.cpp's converter changes two things on the way: Llama's queries and keys are reordered so
that rotary pairs are neighbours, and GPT-2's matrices are transposed.
"""

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import CheckpointCorrupt, ConfigError
from glassformer.nn.rope import RoPE, RopeScaling

ROPE_FREQUENCIES = "rope_freqs.weight"  # by what each frequency is divided, as Llama 3.1 has it
LAYER = re.compile(r"blk\.(0|[1-9]\d{0,5})\.")
UNUSED = ("tensor_data_layout", "rope.scaling.finetuned", "rope.scaling.attn_factor")  # that change nothing here


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFFamily:
    """An architecture: `model_type` is Hugging Face's.

    `settings` are those of GGUF without the architecture in front, and of config.json; a file must have them, unless
    they are `optional`. `modules` are GGUF's and those of the folder, with `{i}` for a layer; of `transposed` the
    weights are (d_in, d_out) in a folder, and rows of `turned`, heads of what setting, have rotary pairs side by side.
    """

    model_type: str
    settings: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str]
    transposed: frozenset[str] = frozenset()
    turned: Mapping[str, str] = field(default_factory=dict)

    def folder_name(self, name: str) -> str:
        """A tensor's name in a folder."""
        module, _, part = name.rpartition(".")
        layer = LAYER.match(module)
        pattern = module if layer is None else LAYER.sub("blk.{i}.", module)
        if part not in ("weight", "bias") or pattern not in self.modules:
            raise CheckpointCorrupt(f"its tensor {name} has no place in a {self.model_type} that is read here.")
        return f"{self.modules[pattern]}.{part}".format(i=layer and int(layer[1]))

    def gguf_name(self, folder_name: str) -> str:
        """The name in GGUF of a folder's tensor."""
        module, _, part = folder_name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", module)
        pattern = module if layer is None else f"{module[: layer.start()]}.{{i}}.{module[layer.end() :]}"
        names = {theirs: ours for ours, theirs in self.modules.items()}
        return f"{names[pattern]}.{part}".format(i=layer and layer[1])

    def change_back(self, name: str, config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
        """What makes the tensor of this name in GGUF of a folder's."""
        module = LAYER.sub("blk.{i}.", name.rpartition(".")[0])
        if module in self.turned:
            n_heads = config[self.turned[module]]
            return lambda tensor: neighbours_from_half(tensor, n_heads)
        return self.change(name, config)

    def change(self, name: str, config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
        """What makes a folder's tensor of that of this name in GGUF."""
        module = LAYER.sub("blk.{i}.", name.rpartition(".")[0])
        if module in self.transposed and name.endswith(".weight"):
            return lambda tensor: tensor.mT
        if module in self.turned:
            n_heads = config[self.turned[module]]
            return lambda tensor: half_from_neighbours(tensor, n_heads)
        return lambda tensor: tensor


def half_from_neighbours(tensor: Tensor, n_heads: int) -> Tensor:
    """Rows of a projection whose rotary pairs are neighbours, with these half a head apart."""
    if n_heads < 1 or tensor.shape[0] % (2 * n_heads):
        raise CheckpointCorrupt(f"{tensor.shape[0]} rows do not divide into pairs of {n_heads} heads.")
    return tensor.reshape(n_heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


def neighbours_from_half(tensor: Tensor, n_heads: int) -> Tensor:
    """The other way round."""
    return tensor.reshape(n_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)


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
HEAD_NORMS = {
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
}
FAMILIES = {  # by general.architecture
    "llama": GGUFFamily(
        model_type="llama",
        settings=DECODER,
        optional=OF_DECODER,
        modules=DECODER_MODULES,
        turned={"blk.{i}.attn_q": "num_attention_heads", "blk.{i}.attn_k": "num_key_value_heads"},
    ),
    "qwen2": GGUFFamily(model_type="qwen2", settings=DECODER, optional=OF_DECODER, modules=DECODER_MODULES),
    "qwen3": GGUFFamily(
        model_type="qwen3", settings=DECODER, optional=OF_DECODER, modules={**DECODER_MODULES, **HEAD_NORMS}
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


def family_of(metadata: Mapping[str, Any]) -> tuple[str, GGUFFamily]:
    """The architecture that the metadata name."""
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(
            f"its architecture is {str(name)[:80]!r}; of GGUF files, {', '.join(FAMILIES)} are read here."
        )
    return name, FAMILIES[name]


def settings_of(
    metadata: Mapping[str, Any], *, tied: bool, vocab_size: int, frequencies: Tensor | None
) -> dict[str, Any]:
    """The config.json of a folder with the same model; a setting that is not followed is an error, unless it is off.

    `frequencies` are those of the tensor with rotary frequencies, where the file has one.
    """
    name, family = family_of(metadata)
    left = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    config: dict[str, Any] = {"model_type": family.model_type, "tie_word_embeddings": tied, "vocab_size": vocab_size}
    if missing := [f"{name}.{key}" for key in family.settings if key not in left]:
        raise CheckpointCorrupt(f"its metadata lack {missing[0]}.")
    for key, theirs in {**family.settings, **family.optional}.items():
        if key in left:
            config[theirs] = left.pop(key)
    if family.optional:
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
        config |= _rope(left, config, frequencies)
    if left.pop("vocab_size", vocab_size) != vocab_size:
        raise ConfigError(f"{name}.vocab_size is not the {vocab_size:,} rows of its embedding.")
    for key, value in left.items():
        if key not in UNUSED and not _is_off(value):
            raise ConfigError(f"its setting {name}.{key} = {str(value)[:40]} is not followed here.")
    for theirs, value in config.items():
        if isinstance(value, list | array):
            raise ConfigError(f"its {theirs} differs from layer to layer, which is not followed here.")
    return config


def _is_off(value: Any) -> bool:
    return isinstance(value, int | float | str) and value in (0, "", "none")


def _rope(left: dict[str, Any], config: Mapping[str, Any], frequencies: Tensor | None) -> dict[str, Any]:
    """The width of a head and the rotary settings of config.json; takes theirs out of what is left to be read."""
    n_heads = config["num_attention_heads"]
    if not isinstance(n_heads, int) or not isinstance(config["hidden_size"], int) or n_heads < 1:
        raise ConfigError("its sizes must be whole numbers from 1 on.")
    d_head = config.get("head_dim", config["hidden_size"] // n_heads)
    for key in ("rope.dimension_count", "attention.value_length"):
        if (size := left.pop(key, d_head)) != d_head:
            raise ConfigError(
                f"its {key} is {str(size)[:40]}, and only that of a whole head, {d_head}, is followed here."
            )
    kind = left.pop("rope.scaling.type", "none")
    factor, original = left.pop("rope.scaling.factor", 1.0), left.pop("rope.scaling.original_context_length", None)
    if frequencies is not None:
        if kind not in ("none", "llama3"):
            raise ConfigError(f"it has both {ROPE_FREQUENCIES} and a rotary scaling of type {str(kind)[:40]!r}.")
        return {"head_dim": d_head, "rope_scaling": _llama3(frequencies, d_head, config.get("rope_theta", 10_000.0))}
    if kind in ("none", ""):
        return {"head_dim": d_head}
    scaling = {"rope_type": kind, "factor": factor}
    if original is not None:
        scaling["original_max_position_embeddings"] = original
    return {"head_dim": d_head, "rope_scaling": scaling}


def _llama3(frequencies: Tensor, d_head: int, theta: float) -> dict[str, Any]:
    """Llama 3.1's scaling of which these divisors come; raises where they are those of no published one."""
    scaling = RopeScaling(kind="llama3", factor=max(1.0, float(frequencies.max())))
    if isinstance(d_head, int) and frequencies.shape == (d_head // 2,) and isinstance(theta, float) and theta > 0:
        plain, scaled = (RoPE(d_head=d_head, theta=theta, scaling=each).frequencies() for each in (None, scaling))
        if torch.allclose(plain / scaled, frequencies.double(), rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context_length,
            }
    raise ConfigError(f"{ROPE_FREQUENCIES} does not follow from the scaling of Llama 3.1, which alone is read here.")
