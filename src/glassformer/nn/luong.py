"""Luong's attention: a decoder's state looks back at the states of an encoder.

    scores     dot h · h̄, general h · W h̄, concat v · tanh(W [h; h̄])                    §3.1
    windows    global: the whole source; local-m: around the token's own place; local-p: around a place that the state
               predicts, the weights falling off as a Gaussian                           §3.2
    out        h̃ = tanh(W [c; h]), c being the mean of the encoder's states by the weights

Luong, Pham & Manning 2015 (arXiv:1508.04025). There h is the decoder's state, h̄ one of the encoder's (here a row of
`memory`), D the window's radius. That h̃ comes in again with the next token (input feeding, §3.3) is the decoder's
business: `models/seq2seq.py`.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn.linear import Linear

LuongWindow = Literal["global", "local-m", "local-p"]


class Luong(nn.Module):
    """One state of the decoder after the other becomes h̃, the attentional state."""

    def __init__(self, d_model: int, score: str, *, window: LuongWindow = "global", radius: int = 10) -> None:
        super().__init__()
        self.score = SCORES[score](d_model)
        self.window = window
        self.radius = radius
        self.centre = Centre(d_model) if window == "local-p" else None
        self.out_proj = Linear(2 * d_model, d_model, bias=False)

    def forward(
        self,
        h: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S C"],
        positions: Int[Tensor, "B T"],
        memory_positions: Int[Tensor, "B S"],
    ) -> Float[Tensor, "B T C"]:
        """h̃ = tanh(W [c; h]), eq. 5. Positions count the tokens of a text from 0; −1 in the memory marks padding."""
        weights = self.align(h, memory, positions, memory_positions)
        context = weights @ memory
        joined = torch.cat([context, h], dim=-1)
        attended = torch.tanh(self.out_proj(joined))
        return attended

    def align(
        self,
        h: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S C"],
        positions: Int[Tensor, "B T"],
        memory_positions: Int[Tensor, "B S"],
    ) -> Float[Tensor, "B T S"]:
        """The weight of each source token: eq. 7 within the window, and for local-p eq. 10.

        With local-p they add up to less than 1. A token whose window lies beyond the source gets zeros.
        """
        scores = self.score(h, memory)
        places = memory_positions[:, None]  # B 1 S
        allowed = (places >= 0).expand(scores.shape)
        if self.window == "global":
            return masked_softmax(scores, allowed)
        centre = positions[..., None] if self.centre is None else self.centre(h, memory_positions)
        distance = places - centre
        near = allowed & (distance.abs() <= self.radius)
        weights = masked_softmax(scores, near)
        if self.window == "local-p":
            deviation = self.radius / 2
            gaussian = torch.exp(-distance * distance / (2 * deviation * deviation))
            weights = weights * gaussian
        return weights


class Centre(nn.Module):
    """p = S · σ(vᵀ tanh(W h)), the place in a source of S tokens around which a state looks. Eq. 9."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.h_proj = Linear(d_model, d_model, bias=False)
        self.v_proj = Linear(d_model, 1, bias=False)

    def forward(self, h: Float[Tensor, "B T C"], memory_positions: Int[Tensor, "B S"]) -> Float[Tensor, "B T 1"]:
        """The place p of each token's window, a number from 0 to S."""
        length = (memory_positions >= 0).sum(-1)[:, None, None]
        hidden = torch.tanh(self.h_proj(h))
        centre = length * torch.sigmoid(self.v_proj(hidden))
        return centre


class Dot(nn.Module):
    """score(h, h̄) = hᵀ h̄."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, h: Float[Tensor, "B T C"], memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B T S"]:
        """hᵀ h̄ for each pair."""
        return h @ memory.mT


class General(nn.Module):
    """score(h, h̄) = hᵀ W h̄."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.memory_proj = Linear(d_model, d_model, bias=False)

    def forward(self, h: Float[Tensor, "B T C"], memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B T S"]:
        """hᵀ W h̄ for each pair."""
        turned: Tensor = self.memory_proj(memory)
        return h @ turned.mT


class Concat(nn.Module):
    """score(h, h̄) = vᵀ tanh(W [h; h̄]), where W [h; h̄] = W₁ h + W₂ h̄ with the two halves of W."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.h_proj = Linear(d_model, d_model, bias=False)
        self.memory_proj = Linear(d_model, d_model, bias=False)
        self.v_proj = Linear(d_model, 1, bias=False)

    def forward(self, h: Float[Tensor, "B T C"], memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B T S"]:
        """vᵀ tanh(W [h; h̄]) for each pair."""
        from_h = self.h_proj(h)[:, :, None]
        from_memory = self.memory_proj(memory)[:, None]
        hidden = torch.tanh(from_h + from_memory)  # B T S C
        scores: Tensor = self.v_proj(hidden)[..., 0]
        return scores


SCORES: dict[str, type[Dot] | type[General] | type[Concat]] = {"dot": Dot, "general": General, "concat": Concat}


def masked_softmax(scores: Float[Tensor, "B T S"], allowed: Bool[Tensor, "B T S"]) -> Float[Tensor, "B T S"]:
    """The softmax over the allowed entries of each row; a row that has none gets zeros."""
    sees_any = allowed.any(-1, keepdim=True)
    scores = scores.masked_fill(~allowed & sees_any, -torch.inf)
    weights = F.softmax(scores)
    return weights.masked_fill(~sees_any, 0.0)
