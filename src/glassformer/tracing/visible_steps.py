"""Having torch take the written-out path where one kernel would do many steps at once that no rule explains.

The numbers may then differ from the plain run's in the last bits.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from glassformer.torch_internals import decomposition
from glassformer.tracing.rules import has_rule
from glassformer.tracing.schema import Schema

FUSED = {  # operations that are taken apart: all where that is asked for, else those without a rule
    *("addmm", "native_layer_norm", "_softmax", "_log_softmax", "_safe_softmax", "native_group_norm", "gelu", "silu"),
    *("glu", "mish", "hardswish", "hardsigmoid", "_prelu_kernel", "log_sigmoid_forward"),
    *("mse_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"),
}


def steps_of(operation: Any, schema: Schema, decompose: bool) -> Callable[..., Any] | None:
    """What runs instead of an operation that is a composition, or that is to be taken apart; None for all others."""
    if schema.composite:
        composition: Callable[..., Any] = operation.decompose
        return composition
    if schema.base in FUSED and (decompose or not has_rule(schema.base)):
        return decomposition(operation)
    return None


@contextmanager
def visible_steps(module: nn.Module, *, decompose: bool) -> Iterator[None]:
    """Without oneDNN's recurrent layers and the fast path of attention; with `decompose`, without fused attention."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    onednn = bool(torch.backends.mkldnn.enabled)

    def switch_onednn(enabled: bool) -> Callable[..., None]:
        return lambda *_: setattr(torch.backends.mkldnn, "enabled", enabled)

    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fastpath)
        stack.callback(switch_onednn(onednn))
        torch.backends.mha.set_fastpath_enabled(False)
        for part in module.modules():
            if isinstance(part, nn.RNNBase):
                stack.callback(part.register_forward_pre_hook(switch_onednn(False)).remove)
                stack.callback(part.register_forward_hook(switch_onednn(onednn), always_call=True).remove)
        if decompose:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield
