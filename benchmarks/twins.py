"""What each fast twin gains over its readable equation: in training, in decoding, and while a prompt is read.

Run: python benchmarks/twins.py [training] [decoding] [prefill]   (what a run does not measure stays from earlier ones)

A last row has `linear` beside torch's own while a prompt is read.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from paired import compare, save, saved_rows
from torch import nn

from glassformer.nn import functional as F
from glassformer.twins import Mode, use

D_MODEL, VOCAB = 384, 4096
# rows: the tokens of a small batch, the one token of a step, a prompt
SIZES = {"training": 768, "decoding": 1, "prefill": 512}
CALLS = {"training": 10, "decoding": 1000, "prefill": 20}


def cases(rows: int) -> dict[str, Callable[[], torch.Tensor]]:
    """A call of each twinned function at the sizes of a small model."""
    x = torch.randn(rows, D_MODEL, requires_grad=True)
    weight = torch.randn(4 * D_MODEL, D_MODEL, requires_grad=True)
    wide_bias = torch.randn(4 * D_MODEL, requires_grad=True)
    scale, shift = torch.randn(D_MODEL, requires_grad=True), torch.randn(D_MODEL, requires_grad=True)
    table = torch.randn(VOCAB, D_MODEL, requires_grad=True)
    tokens = torch.randint(VOCAB, (rows,))
    logits = torch.randn(rows, VOCAB, requires_grad=True)
    return {
        "linear": lambda: F.linear(x, weight, wide_bias),
        "embedding": lambda: F.embedding(tokens, table),
        "softmax": lambda: F.softmax(logits),
        "log_softmax": lambda: F.log_softmax(logits),
        "layer_norm": lambda: F.layer_norm(x, scale, shift),
        "rms_norm": lambda: F.rms_norm(x, scale),
        "relu": lambda: F.relu(x),
        "gelu": lambda: F.gelu(x),
        "gelu_tanh": lambda: F.gelu_tanh(x),
        "silu": lambda: F.silu(x),
        "cross_entropy": lambda: F.cross_entropy(logits, tokens),
    }


def run(call: Callable[[], torch.Tensor], mode: Mode, phase: str) -> None:
    """Some times forward in one mode, in training backward, too."""
    with use(mode), torch.set_grad_enabled(phase == "training"):
        for _ in range(CALLS[phase]):
            result = call()
            if phase == "training":
                torch.autograd.backward(result.sum())


def main(phases: Sequence[str]) -> None:
    """Print and save the table."""
    rows = saved_rows("twins")
    for phase in phases or SIZES:
        for name, call in cases(SIZES[phase]).items():
            row = compare(partial(run, call, "fast", phase), partial(run, call, "readable", phase))
            rows[f"{name}, {phase}"] = row
            print(f"{name:14} {phase} {row} times as fast")
    if not phases or "prefill" in phases:
        x, layer = torch.randn(SIZES["prefill"], 2 * D_MODEL), nn.Linear(2 * D_MODEL, 8 * D_MODEL)
        ours, theirs = partial(F.linear, x, layer.weight, layer.bias), partial(layer, x)
        row = compare(partial(run, ours, "fast", "prefill"), partial(run, theirs, "fast", "prefill"))
        rows["linear, prefill, beside torch's"] = row
        print(f"linear         prefill {row} times as fast as torch's")
    save("twins", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
