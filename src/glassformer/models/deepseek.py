"""DeepSeek from its second version on: latent attention, and many small experts in all blocks but the first ones.

What `deepseek_v2.py` and `deepseek_v3.py` share; each is a page with its name, its defaults and its published sizes.
Next to read: `nn/latent_attention.py`, `nn/moe.py`.
"""

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from glassformer.errors import ConfigError
from glassformer.models.decoder import Decoder, DecoderSettings
from glassformer.models.spec import check_choice, check_fraction, check_positive, check_sizes
from glassformer.nn.block import Block
from glassformer.nn.feedforward import SwiGLU
from glassformer.nn.init import constant, init_like_gpt2
from glassformer.nn.latent_attention import LatentAttention
from glassformer.nn.moe import GroupedExperts, GroupedMoE
from glassformer.nn.norm import RMSNorm
from glassformer.nn.rope import RoPE, RopeScaling, Style

EXPERTS = GroupedExperts(scores="softmax", n=64, top_k=6, norm_top_k=False, n_shared=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSeekConfig(DecoderSettings):
    """Sizes and choices that both versions have; the defaults are those of V2-Lite, with 16 billion parameters."""

    architecture: ClassVar[str]

    vocab_size: int = 102400
    context_length: int = 4096
    d_model: int = 2048
    n_layers: int = 27
    n_heads: int = 16
    d_plain: int = 128  # features of a head that do not turn
    d_rotary: int = 64  # and that do
    d_value: int = 128
    kv_rank: int = 512
    q_rank: int = 0  # 0: queries have no latent
    d_ff: int = 10944  # of the first blocks
    d_expert: int = 1408  # of each expert of the others
    n_dense_layers: int = 1
    experts: GroupedExperts = EXPERTS
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_style: Style = "interleaved"
    rope_scaling: RopeScaling | None = None
    mscale: float = 0.0  # sharpens scores where a context is stretched: they are times (1 + 0.1 · mscale · ln factor)²
    tied_head: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "d_expert")
        check_sizes(self, "d_plain", "d_rotary", "d_value", "kv_rank")
        for name in ("q_rank", "n_dense_layers"):
            if getattr(self, name) != 0:
                check_sizes(self, name)
        check_choice(self, "tied_head", (True, False))
        check_choice(self, "rope_style", ("half", "interleaved"))
        check_fraction(self, "dropout")
        check_fraction(self, "norm_eps")
        if self.d_rotary % 2:
            raise ConfigError(f"Rotary positions turn pairs of features: d_rotary must be even, not {self.d_rotary}.")
        check_positive(self, "rope_theta")
        if not isinstance(self.mscale, int | float) or not 0 <= self.mscale <= sys.float_info.max:
            raise ConfigError(f"mscale must be a number from 0 on, not {self.mscale!r}.")
        self.rope()

    def rope(self) -> RoPE:
        """From positions to rotations; raises for what no head of this size can have."""
        return RoPE(d_head=self.d_rotary, theta=self.rope_theta, style=self.rope_style, scaling=self.rope_scaling)

    @property
    def n_experts(self) -> int:
        """How many experts a block has that has some."""
        return self.experts.n

    @property
    def score_scale(self) -> float:
        """What scores are multiplied by."""
        factor = 1.0 if self.rope_scaling is None else self.rope_scaling.factor
        sharper = 1 + 0.1 * self.mscale * math.log(factor)
        return sharper**2 / math.sqrt(self.d_plain + self.d_rotary)


class DeepSeek(Decoder):
    """Tokens to the logits of the token after each."""

    config: DeepSeekConfig

    def new_block(self, layer: int) -> Block:
        """One of the n_layers blocks, of which the first have one network in place of experts."""
        config = self.config
        is_dense = layer < config.n_dense_layers
        return Block(
            attn_norm=RMSNorm(config.d_model, eps=config.norm_eps),
            attn=LatentAttention(
                config.d_model,
                config.n_heads,
                d_plain=config.d_plain,
                d_rotary=config.d_rotary,
                d_value=config.d_value,
                kv_rank=config.kv_rank,
                q_rank=config.q_rank,
                scale=config.score_scale,
                dropout=config.dropout,
            ),
            mlp_norm=RMSNorm(config.d_model, eps=config.norm_eps),
            mlp=SwiGLU(config.d_model, config.d_ff)
            if is_dense
            else GroupedMoE(config.d_model, config.d_expert, config.experts),
            norm_placement="pre",
            dropout=config.dropout,
        )


def initialize_deepseek(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """As GPT-2 starts, with the projections into the residual stream made smaller, and no expert preferred."""
    assert isinstance(model, DeepSeek)
    init_like_gpt2(model, generator, n_layers=model.config.n_layers)
    for module in model.modules():
        if isinstance(module, GroupedMoE) and module.balance is not None:
            constant(module.balance, 0.0)
