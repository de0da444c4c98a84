"""Memory by its address: what a kernel reads that is told where a model's numbers lie, and what threads share.

numba has no atomic operations for threads of its own; they are written here in LLVM's words. An address is checked by
nobody: whoever hands one on keeps the memory alive.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numpy.typing import NDArray

LONG = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()
Longs = NDArray[np.int64]  # at an address, in kernels


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """What kernels call, from what says its types and writes its code."""
    called: Callable[..., Any] = extending.intrinsic(function)
    return called


@intrinsic
def floats(typing: Any, address: Any) -> Any:
    """The float32 numbers that begin at an address."""
    return _pointer(types.float32, address)


@intrinsic
def doubles(typing: Any, address: Any) -> Any:
    """The float64 numbers that begin at an address."""
    return _pointer(types.float64, address)


@intrinsic
def longs(typing: Any, address: Any) -> Any:
    """The int64 numbers that begin at an address."""
    return _pointer(types.int64, address)


@intrinsic
def address_of(typing: Any, pointer: Any) -> Any:
    """Where what a pointer points at begins."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], LONG)

    return types.int64(pointer), generate


def _pointer(number: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(number)(types.int64), generate  # type: ignore[no-untyped-call]


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Let the line at an address come into the second cache, for who reads it soon; it need not be memory of ours.

    The first one has no room for it beside the vectors of a batch.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_prefetch(builder, builder.inttoptr(args[0], BYTES), 2)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def prefetch_in(typing: Any, array: Any, place: Any) -> Any:
    """The same of what is at a place of an array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        emit_prefetch(builder, builder.bitcast(builder.gep(data, [args[1]]), BYTES), 3)
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


def emit_prefetch(builder: Any, pointer: Any, nearness: int) -> None:
    """Let what is at a pointer come into the second cache and those behind it (2), or into the first one, too (3)."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [BYTES, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", [BYTES], kind)
    builder.call(function, [pointer, number(0), number(nearness), number(1)])  # to read, data


@intrinsic
def read(typing: Any, address: Any) -> Any:
    """The number at an address that other threads write; what they wrote before it is seen, too."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_shared(builder, args[0]), "seq_cst", align=8)

    return types.int64(types.int64), generate


@intrinsic
def write(typing: Any, address: Any, number: Any) -> Any:
    """Put a number where other threads read it, with all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _shared(builder, args[0]), "seq_cst", align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def add_to(typing: Any, address: Any, number: Any) -> Any:
    """Add to the number at an address, whoever else does; what it was before comes back."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _shared(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def compare_and_swap(typing: Any, address: Any, before: Any, after: Any) -> Any:
    """Whether a number was `before`; it then is `after`, and no other thread came in between."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _shared(builder, args[0])
        return builder.extract_value(builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst"), 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def let_others_run(typing: Any) -> Any:
    """Give up the processor where another thread waits for it."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.IntType(32), []), name
        )
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


def _shared(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, LONG.as_pointer())
