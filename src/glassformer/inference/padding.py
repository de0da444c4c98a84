"""Texts of different lengths as one batch: padding on the left for prompts, on the right for sources."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"] | None]:
    """The prompts as one array that ends with their last tokens, and where it holds tokens (None: everywhere)."""
    tokens, valid = right_padded([torch.tensor(prompt).flip(0) for prompt in prompts])
    return tokens.flip(-1), valid if valid is None else valid.flip(-1)


def right_padded(texts: Sequence[Int[Tensor, " _"]]) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"] | None]:
    """The texts as one array that begins with their first tokens, and where it holds tokens (None: everywhere)."""
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    valid = torch.arange(tokens.shape[-1]) < lengths[:, None]
    return tokens, None if valid.all() else valid
