"""What the published files that tests read must be told, because none of their tensors tells it."""

from typing import Any

FAIRSEQ: dict[str, Any] = {"n_heads": 8, "activation": "relu", "scaled_embedding": True}
MNIST_VIT: dict[str, Any] = {"n_heads": 8, "n_channels": 1}  # vit_mnist.pth
MNIST_VIT_FLAGS = tuple(f"--option={name}={value}" for name, value in MNIST_VIT.items())
