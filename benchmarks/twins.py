"""What each fast twin gains over its readable equation, in training and in decoding. Run: python benchmarks/twins.py"""

from collections.abc import Callable
from functools import partial

import torch
from paired import compare, save

from glassformer.nn import functional as F
from glassformer.twins import Mode, use

D_MODEL, VOCAB = 384, 4096
SIZES = {"training": 768, "decoding": 1}  # rows: the tokens of a small batch, and the one token of a step


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
    """Ten times forward and backward in one mode; of decoding, a thousand times forward alone."""
    with use(mode), torch.set_grad_enabled(phase == "training"):
        for _ in range(10 if phase == "training" else 1000):
            result = call()
            if phase == "training":
                torch.autograd.backward(result.sum())


def main() -> None:
    """Print and save the table."""
    rows = {}
    for phase, n_rows in SIZES.items():
        for name, call in cases(n_rows).items():
            row = compare(partial(run, call, "fast", phase), partial(run, call, "readable", phase))
            rows[f"{name}, {phase}"] = row
            print(f"{name:14} {phase} {row} times as fast")
    save("twins", rows)


if __name__ == "__main__":
    main()
