"""What processors do and numba has no name for: 64 bytes at once, the lowest bit and the highest.

The few instructions are given to numba in the form that it makes of all kernels; every processor has some that do it,
64 bytes perhaps by 16 or 32.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

N_BYTES = 64


def _in_range(_context: Any, data: Any, start: Any, low: Any, n: Any) -> Any:
    """A bit for each of 64 bytes of `data` from `start` on, from the lowest on: is it one of the `n` from `low` on?"""
    vector = ir.VectorType(ir.IntType(8), N_BYTES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        bytes_, low, n = builder.load(place, align=1), *(_each(builder, vector, value) for value in arguments[2:])
        return builder.bitcast(builder.icmp_unsigned("<", builder.sub(bytes_, low), n), ir.IntType(64))

    return types.uint64(data, types.uint64, types.uint8, types.uint8), generate


def _each(builder: Any, vector: Any, value: Any) -> Any:
    """A vector of 64 times the value."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), N_BYTES), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _lowest(_context: Any, number: Any) -> Any:
    """The place of the lowest bit that is set, 64 if none is."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


def _highest(_context: Any, number: Any) -> Any:
    """The place of the highest bit that is set, of a number that has one."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

    return types.int64(types.uint64), generate


in_range: Any = intrinsic(_in_range)
lowest: Any = intrinsic(_lowest)
highest: Any = intrinsic(_highest)
