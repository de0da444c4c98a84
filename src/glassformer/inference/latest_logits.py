"""The logits of a text's latest tokens alone: of a prompt the head, as wide as the vocabulary, reads one vector."""

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.models.spec import CausalModel, HasHead
from glassformer.torch_internals import hooks_of, hooks_of_all, is_compiled, is_observed


def latest_logits(
    module: CausalModel, tokens: Int[Tensor, "B T"], state: Any, valid: Bool[Tensor, "B T"] | None, n: int
) -> Float[Tensor, "B t V"]:
    """The logits after each of the n latest tokens, perhaps none; the state takes all of them in.

    Who watches the module sees it called as ever, with the logits of all.
    """
    first = max(tokens.shape[-1] - n, 0)
    if first and isinstance(module, HasHead) and not is_watched(module) and has_halves(module):
        return module.unembed(module.last_vectors(tokens, state, valid)[:, first:])
    logits = module(tokens, state, valid)
    return logits[:, max(logits.shape[-2] - n, 0) :]


def has_halves(module: Any) -> bool:
    """Whether its halves, and its parts', are those of their own forward, and not of one that a class has replaced."""
    halved = {type(part) for part in module.modules() if hasattr(part, "last_vectors")}
    return all(
        "last_vectors" in vars(next(owner for owner in each.__mro__ if "forward" in vars(owner))) for each in halved
    )


def is_watched(module: object) -> bool:
    """Whether a call of the module is more than its forward: hooks, a recording, another form."""
    if is_observed() or any(hooks_of_all()) or not isinstance(module, nn.Module) or is_compiled(module):
        return True
    return any(any(hooks_of(part)) or "forward" in vars(part) for part in module.modules())
