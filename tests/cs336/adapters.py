"""The functions by which Stanford's CS336 grades assignment 1, each a few lines onto glassformer's public names.

Names and signatures are the course's. Everything runs as the equations are written: `use("readable")`.
"""

import os
from collections.abc import Iterable
from typing import IO, Any, BinaryIO

import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.data.memmap import get_batch
from glassformer.models.cs336 import CS336, CS336Config, block
from glassformer.nn import functional as F
from glassformer.nn.attend import attend
from glassformer.nn.attention import Attention
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import SwiGLU
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Causal, Mask
from glassformer.nn.norm import RMSNorm
from glassformer.nn.rope import RoPE
from glassformer.tokenizers import BPETokenizer, train_bpe
from glassformer.training.adamw import AdamW
from glassformer.training.clip import clip_gradients
from glassformer.training.schedule import warmup_cosine
from glassformer.twins import use

OUR_NAMES = {  # the course's: ours
    "token_embeddings": "token_embedding",
    "layers": "blocks",
    "attn.output_proj": "attn.o_proj",
    "ln1": "attn_norm",
    "ln2": "mlp_norm",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w2": "mlp.down_proj",
    "ffn.w3": "mlp.up_proj",
    "ln_final": "final_norm",
}


def our_name(name: str) -> str:
    """layers.0.ffn.w1.weight is blocks.0.mlp.gate_proj.weight here."""
    for part, our_part in OUR_NAMES.items():
        name = name.replace(part, our_part)
    return name


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the course under our names."""
    return {our_name(name): tensor for name, tensor in weights.items()}


@use("readable")
def run_linear(
    d_in: int,
    d_out: int,
    weights: Float[Tensor, " d_out d_in"],
    in_features: Float[Tensor, " ... d_in"],
) -> Float[Tensor, " ... d_out"]:
    linear = Linear(d_in, d_out, bias=False)
    linear.load_state_dict({"weight": weights})
    return linear(in_features)


@use("readable")
def run_embedding(
    vocab_size: int,
    d_model: int,
    weights: Float[Tensor, " vocab_size d_model"],
    token_ids: Int[Tensor, " ..."],
) -> Float[Tensor, " ... d_model"]:
    embedding = Embedding(vocab_size, d_model)
    embedding.load_state_dict({"weight": weights})
    return embedding(token_ids)


@use("readable")
def run_swiglu(
    d_model: int,
    d_ff: int,
    w1_weight: Float[Tensor, " d_ff d_model"],
    w2_weight: Float[Tensor, " d_model d_ff"],
    w3_weight: Float[Tensor, " d_ff d_model"],
    in_features: Float[Tensor, " ... d_model"],
) -> Float[Tensor, " ... d_model"]:
    swiglu = SwiGLU(d_model, d_ff)
    swiglu.load_state_dict(
        {"gate_proj.weight": w1_weight, "down_proj.weight": w2_weight, "up_proj.weight": w3_weight},
    )
    return swiglu(in_features)


@use("readable")
def run_scaled_dot_product_attention(
    Q: Float[Tensor, " ... queries d_k"],
    K: Float[Tensor, " ... keys d_k"],
    V: Float[Tensor, " ... keys d_v"],
    mask: Bool[Tensor, " ... queries keys"] | None = None,
) -> Float[Tensor, " ... queries d_v"]:
    allowed = torch.ones(Q.shape[-2], K.shape[-2], dtype=torch.bool) if mask is None else mask.unsqueeze(-3)
    heads = (tensor.unsqueeze(-3) for tensor in (Q, K, V))  # one head
    return attend(*heads, Mask.explicit(allowed)).squeeze(-3)


@use("readable")
def run_multihead_self_attention(
    d_model: int,
    num_heads: int,
    q_proj_weight: Float[Tensor, " d_model d_model"],
    k_proj_weight: Float[Tensor, " d_model d_model"],
    v_proj_weight: Float[Tensor, " d_model d_model"],
    o_proj_weight: Float[Tensor, " d_model d_model"],
    in_features: Float[Tensor, " ... sequence_length d_model"],
) -> Float[Tensor, " ... sequence_length d_model"]:
    attention = self_attention(d_model, num_heads, q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attention(in_features, Mask.over(Causal(), in_features.shape[-2]))


@use("readable")
def run_multihead_self_attention_with_rope(
    d_model: int,
    num_heads: int,
    max_seq_len: int,
    theta: float,
    q_proj_weight: Float[Tensor, " d_model d_model"],
    k_proj_weight: Float[Tensor, " d_model d_model"],
    v_proj_weight: Float[Tensor, " d_model d_model"],
    o_proj_weight: Float[Tensor, " d_model d_model"],
    in_features: Float[Tensor, " ... sequence_length d_model"],
    token_positions: Int[Tensor, " ... sequence_length"] | None = None,
) -> Float[Tensor, " ... sequence_length d_model"]:
    length = in_features.shape[-2]
    positions = torch.arange(length) if token_positions is None else token_positions
    rope = RoPE(d_head=d_model // num_heads, theta=theta, style="interleaved")
    rotation = rope(positions.unsqueeze(-2))  # the same for each head
    attention = self_attention(d_model, num_heads, q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attention(in_features, Mask.over(Causal(), length), rotation=rotation)


def self_attention(d_model: int, num_heads: int, q: Tensor, k: Tensor, v: Tensor, o: Tensor) -> Attention:
    """Our module with the four matrices."""
    attention = Attention(d_model, num_heads, bias=False)
    attention.load_state_dict({"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, "o_proj.weight": o})
    return attention


@use("readable")
def run_rope(
    d_k: int,
    theta: float,
    max_seq_len: int,
    in_query_or_key: Float[Tensor, " ... sequence_length d_k"],
    token_positions: Int[Tensor, " ... sequence_length"],
) -> Float[Tensor, " ... sequence_length d_k"]:
    return RoPE(d_head=d_k, theta=theta, style="interleaved")(token_positions)(in_query_or_key)


@use("readable")
def run_transformer_block(
    d_model: int,
    num_heads: int,
    d_ff: int,
    max_seq_len: int,
    theta: float,
    weights: dict[str, Tensor],
    in_features: Float[Tensor, " batch sequence_length d_model"],
) -> Float[Tensor, " batch sequence_length d_model"]:
    config = CS336Config(context_length=max_seq_len, d_model=d_model, n_heads=num_heads, d_ff=d_ff)
    pre_norm = block(config)
    pre_norm.load_state_dict(renamed(weights))
    over = Mask.over(Causal(), in_features.shape[-2])
    rotation = RoPE(d_head=config.d_head, theta=theta, style="interleaved")(over.queries)
    return pre_norm(in_features, over, rotation=rotation)


@use("readable")
def run_transformer_lm(
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_ff: int,
    rope_theta: float,
    weights: dict[str, Tensor],
    in_indices: Int[Tensor, " batch_size sequence_length"],
) -> Float[Tensor, " batch_size sequence_length vocab_size"]:
    config = CS336Config(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        n_layers=num_layers,
        n_heads=num_heads,
        d_ff=d_ff,
        rope_theta=rope_theta,
    )
    model = CS336(config)
    model.load_state_dict(renamed(weights))
    return model(in_indices)


@use("readable")
def run_rmsnorm(
    d_model: int,
    eps: float,
    weights: Float[Tensor, " d_model"],
    in_features: Float[Tensor, " ... d_model"],
) -> Float[Tensor, " ... d_model"]:
    norm = RMSNorm(d_model, eps=eps)
    norm.load_state_dict({"weight": weights})
    return norm(in_features)


@use("readable")
def run_silu(in_features: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    return F.silu(in_features)


def run_get_batch(
    dataset: npt.NDArray, batch_size: int, context_length: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    return get_batch(dataset, batch_size, context_length, device)


@use("readable")
def run_softmax(in_features: Float[Tensor, " ..."], dim: int) -> Float[Tensor, " ..."]:
    return F.softmax(in_features, dim)


@use("readable")
def run_cross_entropy(
    inputs: Float[Tensor, " batch_size vocab_size"], targets: Int[Tensor, " batch_size"]
) -> Float[Tensor, ""]:
    return F.cross_entropy(inputs, targets)


@use("readable")
def run_gradient_clipping(parameters: Iterable[torch.nn.Parameter], max_l2_norm: float) -> None:
    clip_gradients(parameters, max_l2_norm)


def get_adamw_cls() -> Any:
    return AdamW


def run_get_lr_cosine_schedule(
    it: int,
    max_learning_rate: float,
    min_learning_rate: float,
    warmup_iters: int,
    cosine_cycle_iters: int,
):
    return warmup_cosine(it, max_learning_rate, min_learning_rate, warmup_iters, cosine_cycle_iters)


def run_save_checkpoint(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    out: str | os.PathLike | BinaryIO | IO[bytes],
):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": iteration}, out)


def run_load_checkpoint(
    src: str | os.PathLike | BinaryIO | IO[bytes],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    state = torch.load(src, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["iteration"]


def get_tokenizer(
    vocab: dict[int, bytes],
    merges: list[tuple[bytes, bytes]],
    special_tokens: list[str] | None = None,
) -> Any:
    return BPETokenizer(vocab, merges, special_tokens)


def run_train_bpe(
    input_path: str | os.PathLike,
    vocab_size: int,
    special_tokens: list[str],
    **kwargs,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    return train_bpe(input_path, vocab_size, special_tokens, **kwargs)
