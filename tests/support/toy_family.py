"""A family of models from outside the package, in one file: attention and MLP side by side (GPT-J), no positions."""

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor, nn

from glassformer import models
from glassformer.models.spec import ModelSpec, check_heads, check_sizes
from glassformer.nn import attention, embedding, feedforward, kv_cache, linear, mask, norm


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    architecture: ClassVar[str] = "toy"
    vocab_size: int = 3
    context_length: int = 11
    d_model: int = 24
    n_layers: int = 2
    n_heads: int = 3

    def __post_init__(self) -> None:
        check_sizes(self, *(field.name for field in fields(self)))
        check_heads(self)


class ToyBlock(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.attn_norm = norm.LayerNorm(config.d_model)
        self.attn = attention.Attention(config.d_model, config.n_heads)
        self.mlp = feedforward.MLP(config.d_model, 4 * config.d_model, "gelu")

    def forward(self, x: Tensor, mask: mask.Mask, cache: kv_cache.LayerStep | None) -> Tensor:
        y = self.attn_norm(x)
        x = x + self.attn(y, mask, cache=cache) + self.mlp(y)
        return x


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = embedding.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(ToyBlock(config) for _ in range(config.n_layers))
        self.lm_head = linear.Linear(config.d_model, config.vocab_size)

    def begin(self, source: None, policy: kv_cache.Policy) -> kv_cache.KVCache:
        return kv_cache.KVCache(self.config.n_layers, policy)

    def forward(self, tokens: Tensor, state: kv_cache.KVCache | None = None, valid: Tensor | None = None) -> Tensor:
        step = kv_cache.uncached(tokens, len(self.blocks), valid) if state is None else state.step(tokens, valid)
        x = self.token_embedding(tokens)
        for block, (allowed, cache) in zip(self.blocks, step.layers, strict=True):
            x = block(x, allowed, cache)
        logits: Tensor = self.lm_head(x)
        return logits


models.register(ModelSpec(config=ToyConfig, module=Toy, presets={"toy-sort": ToyConfig()}))
