"""Gemma from its second version on: norms on both sides of each sublayer, caps on scores and logits, windows by turns.

What `gemma2.py` and `gemma3.py` share; each is a page with its name, its defaults and its published sizes.
Next to read: `nn/block.py`, `nn/norm.py`, `nn/attention.py`.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.decoder import Decoder, DecoderConfig
from glassformer.models.spec import check_choice, check_sizes
from glassformer.nn.attention import Attention
from glassformer.nn.block import SandwichBlock
from glassformer.nn.feedforward import GeGLU
from glassformer.nn.init import init_like_gpt2, initialize
from glassformer.nn.kv_cache import KVCache, Policy, Step, window
from glassformer.nn.norm import UnitOffsetRMSNorm
from glassformer.nn.rope import RoPE, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmaConfig(DecoderConfig):
    """Sizes and choices that the families of Gemma share, beside those of every modern decoder."""

    vocab_size: int = 256000
    context_length: int = 8192
    d_model: int = 2304
    n_layers: int = 26
    n_heads: int = 8
    n_kv_heads: int = 4
    d_head: int = 256
    d_ff: int = 9216
    norm_eps: float = 1e-6
    tied_head: bool = True
    query_scalar: int = 256  # scores are divided by its root, in most sizes that of d_head
    score_softcap: float = 0.0  # 0: none
    logit_softcap: float = 0.0
    rope_theta_local: float = 0.0  # of the layers that have a window; 0: as the others

    def __post_init__(self) -> None:
        DecoderConfig.__post_init__(self)
        check_choice(self, "experts", (None,))
        check_choice(self, "mlp_bias", (False,))
        check_sizes(self, "query_scalar")
        for name in ("score_softcap", "logit_softcap", "rope_theta_local"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be a number from 0 on, not {value!r}.")


class Gemma(Decoder):
    """Tokens to the logits of the token after each."""

    config: GemmaConfig
    rope: RoPE

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__(config)
        self.local_rope = self.rope
        if config.rope_theta_local:
            self.local_rope = replace(self.rope, theta=config.rope_theta_local, scaling=None)

    def new_block(self, layer: int) -> SandwichBlock:
        """One of the n_layers blocks; which tokens it sees, and its angles, are not its own affair."""
        config = self.config

        def norm(n: int) -> UnitOffsetRMSNorm:
            return UnitOffsetRMSNorm(n, eps=config.norm_eps)

        return SandwichBlock(
            attn_norm=norm(config.d_model),
            attn=Attention(
                config.d_model,
                config.n_heads,
                n_kv_heads=config.n_kv_heads,
                d_head=config.d_head,
                bias=config.qkv_bias,
                o_bias=config.o_bias,
                q_norm=norm(config.d_head) if config.qk_norm else None,
                k_norm=norm(config.d_head) if config.qk_norm else None,
                scale=1 / math.sqrt(config.query_scalar),
                softcap=config.score_softcap or None,
                dropout=config.dropout,
            ),
            attn_post_norm=norm(config.d_model),
            mlp_norm=norm(config.d_model),
            mlp=GeGLU(config.d_model, config.d_ff),
            mlp_post_norm=norm(config.d_model),
            dropout=config.dropout,
        )

    def new_norm(self) -> UnitOffsetRMSNorm:
        """The norm behind the last block."""
        return UnitOffsetRMSNorm(self.config.d_model, eps=self.config.norm_eps)

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """The vectors that the first block reads."""
        embedded = self.token_embedding(tokens)
        x: Tensor = embedded * rounded(math.sqrt(self.config.d_model), embedded.dtype)
        return x

    def rotations(self, step: Step) -> list[Rotation | None]:
        """How queries and keys turn in each layer."""
        local_rotation = step.rotation(self.local_rope)
        rotation = local_rotation if self.rope == self.local_rope else step.rotation(self.rope)
        local = self.config.local
        return [local_rotation if layer in local else rotation for layer in range(self.config.n_layers)]

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each, within the cap."""
        cap = self.config.logit_softcap
        if not cap:
            return super().unembed(x)
        uncapped = self.lm_head(x)
        logits: Tensor = cap * torch.tanh(uncapped / cap)
        return logits

    def begin(self, source: None, policy: Policy) -> KVCache:
        """An empty cache under a policy, in which a layer with a window keeps no more than that, and no sinks.

        Sinks are rotated anew as a text goes on, which the cache does by the angles of layers without a window.
        """
        local = {
            i: window(min(n, policy.capacity))
            for i, n in self.config.local.items()
            if n < policy.capacity or policy.n_sinks
        }
        return KVCache(self.config.n_layers, policy, self.rope, local=local)


def rounded(value: float, dtype: torch.dtype) -> float:
    """The number of this precision that is nearest to a value: published models were trained with that one.

    >>> rounded(48.1, torch.bfloat16)
    48.0
    """
    _, exponent = math.frexp(value)
    unit = math.ldexp(torch.finfo(dtype).eps, exponent - 1)
    return round(value / unit) * unit


def initialize_gemma(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """As GPT-2 starts, and norms at a scale of 1, of which they keep the distance."""
    assert isinstance(model, Gemma)
    init_like_gpt2(model, generator, n_layers=model.config.n_layers)
    for module in model.modules():
        if isinstance(module, UnitOffsetRMSNorm):
            initialize(module)
