"""What each fast twin gains over its readable equation, forward and backward. Run: python benchmarks/twins.py"""

from collections.abc import Callable

import torch
from paired import compare, save

from glassformer.nn import functional as F
from glassformer.twins import use

ROWS, D_MODEL, VOCAB = 768, 384, 4096


def cases() -> dict[str, Callable[[], torch.Tensor]]:
    """A call of each twinned function at the sizes of a small model in training."""
    x = torch.randn(ROWS, D_MODEL, requires_grad=True)
    weight = torch.randn(4 * D_MODEL, D_MODEL, requires_grad=True)
    wide_bias = torch.randn(4 * D_MODEL, requires_grad=True)
    scale, shift = torch.randn(D_MODEL, requires_grad=True), torch.randn(D_MODEL, requires_grad=True)
    table = torch.randn(VOCAB, D_MODEL, requires_grad=True)
    tokens = torch.randint(VOCAB, (ROWS,))
    logits = torch.randn(ROWS, VOCAB, requires_grad=True)
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


def run(call: Callable[[], torch.Tensor], mode: str) -> None:
    """Ten times forward and backward in one mode."""
    with use(mode):
        for _ in range(10):
            call().sum().backward()


def main() -> None:
    """Print and save the table."""
    rows = {}
    for name, call in cases().items():
        row = compare(lambda c=call: run(c, "fast"), lambda c=call: run(c, "readable"), pairs=15)
        rows[name] = row
        print(f"{name:14} {row} times as fast, {row.ours * 100:.2f} ms")
    save("twins", rows)


if __name__ == "__main__":
    main()
