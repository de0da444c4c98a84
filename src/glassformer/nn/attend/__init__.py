"""Scaled dot-product attention: one signature, several backends.

A backend is a file of this folder whose `BACKEND` names its function and says which calls it supports. All of them give
zeros to a query that may see nothing, and let k and v have fewer heads than q (grouped queries, Ainslie et al. 2023,
arXiv:2305.13245).
"""

import importlib
import pkgutil
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.nn.mask import Mask
from glassformer.twins import BACKENDS as BACKENDS
from glassformer.twins import backend_named, current
from glassformer.twins import register as register

for file in pkgutil.iter_modules(__path__):
    register(importlib.import_module(f"{__name__}.{file.name}").BACKEND)


def attend(
    q: Float[Tensor, "*B H T D"],
    k: Float[Tensor, "*B G S D"],
    v: Float[Tensor, "*B G S E"],
    mask: Mask,
    *,
    scale: float | None = None,
    bias: Float[Tensor, "*#B H T S"] | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*B H T E"]:
    """softmax(q kᵀ / √D) v over the allowed pairs, by the backend that `use(attention=…)` names.

    "auto" is the equation under `use("readable")`, and under `use("fast")` the first backend that supports the call.
    The keyword arguments are those of `naive`.

    The second of two tokens looks at both alike, since its scores are equal, and so gets the mean of their values:

    >>> import torch
    >>> from glassformer.nn.mask import Causal
    >>> q, k = torch.ones(1, 2, 4), torch.ones(1, 2, 4)  # one head, two positions, four features
    >>> v = torch.tensor([[[10.0], [20.0]]])
    >>> attend(q, k, v, Mask.over(Causal(), 2))
    tensor([[[10.],
             [15.]]])
    """
    choice = current()
    attending: Callable[..., Tensor]
    settings = {"scale": scale, "bias": bias, "softcap": softcap, "dropout": dropout}
    if choice.attention != "auto":
        attending = backend_named(choice.attention)  # which raises where it does not support the call
    elif choice.mode == "readable":
        attending = backend_named("naive").fn
    else:
        attending = next(backend.fn for backend in BACKENDS.values() if backend.supports(q, k, v, mask, **settings))
    out: Tensor = attending(q, k, v, mask, **settings)
    if out.shape != q.shape[:-1] + v.shape[-1:]:
        raise ConfigError(
            f"An attention backend gave the shape {tuple(out.shape)} for queries of {tuple(q.shape)} and values of "
            f"{tuple(v.shape)}: it must keep the queries' shape, with the values' features."
        )
    return out
