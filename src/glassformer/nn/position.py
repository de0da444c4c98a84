"""Positions that are added to the embeddings: sinusoidal ones. (Learned ones are an `Embedding` of positions.)"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Layout = Literal["interleaved", "halves", "tensor2tensor"]


def sinusoidal(positions: Int[Tensor, "*B"], d_model: int, layout: Layout = "interleaved") -> Float[Tensor, "*B C"]:
    """PE(p, 2i) = sin(p / 10000^(2i / C)), PE(p, 2i + 1) = cos of the same angle: "interleaved".

    Vaswani et al. 2017, §3.5 (arXiv:1706.03762). An odd C ends with a sine. Published models differ from the paper:

        halves          the same numbers, first all sines, then all cosines (Marian)
        tensor2tensor   halves too, and the last wavelength is 10000 itself: p / 10000^(i / (C/2 − 1)), for an even C
                        from 4 on (the paper's own code, fairseq, Whisper)
    """
    n_pairs = (d_model + 1) // 2
    pair = torch.arange(n_pairs, device=positions.device, dtype=torch.float64)
    exponent = pair / (n_pairs - 1) if layout == "tensor2tensor" else 2 * pair / d_model
    wavelengths = torch.exp(exponent * math.log(10_000.0))
    angles = positions[..., None] / wavelengths
    if layout == "interleaved":
        encoding = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    else:
        encoding = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return encoding[..., :d_model].float()
