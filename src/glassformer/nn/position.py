"""Positions that are added to the embeddings: sinusoidal ones. (Learned ones are an `Embedding` of positions.)"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sinusoidal(positions: Int[Tensor, "*B"], d_model: int) -> Float[Tensor, "*B C"]:
    """PE(p, 2i) = sin(p / 10000^(2i / C)), PE(p, 2i + 1) = cos of the same angle.

    Vaswani et al. 2017, §3.5 (arXiv:1706.03762). An odd C ends with a sine.
    """
    pair = torch.arange((d_model + 1) // 2, device=positions.device, dtype=torch.float64)
    wavelengths = torch.exp(2 * pair / d_model * math.log(10_000.0))
    angles = positions[..., None] / wavelengths
    encoding = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return encoding[..., :d_model].float()


def sinusoidal_halves(positions: Int[Tensor, "*B"], d_model: int) -> Float[Tensor, "*B C"]:
    """All sines, then all cosines, of positions whose wavelengths grow from 2π to 10000 · 2π in equal ratios.

    The order of tensor2tensor's code, which Whisper took up. C must be even and at least 4.
    """
    half = d_model // 2
    step = torch.arange(half, device=positions.device, dtype=torch.float64)
    wavelengths = torch.exp(step / (half - 1) * math.log(10_000.0))
    angles = positions[..., None] / wavelengths
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()
