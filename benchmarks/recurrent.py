"""Our recurrent layers beside torch.nn.RNN, GRU and LSTM of the same weights. Run: python benchmarks/recurrent.py"""

from collections.abc import Callable
from typing import Any

import torch
from paired import compare, save
from torch import nn

from glassformer.nn.recurrent import CellKind, Recurrent, to_torch

D_MODEL, LENGTH, BATCH = 128, 64, 32
KINDS: dict[CellKind, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def training(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Two passes forward and backward."""

    def run() -> None:
        for _ in range(2):
            module(x)[0].sum().backward()

    return run


def decoding(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One text, token by token."""

    @torch.inference_mode()
    def run() -> None:
        state = None
        for t in range(x.shape[1]):
            _, state = module(x[:1, t : t + 1], state)

    return run


def main() -> None:
    """Print and save the table."""
    rows = {}
    for kind, torchs in KINDS.items():
        ours, theirs = Recurrent(kind, D_MODEL, D_MODEL, 1), torchs(D_MODEL, D_MODEL, batch_first=True)
        theirs.load_state_dict(to_torch(ours.state_dict()))
        x = torch.randn(BATCH, LENGTH, D_MODEL)
        for phase in (training, decoding):
            row = compare(phase(ours, x), phase(theirs, x))
            rows[f"{kind}, {phase.__name__}"] = row
            print(f"{kind:5} {phase.__name__} {row} times as fast")
    save("recurrent", rows)


if __name__ == "__main__":
    main()
