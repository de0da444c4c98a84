"""Scaled dot-product attention: one signature, several backends.

A backend is a function `(q, k, v, mask, dropout) -> out` and a line in `BACKENDS`. All of them give zeros to a query
that may see nothing, and let k and v have fewer heads than q (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from glassformer.nn.attend.naive import naive
from glassformer.nn.attend.sdpa import sdpa
from glassformer.nn.attend.tiled import tiled
from glassformer.nn.mask import Mask
from glassformer.twins import current

Backend = Callable[[Tensor, Tensor, Tensor, Mask, float], Tensor]

BACKENDS: dict[str, Backend] = {
    "naive": naive,  # the equation
    "tiled": tiled,  # FlashAttention, to be read: memory linear in length
    "sdpa": sdpa,  # torch's fused kernels
}


def attend(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    dropout: float = 0.0,
) -> Float[Tensor, "*B H T E"]:
    """softmax(q kᵀ / √D) v over the allowed pairs, by the backend that `use(attention=…)` names."""
    return BACKENDS[resolve()](q, k, v, mask, dropout)


def resolve() -> str:
    """The backend that runs: "auto" is the equation under `use("readable")`, torch's kernels under `use("fast")`."""
    choice = current()
    if choice.attention == "auto":
        return "naive" if choice.mode == "readable" else "sdpa"
    return choice.attention
