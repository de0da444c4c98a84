"""The modern decoder: RMSNorm, rotary positions, grouped queries and a gated feed-forward network or several experts.

What Llama and the models after it share. A family is a page of its own, `llama.py` for one: its name, its defaults and
its published sizes. What would take this page more than a field or two is a module of its own.
Next to read: `nn/block.py`, `nn/rope.py`, `nn/feedforward.py`, `nn/moe.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.spec import check_choice, check_fraction, check_positive, check_sizes
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, NormPlacement
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import SwiGLU
from glassformer.nn.init import init_like_gpt2
from glassformer.nn.kv_cache import KVCache, Policy, Step, uncached, window
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Rule, Window
from glassformer.nn.moe import Experts, MoE
from glassformer.nn.norm import JointRMSNorm, RMSNorm
from glassformer.nn.rope import RoPE, RopeScaling, Rotation, Style


class DecoderSettings:
    """What `Decoder` asks of a configuration; here all layers see the whole text, and turn by its positions."""

    __slots__ = ()
    norm: ClassVar[type[RMSNorm]] = RMSNorm  # around sublayers, and behind the last block
    vocab_size: int
    context_length: int
    d_model: int
    n_layers: int
    norm_eps: float
    tied_head: bool
    dropout: float

    def rope(self) -> RoPE | None:
        """From positions to rotations, where a model has them; raises for what no head of this size can have."""
        raise NotImplementedError

    @property
    def rotated(self) -> tuple[bool, ...]:
        """Whether a layer turns queries and keys by their positions, for each layer."""
        return (True,) * self.n_layers

    @property
    def local(self) -> dict[int, int]:
        """The window of each layer that has one."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig(DecoderSettings):
    """Sizes and choices of a modern decoder; a family derives from it, and declares its name and what it alone has."""

    architecture: ClassVar[str]
    norm_placement: ClassVar[NormPlacement] = "pre"
    joint_qk_norm: ClassVar[bool] = False  # over the features of all heads together

    vocab_size: int = 32000
    context_length: int = 2048
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int = 0  # 0: as many as n_heads
    d_head: int = 0  # 0: d_model / n_heads
    d_ff: int = 11008  # of each expert, where there are several
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_style: Style = "half"
    rope_scaling: RopeScaling | None = None
    d_rotary: int = 0  # features of a head that turn, the first ones; 0: all
    tied_head: bool = False
    dropout: float = 0.0  # on attention weights and sublayer outputs, while training; published models have none
    qkv_bias: bool = False  # on queries, keys and values
    o_bias: bool = False  # on what attention writes
    mlp_bias: bool = False
    qk_norm: bool = False  # RMSNorm of queries and keys, over the features of each head
    sliding_windows: tuple[int, ...] = ()  # latest tokens that each layer sees in turn, 0 for all
    experts: Experts | None = None

    def __post_init__(self) -> None:
        check_decoder(self)
        if self.d_rotary == self.d_head:
            object.__setattr__(self, "d_rotary", 0)
        self.rope()
        for name in ("qkv_bias", "o_bias", "mlp_bias", "qk_norm"):
            check_choice(self, name, (True, False))
        if self.mlp_bias and self.experts is not None:
            raise ConfigError("Experts have no biases: mlp_bias must be false.")
        for n in self.sliding_windows:
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**31:
                raise ConfigError(f"sliding_windows must be whole numbers from 0 to 2³¹ − 1, not {n!r}.")

    @property
    def n_experts(self) -> int:
        """How many experts a block has; 0 where its network is one."""
        return 0 if self.experts is None else self.experts.n

    def rope(self) -> RoPE:
        """From positions to rotations; raises for what no head of this size can have."""
        return RoPE(
            d_head=self.d_head,
            d_rotary=self.d_rotary,
            theta=self.rope_theta,
            style=self.rope_style,
            scaling=self.rope_scaling,
        )

    @property
    def local(self) -> dict[int, int]:
        """The window of each layer that has one."""
        sizes = self.sliding_windows or (0,)
        cycle = [sizes[i % len(sizes)] for i in range(self.n_layers)]
        return {i: n for i, n in enumerate(cycle) if n}


