"""Attention: `tiled` and `sdpa` beside `naive`; `tiled` at several tile sizes. Run: python benchmarks/attention.py"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from paired import compare, save, seconds

from glassformer.nn.attend.naive import naive
from glassformer.nn.attend.sdpa import sdpa
from glassformer.nn.attend.tiled import tiled
from glassformer.nn.mask import Causal, Mask

HEADS, D_HEAD = 12, 64


def both_ways(
    attend: Callable[..., torch.Tensor], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Mask
) -> None:
    """Forward and backward."""
    torch.autograd.backward(attend(q, k, v, mask).sum())


def main() -> None:
    """Print and save the table."""
    rows: dict[str, Any] = {}
    for length in (512, 2048):
        q, k, v = (torch.randn(1, HEADS, length, D_HEAD, requires_grad=True) for _ in range(3))
        mask = Mask.over(Causal(), length)
        for name, backend in (("sdpa", sdpa), ("tiled", tiled)):
            row = compare(
                partial(both_ways, backend, q, k, v, mask), partial(both_ways, naive, q, k, v, mask), pairs=15
            )
            rows[f"{name} beside naive, forward and backward, T {length}"] = row
            print(f"{name:6} T {length:5}: {row} times as fast as naive, {row.ours * 1e3:.0f} ms")
    length = 4096
    q, k, v = (torch.randn(1, HEADS, length, D_HEAD) for _ in range(3))
    mask = Mask.over(Causal(), length)
    for tile in (64, 128, 256, 512, 1024):
        best = min(seconds(partial(tiled, q, k, v, mask, tile=tile)) for _ in range(3))
        rows[f"tiled forward, T {length}, tile {tile}, seconds"] = best
        print(f"tiled T {length}, tile {tile}: {best * 1e3:.0f} ms")
    save("attention", rows)


if __name__ == "__main__":
    main()
