"""Qwen3 with a mixture of many small experts in each block.

Yang et al. 2025, §2 (arXiv:2505.09388). Next to read: `nn/moe.py`.
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.errors import ConfigError
from glassformer.models.decoder import Decoder, DecoderConfig, block, initialize
from glassformer.models.spec import ModelSpec, check_sizes
from glassformer.nn.block import Block
from glassformer.nn.moe import Experts

EXPERTS = Experts(n=128, top_k=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3MoEConfig(DecoderConfig):
    """Sizes and choices; the defaults are those of the model with 30 billion parameters, of which a token uses 3."""

    architecture: ClassVar[str] = "qwen3_moe"

    vocab_size: int = 151936
    context_length: int = 40960
    d_model: int = 2048
    n_layers: int = 48
    n_kv_heads: int = 4
    d_ff: int = 768
    norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    qk_norm: bool = True
    experts: Experts = EXPERTS
    dense_layers: tuple[int, ...] = ()  # whose blocks have one network in place of experts, from 0 on
    d_dense: int = 0  # the width of these networks

    def __post_init__(self) -> None:
        DecoderConfig.__post_init__(self)
        for layer in self.dense_layers:
            if not isinstance(layer, int) or isinstance(layer, bool) or not 0 <= layer < self.n_layers:
                raise ConfigError(f"dense_layers must be numbers of layers, from 0 to {self.n_layers - 1}: {layer!r}.")
        if self.dense_layers:
            check_sizes(self, "d_dense")


class Qwen3MoE(Decoder):
    """Tokens to the logits of the token after each."""

    config: Qwen3MoEConfig

    def new_block(self, layer: int) -> Block:
        """One of the n_layers blocks, with experts or with one network."""
        return block(self.config, d_dense=self.config.d_dense if layer in self.config.dense_layers else 0)


PRESETS = {
    "qwen3-30b-a3b": Qwen3MoEConfig(d_head=128),
    "qwen3-235b-a22b": Qwen3MoEConfig(d_model=4096, d_head=128, n_layers=94, n_heads=64, d_ff=1536),
}

SPEC = ModelSpec(config=Qwen3MoEConfig, module=Qwen3MoE, initialize=initialize, presets=PRESETS)