def check_decoder(config: Any, *, rotary: bool = True) -> None:
    """Raise for sizes that no decoder can have; a number of key-value heads or a d_head that is 0 follows from others.

    `rotary` says whether features turn in pairs.
    """
    if config.n_kv_heads == 0:
        object.__setattr__(config, "n_kv_heads", config.n_heads)
    check_sizes(config, "vocab_size", "context_length", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff")
    if config.d_head == 0:
        if config.d_model % config.n_heads:
            raise ConfigError(f"d_model {config.d_model} does not divide into {config.n_heads} heads; set d_head.")
        object.__setattr__(config, "d_head", config.d_model // config.n_heads)
    check_sizes(config, "d_head")
    check_choice(config, "tied_head", (True, False))
    check_fraction(config, "dropout")
    check_fraction(config, "norm_eps")
    check_choice(config, "rope_style", ("half", "interleaved"))
    if config.n_heads % config.n_kv_heads:
        raise ConfigError(f"n_heads {config.n_heads} is not a multiple of n_kv_heads {config.n_kv_heads}.")
    if rotary and config.d_head % 2:
        raise ConfigError(f"Rotary positions turn pairs of features, so d_head must be even, not {config.d_head}.")
    check_positive(config, "rope_theta")


class Decoder(nn.Module):
    """Tokens to the logits of the token after each; a family may have blocks, norms, a head or vectors of its own."""

    def __init__(self, config: DecoderSettings) -> None:
        super().__init__()
        self.config: Any = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.rope = config.rope()
        self.rotated = config.rotated
        self.rules: dict[int, Rule] = {i: Window(n) for i, n in config.local.items() if n < config.context_length}
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(self.new_block(layer) for layer in range(config.n_layers))
        self.final_norm = self.new_norm()
        self.lm_head = self.new_head()
        if config.tied_head:
            self.lm_head.weight = self.token_embedding.weight

    def new_block(self, layer: int) -> nn.Module:
        """One of the n_layers blocks; which tokens it sees is not its own affair."""
        return block(self.config)

    def new_norm(self) -> nn.Module:
        """The norm behind the last block."""
        norm: nn.Module = self.config.norm(self.config.d_model, eps=self.config.norm_eps)
        return norm

    def new_head(self) -> Linear:
        """From the last vector of each token to its logits."""
        return Linear(self.config.d_model, self.config.vocab_size, bias=False)

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """The vectors that the first block reads."""
        x: Tensor = self.token_embedding(tokens)
        return x

    def rotations(self, step: Step) -> list[Rotation | None]:
        """How queries and keys turn in each layer."""
        rotation = None if self.rope is None else step.rotation(self.rope)
        return [rotation if rotated else None for rotated in self.rotated]

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each, from what the last norm gives."""
        logits: Tensor = self.lm_head(x)
        return logits

    def begin(self, source: None, policy: Policy) -> KVCache:
        """An empty cache under a policy, in which a layer with a smaller window keeps that; there is no source text."""
        local = {i: window(n) for i, n in self.config.local.items() if n < policy.capacity}
        return KVCache(self.config.n_layers, policy, self.rope, local=local, rotated=self.rotated)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token. `state` remembers earlier tokens and takes these in; `valid` is False at padding."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: KVCache | None = None, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        step = (
            uncached(tokens, len(self.blocks), valid, local=self.rules) if state is None else state.step(tokens, valid)
        )
        rotations = self.rotations(step)
        x: Tensor = self.dropout(self.embed(tokens))
        for block, (mask, cache), rotation in zip(self.blocks, step.layers, rotations, strict=True):
            x = block(x, mask, rotation=rotation, cache=cache)
        x = self.final_norm(x)
        return x


def block(
    config: DecoderConfig,
    *,
    score_scale: float | None = None,
    residual_multiplier: float = 1.0,
    d_dense: int = 0,
) -> Block:
    """The block of a modern decoder; with `d_dense` it has one network of this width in place of experts."""
    experts = None if d_dense else config.experts
    return Block(
        attn_norm=config.norm(config.d_model, eps=config.norm_eps),
        attn=Attention(
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            d_head=config.d_head,
            bias=config.qkv_bias,
            o_bias=config.o_bias,
            q_norm=qk_norm(config, config.n_heads) if config.qk_norm else None,
            k_norm=qk_norm(config, config.n_kv_heads) if config.qk_norm else None,
            scale=score_scale,
            dropout=config.dropout,
        ),
        mlp_norm=config.norm(config.d_model, eps=config.norm_eps),
        mlp=(
            SwiGLU(config.d_model, d_dense or config.d_ff, bias=config.mlp_bias)
            if experts is None
            else MoE(config.d_model, config.d_ff, experts)
        ),
        norm_placement=config.norm_placement,
        residual_multiplier=residual_multiplier,
        dropout=config.dropout,
    )


def qk_norm(config: DecoderConfig, n_heads: int) -> RMSNorm:
    """The norm of queries, or of keys, which have so many heads."""
    if config.joint_qk_norm:
        return JointRMSNorm(n_heads * config.d_head, eps=config.norm_eps)
    return RMSNorm(config.d_head, eps=config.norm_eps)


def initialize(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """As GPT-2 starts, with the projections into the residual stream made smaller by the number of layers."""
    config: Any = model.config
    init_like_gpt2(model, generator, n_layers=config.n_layers)
