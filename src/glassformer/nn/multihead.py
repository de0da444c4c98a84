"""The drop-in for `torch.nn.MultiheadAttention`: its arguments, its parameters' names and its outputs.

It takes the place of torch's module in a program that stands, and loads its weights. It holds all scores at once; our
own models use `attention.py`, whose backends need not.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn import functional as F
from glassformer.nn.attention import merge_heads, split_heads
from glassformer.nn.linear import Linear


class MultiheadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head₁ … head_H) Wᴼ, headᵢ = softmax(QWᵢ (KWᵢ)ᵀ / √D) VWᵢ.

    Vaswani et al. 2017, §3.2.2 (arXiv:1706.03762), under torch's contract. L queries look at S keys in N rows:

        argument           shape             True, or a number, at a place means
        attn_mask          (L, S)            bool: query l may not look at key s; float: added to that score
                           (N · H, L, S)     the same for each row and head; row n, head h at n · H + h
        key_padding_mask   (N, S), or (S,)   bool: key s is padding; float: added to all scores of key s
        is_causal          a hint            attn_mask, which must be given, is the causal one; it is read all the same

    `dropout` falls on the weights while training. `bias` is that of all four projections. `add_bias_kv` appends one
    learned key and value, `add_zero_attn` a key and a value of zeros; every query sees these. `kdim` and `vdim` are the
    features of keys and values, where they differ from `embed_dim`. With `batch_first` rows come first, (N, L, E), else
    positions, (L, N, E); inputs without an axis for rows may be given too.

    One departure: a query that may look at nothing gets weights of 0, where torch's kernels give NaN or 0.
    """

    bias_k: Tensor | None
    bias_v: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ConfigError(f"embed_dim and num_heads must be greater than 0, not {embed_dim} and {num_heads}.")
        if embed_dim % num_heads:
            raise ConfigError(f"embed_dim {embed_dim} must be divisible by num_heads {num_heads}.")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be a probability from 0 up to, not including, 1, not {dropout}.")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        together = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if together else None
        self.q_proj_weight = None if together else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if together else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if together else parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias).to(device=device, dtype=dtype)
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self._reset_parameters()

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """Whether torch's encoder layers, which ask, may attend in our place by a fused kernel with these weights."""
        return self.in_proj_weight is not None and self.bias_k is None and not self.add_zero_attn

    def merge_masks(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
    ) -> tuple[Tensor | None, int | None]:
        """The one mask that those layers give their kernel, and its kind: 1 is of keys (N, S), 2 (N, H, L, S)."""
        if attn_mask is None:
            return key_padding_mask, None if key_padding_mask is None else 1
        n, length, _ = query.shape
        by_head = attn_mask if attn_mask.dim() == 2 else attn_mask.view(n, self.num_heads, length, length)
        merged = by_head.expand(n, self.num_heads, length, length)
        return (merged if key_padding_mask is None else merged + key_padding_mask[:, None, None, :]), 2

    def _reset_parameters(self) -> None:
        """Draw the weights from torch's distributions (Glorot & Bengio 2010; He et al. 2015); biases start at 0."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                nn.init.xavier_normal_(row)

    def forward(
        self,
        query: Float[Tensor, "*any_L E"],
        key: Float[Tensor, "*any_S K"],
        value: Float[Tensor, "*any_S W"],
        key_padding_mask: Bool[Tensor, "*N S"] | Float[Tensor, "*N S"] | None = None,
        need_weights: bool = True,
        attn_mask: Bool[Tensor, "*NH L S"] | Float[Tensor, "*NH L S"] | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Float[Tensor, "*any_L E"], Float[Tensor, "... L S1"] | None]:
        """The outputs, and with `need_weights` the weights after dropout: their mean over the heads, or all of them."""
        if is_causal and attn_mask is None:
            raise ConfigError("is_causal is a hint about attn_mask, which must be given with it.")
        batched = query.dim() == 3
        if not query.dim() == key.dim() == value.dim():
            raise ConfigError("query, key and value must all have an axis for the batch, or none of them.")
        query, key, value = (
            self._rows_first(x, name) for x, name in ((query, "query"), (key, "key"), (value, "value"))
        )
        self._check_inputs(query, key, value)
        mask = self._scores_to_add(query, key, key_padding_mask, attn_mask, batched=batched)

        q, k, v = self._project(query, key, value)
        extra_k, extra_v = self._extra_keys(k)
        k = torch.cat([k, *extra_k], dim=1)
        v = torch.cat([v, *extra_v], dim=1)
        q = split_heads(q, self.num_heads)  # N H L D
        k = split_heads(k, self.num_heads)
        v = split_heads(v, self.num_heads)
        scores = q @ k.mT / math.sqrt(self.head_dim)
        if mask is not None:
            for_extra = mask.new_zeros(*mask.shape[:-1], len(extra_k))
            mask = torch.cat([mask, for_extra], dim=-1)
            sees_any = (mask > -torch.inf).any(-1, keepdim=True)
            scores = scores + mask.where(sees_any, 0.0)
            weights = F.softmax(scores)
            weights = weights.where(sees_any, 0.0)
        else:
            weights = F.softmax(scores)
        if self.training and self.dropout > 0:
            weights = F.dropout(weights, self.dropout)
        out = merge_heads(weights @ v)
        out = self.out_proj(out)

        if not batched:
            out, weights = out[0], weights[0]
        elif not self.batch_first:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(-3) if average_attn_weights else weights

    def _rows_first(self, x: Tensor, name: str) -> Tensor:
        """(N, L, E), whichever way the input came."""
        if x.dim() not in (2, 3):
            raise ConfigError(f"{name} must have 2 axes, or 3 with one for the batch; this one has {x.dim()}.")
        if x.dim() == 2:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def _check_inputs(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        wanted = {"query": (query, self.embed_dim), "key": (key, self.kdim), "value": (value, self.vdim)}
        for name, (x, features) in wanted.items():
            if x.shape[-1] != features:
                raise ConfigError(f"{name} has {x.shape[-1]} features; this attention was built for {features}.")
            if len(x) != len(query):
                raise ConfigError(f"{name} has {len(x)} rows, but query has {len(query)}.")
        if key.shape[1] != value.shape[1]:
            raise ConfigError(f"There are {key.shape[1]} keys but {value.shape[1]} values; each key needs its value.")

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q Wq + bq, K Wk + bk, V Wv + bv; torch keeps the three biases in one tensor, and weights of one width too."""
        q_weight, k_weight, v_weight = self._projections()
        q_bias, k_bias, v_bias = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q = F.linear(query, q_weight, q_bias)
        k = F.linear(key, k_weight, k_bias)
        v = F.linear(value, v_weight, v_bias)
        return q, k, v

    def _projections(self) -> Sequence[Tensor]:
        if self.in_proj_weight is not None:
            return self.in_proj_weight.chunk(3)
        assert self.q_proj_weight is not None
        assert self.k_proj_weight is not None
        assert self.v_proj_weight is not None
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _extra_keys(self, k: Float[Tensor, "N S E"]) -> tuple[list[Tensor], list[Tensor]]:
        """The keys and the values that `add_bias_kv` and `add_zero_attn` append, as (N, 1, E)."""
        shape = (len(k), 1, self.embed_dim)
        extra_k, extra_v = [], []
        if self.bias_k is not None and self.bias_v is not None:
            extra_k.append(self.bias_k.expand(shape))
            extra_v.append(self.bias_v.expand(shape))
        if self.add_zero_attn:
            extra_k.append(k.new_zeros(shape))
            extra_v.append(k.new_zeros(shape))
        return extra_k, extra_v

    def _scores_to_add(
        self, query: Tensor, key: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, *, batched: bool
    ) -> Float[Tensor, "#N #H #L S"] | None:
        """Both masks as one tensor of numbers to add to the scores: −∞ where a pair is forbidden."""
        (n, length), n_keys = query.shape[:2], key.shape[1]
        added: Tensor | None = None
        if attn_mask is not None:
            allowed_shapes = [(length, n_keys), (n * self.num_heads, length, n_keys)]
            if tuple(attn_mask.shape) not in allowed_shapes:
                raise ConfigError(
                    f"attn_mask must be {allowed_shapes[0]} or {allowed_shapes[1]}, not {_shape(attn_mask)}."
                )
            added = as_numbers(attn_mask, query.dtype, "attn_mask")
            added = added.reshape(n, self.num_heads, length, n_keys) if added.dim() == 3 else added[None, None]
        if key_padding_mask is not None:
            wanted = (n, n_keys) if batched else (n_keys,)
            if tuple(key_padding_mask.shape) != wanted:
                raise ConfigError(f"key_padding_mask must be {wanted}, not {_shape(key_padding_mask)}.")
            padding = as_numbers(key_padding_mask, query.dtype, "key_padding_mask").reshape(n, 1, 1, n_keys)
            added = padding if added is None else added + padding
        return added


def as_numbers(mask: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """A mask as numbers to add: 0 and −∞ for False and True."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
    if not mask.is_floating_point():
        raise ConfigError(f"{name} must hold bool or floating point numbers, not {mask.dtype}.")
    return mask.to(dtype)


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
