"""Gemma from its second version on: norms on both sides of each sublayer, caps on scores and logits, windows by turns.

What `gemma2.py` and `gemma3.py` share; each is a page with its name, its defaults and its published sizes.
Next to read: `nn/block.py`, `nn/norm.py`, `nn/attention.py`.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.decoder import DecoderConfig
from glassformer.models.spec import check_choice, check_sizes
from glassformer.nn.attention import Attention
from glassformer.nn.block import SandwichBlock
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import GeGLU
from glassformer.nn.init import init_like_gpt2, initialize
from glassformer.nn.kv_cache import KVCache, Policy, uncached, window
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Rule, Window
from glassformer.nn.norm import UnitOffsetRMSNorm


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
        check_sizes(self, "query_scalar")
        for name in ("score_softcap", "logit_softcap", "rope_theta_local"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be a number from 0 on, not {value!r}.")


class Gemma(nn.Module):
    """Tokens to the logits of the token after each."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.rope = self.local_rope = config.rope()
        if config.rope_theta_local:
            self.local_rope = replace(self.rope, theta=config.rope_theta_local, scaling=None)
        self.rules: dict[int, Rule] = {i: Window(n) for i, n in config.local.items()}
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_layers))
        self.final_norm = UnitOffsetRMSNorm(config.d_model, eps=config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

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

    def forward(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token. `state` remembers earlier tokens and takes these in; `valid` is False at padding."""
        step = (
            uncached(tokens, len(self.blocks), valid, local=self.rules) if state is None else state.step(tokens, valid)
        )
        local_rotation = step.rotation(self.local_rope)
        rotation = local_rotation if self.rope == self.local_rope else step.rotation(self.rope)
        embedded = self.token_embedding(tokens)
        x = embedded * rounded(math.sqrt(self.config.d_model), embedded.dtype)
        x = self.dropout(x)
        for i, (block, (mask, cache)) in enumerate(zip(self.blocks, step.layers, strict=True)):
            x = block(x, mask, rotation=local_rotation if i in self.rules else rotation, cache=cache)
        x = self.final_norm(x)
        cap = self.config.logit_softcap
        if not cap:
            logits: Tensor = self.lm_head(x)
            return logits
        uncapped = self.lm_head(x)
        logits = cap * torch.tanh(uncapped / cap)
        return logits


def block(config: GemmaConfig) -> SandwichBlock:
    """One of the n_layers blocks; which tokens it sees, and its angles, are not its own affair."""

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
            o_bias=False,
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
