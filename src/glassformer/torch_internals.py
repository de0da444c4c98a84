"""The private interfaces of torch that this package uses, all of them: what a new torch may break is here.

Each is one function that says why nothing public serves. `tests/test_torch_internals.py` holds each to what it
promises, and sees that no other file reaches into torch.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

DispatchMode = TorchDispatchMode  # sees every operation that reaches a kernel; only its module has a private name

# torch only notes that these are to be done when the numbers are read, which a window into a storage does not show: the
# operations that do them at once. Their names are private where those that call them, `conj` and `neg`, are public.
AT_ONCE: dict[Any, Any] = {
    torch.ops.aten._conj.default: torch.ops.aten._conj_physical.default,
    torch.ops.aten._neg_view.default: torch.ops.aten.neg.default,
}


def undispatched() -> AbstractContextManager[Any]:
    """Operations inside are seen by no mode: copies that a mode makes for itself are no part of what it watches."""
    return no_dispatch()


def storage_key(storage: Any) -> int:
    """A number that two storages share only if they are the same memory, as long as both are alive.

    `data_ptr` would be public, but all empty storages have 0 there, and one that grows moves.
    """
    key: int = storage._cdata
    return key


def version(tensor: Tensor) -> int:
    """How many times a tensor's memory has been written into; autograd counts. Not for tensors of inference mode."""
    count: int = tensor._version
    return count


def is_observed() -> bool:
    """Whether a mode sees, or changes, the operations of this thread; torch tells nobody else."""
    return bool(torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack())


def hooks_of(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """The hooks around a module's forward, as they come and go: torch has no public list of them."""
    return module._forward_hooks, module._forward_pre_hooks


def hooks_of_all() -> tuple[Mapping[int, Any], ...]:
    """Those around the forward of every module of the process, which torch lets others set and nobody list."""
    return nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks


def contents_of(module: nn.Module) -> tuple[dict[str, Any], ...]:
    """A module's children, parameters and buffers by their names, as they change; what is public is a copy."""
    return module._modules, module._parameters, module._buffers


def declaration(operation: Any) -> Any:
    """What an operation declares of itself: names, defaults and which arguments it writes into."""
    return operation._schema


def is_composite(operation: Any) -> bool:
    """Whether an operation is but a composition of others, with no kernel of its own, so that it can be taken apart."""
    has_kernel: bool = torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")
    return has_kernel


def decomposition(operation: Any) -> Callable[..., Any]:
    """The steps of an operation that has a kernel, as torch's own compiler writes them out. Loads hundreds of them."""
    from torch._decomp import decomposition_table

    return decomposition_table[operation]


def is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` or TorchScript runs this module, so that its Python is not what is executed."""
    compiled = hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
    return compiled or isinstance(module, torch.jit.ScriptModule)


def takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `onednn_linear` may stand for `linear` here: nobody differentiates, watches or compiles it."""
    return (
        not torch.is_grad_enabled()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and min(x.numel(), weight.numel()) > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not (is_observed() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    )


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b in float32 by oneDNN, which torch has and takes for other types alone: MKL leaves a tenth of what an AMD
    processor could do (`benchmarks/twins.py`)."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
