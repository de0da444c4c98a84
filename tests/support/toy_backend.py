"""An attention backend from outside the package, in one file: one query after the other, in the memory of one row."""

import math
from typing import Any

import torch
from torch import Tensor

from glassformer.nn.attend import register
from glassformer.nn.attend.naive import repeat_kv
from glassformer.nn.mask import Mask
from glassformer.twins import Backend


def row_by_row(q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, scale: float | None = None, **_: Any) -> Tensor:
    k, v = repeat_kv(k, q.shape[-3]), repeat_kv(v, q.shape[-3])
    rows = []
    for t in range(q.shape[-2]):
        row = slice(t, t + 1)
        allowed = mask.allowed(row)
        scores = q[..., row, :] @ k.mT * (scale or 1 / math.sqrt(q.shape[-1]))
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        rows.append(weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0) @ v)
    return torch.cat(rows, -2)


def supports(
    *operands: Any, bias: Tensor | None = None, softcap: float | None = None, dropout: float = 0.0, **_: Any
) -> bool:
    return bias is None and softcap is None and dropout == 0


register(Backend(name="row-by-row", fn=row_by_row, supports=supports, priority=10))
