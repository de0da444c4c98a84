"""The sorting task of Karpathy's minGPT: six letters of A, B, C, then the same letters in order.

    C B A B B C A B B B C      eleven tokens: the six given, and the first five of the answer
              ^                from the sixth on, the token to predict is the answer's next letter

All 3⁶ = 729 inputs exist, so that a model can be checked on every one of them, those it never saw included.
"""

from itertools import product

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

LETTERS = "ABC"
LENGTH = 6  # letters to sort
CONTEXT_LENGTH = 2 * LENGTH - 1  # the last letter of the answer is predicted, never read
IGNORED = -100  # the index that cross-entropy passes over


def all_inputs() -> Int[Tensor, "729 6"]:
    """Every input, in alphabetical order."""
    return torch.tensor(list(product(range(len(LETTERS)), repeat=LENGTH)))


def split(seed: int = 0) -> tuple[Int[Tensor, "547 6"], Int[Tensor, "182 6"]]:
    """Three quarters of the inputs to train on, and the quarter held out, drawn by a seeded shuffle."""
    inputs = all_inputs()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(inputs)))
    n_train = -(-len(inputs) * 3 // 4)
    return inputs[order[:n_train]], inputs[order[n_train:]]


def example(inputs: Int[Tensor, "B 6"]) -> tuple[Int[Tensor, "B 11"], Int[Tensor, "B 11"]]:
    """The tokens that a model reads, and the targets, which count from the answer's first letter on.

    >>> tokens, targets = example(torch.tensor([[2, 1, 0, 1, 1, 2]]))  # CBABBC, and then ABBBCC
    >>> tokens.tolist()
    [[2, 1, 0, 1, 1, 2, 0, 1, 1, 1, 2]]
    >>> targets.tolist()
    [[-100, -100, -100, -100, -100, 0, 1, 1, 1, 2, 2]]
    """
    whole = torch.cat([inputs, inputs.sort(-1).values], dim=-1)
    tokens, targets = whole[:, :-1], whole[:, 1:].clone()
    targets[:, : LENGTH - 1] = IGNORED
    return tokens, targets


def random_batch(
    inputs: Int[Tensor, "N 6"], batch_size: int, *, seed: int, step: int, micro_step: int = 0
) -> tuple[Int[Tensor, "B 11"], Int[Tensor, "B 11"]]:
    """Examples drawn with replacement: a pure function of seed, step and micro-step."""
    chosen = np.random.default_rng((seed, step, micro_step)).integers(len(inputs), size=batch_size)
    return example(inputs[torch.from_numpy(chosen)])
