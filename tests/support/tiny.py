"""The smallest model of every architecture, and something that it reads."""

from typing import Any

import torch
from torch import Tensor

import glassformer as gf
from glassformer.nn.moe import Experts, GroupedExperts

DECODER = {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_heads": 2, "n_kv_heads": 1, "d_ff": 12}
FAMILIES: dict[str, dict[str, Any]] = {  # of the modern decoder, each with what is its own
    "mistral": {**DECODER, "n_layers": 1, "sliding_windows": (3,)},
    "qwen2": {**DECODER, "n_layers": 2, "sliding_windows": (0, 3)},
    "qwen3": {**DECODER, "n_layers": 1, "d_head": 6},
    "mixtral": {**DECODER, "n_layers": 1, "experts": Experts(n=3, top_k=2)},
    "qwen3_moe": {**DECODER, "n_layers": 1, "experts": Experts(n=3, top_k=2, norm_top_k=False)},
    "phi3": {**DECODER, "n_layers": 1, "d_rotary": 2},
    "gemma2": {**DECODER, "n_layers": 2, "d_head": 4, "sliding_windows": (3, 0), "query_scalar": 5},
    "gemma3": {**DECODER, "n_layers": 2, "d_head": 4, "sliding_windows": (3, 0)},
    "olmo2": {**DECODER, "n_layers": 1},
    "granite": {**DECODER, "n_layers": 1},
    "smollm3": {**DECODER, "n_layers": 2, "rotary_layers": (True, False)},
}
ENCODER = {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 12}
LATENT = {  # of a decoder whose heads read latents; its first block has no experts
    "vocab_size": 11,
    "context_length": 8,
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 2,
    "d_ff": 12,
    "d_expert": 5,
    "d_plain": 4,
    "d_rotary": 2,
    "d_value": 3,
    "kv_rank": 5,
    "n_dense_layers": 1,
}
DEEPSEEK: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**LATENT, "experts": GroupedExperts(scores="softmax", n=3, top_k=2, norm_top_k=False)},
    "deepseek_v3": {**LATENT, "q_rank": 6, "experts": GroupedExperts(n=4, top_k=2, n_groups=2, scale=2.5)},
}
PAIR = {
    "vocab_size": 11,
    "context_length": 8,
    "d_model": 8,
    "n_encoder_layers": 1,
    "n_decoder_layers": 1,
    "n_heads": 2,
    "d_ff": 12,
}
IMAGES = {"image_size": (8, 8), "patch_size": (4, 4), "d_model": 8, "n_layers": 1, "n_heads": 2, "n_classes": 3}
TINY: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2},
    "llama": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 12},
    "cs336": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 12},
    **FAMILIES,
    **DEEPSEEK,
    "gpt_neox": {"vocab_size": 11, "context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "rnn": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 2},
    "bert": ENCODER,
    "roberta": ENCODER,
    "distilbert": ENCODER,
    "seq2seq": {"vocab_size": 11, "source_vocab_size": 9, "context_length": 8, "d_model": 8, "attention": "general"},
    "transformer": {**PAIR, "position_layout": "halves", "head_bias": True},
    "bart": PAIR,
    "t5": {**PAIR, "d_head": 3, "n_buckets": 4, "max_distance": 5},
    "whisper": {**PAIR, "audio_context_length": 6, "n_mels": 5},
    "vit": {**IMAGES, "d_ff": 12},
    "dinov2": {**IMAGES, "mlp_ratio": 2},
}


def inputs(model: gf.Model) -> list[Tensor]:
    """Something that the model reads."""
    tokens = torch.randint(9, (1, 4))
    match model.kind:
        case "encoder-decoder":
            return [torch.randint(9, (1, 5)), tokens]
        case "speech-recognizer":
            return [torch.randn(1, 5, 12), tokens]
        case "image-classifier":
            return [torch.rand(1, model.config.n_channels, 8, 8)]
        case _:
            return [tokens]
