"""GGUF files as llama.cpp's converter makes them, of small models of `transformers`, by the library `gguf`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from torch import Tensor

Settings = Mapping[str, Any]  # of the tokenizer, without "tokenizer.ggml." in front
ARCHITECTURES = {"gemma3_text": "gemma3", "qwen3_moe": "qwen3moe", "mixtral": "llama"}
PERMUTED = (
    "llama",
    "smollm3",
    "granite",
    "mixtral",
)  # whose queries and keys have rotary pairs that are neighbours there
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def write_llama(path: Path, model: Any, kind: str = "F32", tokenizer: Settings = MappingProxyType({})) -> Path:
    """A family of the modern decoder; in `PERMUTED` ones as by `permute` in convert_hf_to_gguf.py."""
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if "beta_fast" in rope:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    writer.add_rope_dimension_count(int(d_head * rope.get("partial_rotary_factor", 1.0)))
    if config.model_type == "phi3":
        original = config.original_max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_sliding_window(config.sliding_window or 0)
        if rope["rope_type"] == "longrope":
            scale = config.max_position_embeddings / original
            attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
            writer.add_rope_scaling_attn_factors(rope.get("attention_factor", attention))
            for length in ("long", "short"):
                _add(writer, f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], np.float32), "F32")
    writer.add_vocab_size(config.vocab_size)
    if d_head * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(d_head)
        writer.add_value_length(d_head)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    heads = heads if config.model_type in PERMUTED else {}
    if config.model_type == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if (n_experts := getattr(config, "num_local_experts", None)) is not None:
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if architecture == "qwen3moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    is_gemma = architecture.startswith("gemma")
    if is_gemma:
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, tensor in _by_matrix(_tensors(model)).items():
        array = tensor.numpy()
        if is_gemma and name.endswith("norm.weight"):
            array = array + 1
        for projection, n in heads.items():
            if f".{projection}." in name:
                half = array.reshape(n, 2, array.shape[0] // n // 2, *array.shape[1:])
                array = half.swapaxes(1, 2).reshape(array.shape)
        _add(writer, names.get_name(name, (".weight", ".bias")), array, kind)
    return _finish(path, writer, tokenizer)


def write_gpt2(path: Path, model: Any, kind: str = "F32", *, head_too: bool = False) -> Path:
    """A GPT2LMHeadModel, whose Conv1D are transposed; with `head_too`, a tied head is stored again."""
    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    state = _tensors(model)
    if head_too:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    for name, tensor in state.items():
        turned = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        array = (tensor.mT if turned else tensor).contiguous().numpy()
        _add(writer, names.get_name(name, (".weight", ".bias")), array, kind)
    return _finish(path, writer, {})


def write_gpt_neox(path: Path, model: Any, kind: str = "F32") -> Path:
    """A GPTNeoXForCausalLM, of which the queries of all heads come first, then all keys, then all values."""
    config = model.config
    writer = gguf.GGUFWriter(path, "gptneox")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    d_head = config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(int(config.rope_parameters["partial_rotary_factor"] * d_head))
    writer.add_head_count(config.num_attention_heads)
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPTNEOX, config.num_hidden_layers)
    for name, tensor in _tensors(model).items():
        array = tensor.numpy()
        if ".query_key_value." in name:
            heads = array.reshape(config.num_attention_heads, 3, d_head, *array.shape[1:])
            array = np.concatenate([heads[:, i].reshape(-1, *array.shape[1:]) for i in range(3)])
        _add(writer, names.get_name(name, (".weight", ".bias")), array, kind)
    return _finish(path, writer, {})


def write_bert(path: Path, model: Any, pieces: Sequence[str] = (), kind: str = "F32", **settings: Any) -> Path:
    """A BertModel; of its `pieces` those in brackets stay, and of the others those that begin a word are marked."""
    config = model.config
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config.type_vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config.num_hidden_layers)
    for name, tensor in _tensors(model).items():
        if not name.startswith("pooler."):
            of_types = "token_type" in name
            _add(writer, names.get_name(name, (".weight", ".bias")), tensor.numpy(), "F32" if of_types else kind)
    plain = [piece[2:] if piece.startswith("##") else f"\u2581{piece}" for piece in pieces]
    keeps = [piece[0] + piece[-1] == "[]" for piece in pieces]
    tokens = [piece if keep else text for piece, text, keep in zip(pieces, plain, keeps, strict=True)]
    ids = {"padding": "[PAD]", "unknown": "[UNK]", "seperator": "[SEP]", "mask": "[MASK]", "bos": "[CLS]"}
    return _finish(
        path,
        writer,
        {
            "model": "bert",
            "tokens": tokens,
            "token_type": [CONTROL if piece in ids.values() else NORMAL for piece in pieces],
            **{f"{role}_token_id": pieces.index(piece) for role, piece in ids.items()},
            **settings,
        }
        if pieces
        else {},
    )


def _tensors(model: Any) -> dict[str, Tensor]:
    """The parameters, of tied ones the first."""
    return {name: parameter.detach().float() for name, parameter in model.named_parameters()}


def _by_matrix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Experts' gates and ups by themselves, and names of Mixtral, as the converter reads them of a folder."""
    parts: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".experts.gate_up_proj"):
            base = name.removesuffix("gate_up_proj")
            parts[f"{base}gate_proj.weight"], parts[f"{base}up_proj.weight"] = tensor.chunk(2, dim=1)
        else:
            parts[f"{name}.weight" if ".experts." in name else name] = tensor
    return parts


def _add(writer: gguf.GGUFWriter, name: str | None, array: np.ndarray, kind: str) -> None:
    assert name is not None
    type = gguf.GGMLQuantizationType[kind if array.ndim > 1 and "position" not in name else "F32"]
    writer.add_tensor(name, gguf.quantize(array, type), raw_dtype=type)


def _finish(path: Path, writer: gguf.GGUFWriter, tokenizer: Settings) -> Path:
    for name, value in tokenizer.items():
        key = "tokenizer.chat_template" if name == "chat_template" else f"tokenizer.ggml.{name}"
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
