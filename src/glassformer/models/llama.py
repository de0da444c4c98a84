"""Llama: the first family of the modern decoder, which `decoder.py` spells out.

Touvron et al. 2023 (arXiv:2302.13971), Grattafiori et al. 2024 for Llama 3 (arXiv:2407.21783).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec
from glassformer.nn.rope import RopeScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """Sizes and choices of a Llama; the defaults are those of Llama 1 with 7 billion parameters."""

    architecture: ClassVar[str] = "llama"


class Llama(Decoder):
    """Tokens to the logits of the token after each."""


LLAMA_2: dict[str, Any] = {"context_length": 4096}
LLAMA_3: dict[str, Any] = {"vocab_size": 128256, "context_length": 8192, "n_kv_heads": 8, "rope_theta": 500_000.0}
LLAMA_3_1 = LLAMA_3 | {"context_length": 131072, "rope_scaling": RopeScaling(kind="llama3", factor=8.0)}
LLAMA_3_2 = LLAMA_3_1 | {"rope_scaling": RopeScaling(kind="llama3", factor=32.0), "tied_head": True}

PRESETS = {
    "llama-7b": LlamaConfig(norm_eps=1e-6),
    "llama-13b": LlamaConfig(d_model=5120, n_layers=40, n_heads=40, d_ff=13824, norm_eps=1e-6),
    "llama-2-7b": LlamaConfig(**LLAMA_2),
    "llama-2-13b": LlamaConfig(**LLAMA_2, d_model=5120, n_layers=40, n_heads=40, d_ff=13824),
    "llama-2-70b": LlamaConfig(**LLAMA_2, d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28672),
    "llama-3-8b": LlamaConfig(**LLAMA_3, d_ff=14336),
    "llama-3.1-8b": LlamaConfig(**LLAMA_3_1, d_ff=14336),
    "llama-3.1-70b": LlamaConfig(**LLAMA_3_1, d_model=8192, n_layers=80, n_heads=64, d_ff=28672),
    "llama-3.2-1b": LlamaConfig(**LLAMA_3_2, d_model=2048, n_layers=16, d_ff=8192),
    "llama-3.2-3b": LlamaConfig(**LLAMA_3_2, d_model=3072, n_layers=28, n_heads=24, d_ff=8192),
}

SPEC = ModelSpec(config=LlamaConfig, module=Llama, initialize=initialize, presets=PRESETS)
