"""How a recording came about, kept so that `intervene.py` can run the module again on the same inputs."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassformer import twins
from glassformer.tracing.nested import copied

Call = Callable[..., Any]  # of a module and its inputs: what is recorded
Edit = Callable[[int, Tensor], Tensor]  # which of an operation's results, and the result: what it is replaced by


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a second run needs to begin as the first one."""

    module: nn.Module
    inputs: tuple[Any, ...]  # copies from before the run, which may have changed them: a cache grows
    keywords: dict[str, Any]
    settings: dict[str, Any]  # the other arguments of `record`
    edits: Mapping[int, Edit]
    choice: twins.Choice
    random_state: Tensor


def replay_of(
    module: nn.Module,
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    settings: dict[str, Any],
    edits: Mapping[int, Edit],
) -> Replay | None:
    """To be asked before the run; None where the inputs cannot be copied, so that no second run begins as this one."""
    try:
        inputs, keywords = copied((inputs, keywords))
    except (TypeError, RuntimeError, copy.Error):
        return None
    return Replay(
        module=_before_the_run(module),
        inputs=inputs,
        keywords=keywords,
        settings=settings,
        edits=edits,
        choice=twins.current(),
        random_state=torch.get_rng_state(),
    )


def _before_the_run(module: nn.Module) -> nn.Module:
    """The module, or a copy that shares its weights where it has a state that the run may change."""
    stateless = all(
        not any(True for _ in part.buffers(recurse=False))
        and not any(isinstance(value, Tensor) for value in vars(part).values())
        for part in module.modules()
    )
    if stateless:
        return module
    return copy.deepcopy(module, {id(weight): weight for weight in module.parameters()})
