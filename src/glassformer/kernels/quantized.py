"""Products of quantized matrices with vectors: whole numbers of 4 or 8 bits, multiplied and added up as such.

A matrix lies in tiles of 16 rows. Of each group of 32 columns a tile has 8 runs of 64 bytes, in each of which every
row has 4 neighbouring columns, so that one instruction multiplies 16 rows by 4 numbers of a vector. In 4 bits a byte
has the column i of a group in its low half and the column i + 16 in its high half, as in ggml's blocks; there are 4
runs then. The vectors are rounded to 8 bits, each group of 32 by a scale of its own.

What LLVM does not find by itself is said in its own words: the instruction that multiplies and adds bytes four by
four, where the processor has one (`instructions`). The readable twin is `nn/quantized.py::linear`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from glassformer.kernels import inlined, njit

Array = npt.NDArray[Any]

GROUP = 32  # columns that share a scale
TILE = 16  # rows
I8, I16, I32, I64, F32 = *(ir.IntType(n) for n in (8, 16, 32, 64)), ir.FloatType()
BYTES, SUMS = ir.VectorType(I8, 64), ir.VectorType(I32, TILE)
REALS, HALVES = ir.VectorType(F32, TILE), ir.VectorType(ir.HalfType(), TILE)


def instructions(features: str | None = None) -> str:
    """Which instructions multiply bytes on this processor, or on one of such features, as LLVM names them.

    numba compiles for the processor that it runs on; NUMBA_CPU_FEATURES says otherwise.
    """
    if features is None:
        features = cpu_target.target_context.codegen().magic_tuple()[2]
    has = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    if {"avx512vnni", "avx512bw", "avx512vl"} <= has:
        return "AVX512-VNNI"
    if "avxvnni" in has:
        return "AVX-VNNI"
    if "dotprod" in has:
        return "NEON dot product"
    return "AVX2" if "avx2" in has else "plain"


# Vectors that are multiplied with what is in the registers of a tile: AVX-512 has 32 of 64 bytes, others half as much.
AT_ONCE = 8 if instructions() == "AVX512-VNNI" else 4
FEWER = AT_ONCE // 2


# ---- in LLVM's words


@intrinsic  # type: ignore[untyped-decorator]
def _quantize_group(typing_context: Any, x: Any, q: Any, scale: Any, total: Any, row: Any, group: Any) -> Any:
    """Round a group of x: q = x / scale, the largest being ±127; `total` is the sum of q."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        x, q, scale, total = (
            _Place(context, builder, *each) for each in zip(signature.args[:4], arguments[:4], strict=True)
        )
        row, group = arguments[4:]
        column = builder.mul(group, I64(GROUP))
        reals, whole, of_bytes = (ir.VectorType(kind, GROUP) for kind in (F32, I32, I8))

        def call(name: str, result: ir.Type, operand: ir.Value) -> ir.Value:
            return builder.call(_declared(builder, f"llvm.{name}", result, [operand.type]), [operand])

        numbers = builder.load(x.at(row, column, reals), align=4)
        largest = call("vector.reduce.fmaximum.v32f32", F32, call("fabs.v32f32", reals, numbers))
        is_zero = builder.fcmp_ordered("==", largest, F32(0))
        inverse = builder.select(is_zero, F32(0), builder.fdiv(F32(127), largest))
        steps = call("rint.v32f32", reals, builder.fmul(numbers, _splat(builder, inverse, reals)))
        levels = call("fptosi.sat.v32i32.v32f32", whole, steps)
        builder.store(builder.trunc(levels, of_bytes), q.at(row, column, of_bytes), align=1)
        builder.store(builder.fdiv(largest, F32(127)), scale.at(row, group, F32), align=4)
        builder.store(call("vector.reduce.add.v32i32", I32, levels), total.at(row, group, I32), align=4)
        return context.get_dummy_value()

    return types.void(x, q, scale, total, row, group), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _tile_product(
    typing_context: Any,
    n: Any,
    levels: Any,
    scale: Any,
    offset: Any,
    q: Any,
    q_scale: Any,
    q_total: Any,
    tile: Any,
    first: Any,
    out: Any,
) -> Any:
    """The products of a tile with n vectors, the `first` of them and those behind it, as float32."""
    bits = 8 if levels.dtype == types.int8 else 4
    has_groups, has_offset = scale.dtype == types.uint16, not isinstance(offset, types.NoneType)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        weights, scale, offset, q, q_scale, q_total, out = (
            None if isinstance(kind, types.NoneType) else _Place(context, builder, kind, value)
            for kind, value in zip(
                (*signature.args[1:7], signature.args[9]), (*arguments[1:7], arguments[9]), strict=True
            )
        )
        tile = arguments[7]
        rows = [builder.add(arguments[8], I64(i)) for i in range(n.literal_value)]
        before = builder.block
        loop, done = builder.append_basic_block("groups"), builder.append_basic_block("product")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(I64)
        group.add_incoming(I64(0), before)
        products = [builder.phi(REALS) for _ in rows]
        for product in products:
            product.add_incoming(REALS([0.0] * TILE), before)

        totals = [builder.load(q_total.at(row, group, I32), align=4) for row in rows]
        at_zero = I32(0 if has_offset else -_zero(bits))
        sums = [_splat(builder, builder.mul(total, at_zero), SUMS) for total in totals]
        for run in range(bits):
            data = builder.load(weights.at(tile, group, BYTES, 64 * run), align=1)
            for quad, of_rows in _levels(builder, data, run, bits):
                column = builder.add(builder.mul(group, I64(GROUP)), I64(4 * quad))
                for i, row in enumerate(rows):
                    four = builder.load(q.at(row, column, I32), align=1)
                    sums[i] = _dot(builder, sums[i], of_rows, builder.bitcast(_splat(builder, four, SUMS), BYTES))

        following = builder.add(group, I64(1))
        group.add_incoming(following, builder.block)
        results = []
        for row, product, added, total in zip(rows, products, sums, totals, strict=True):
            step = builder.load(q_scale.at(row, group, F32), align=4)
            result = builder.fmul(_splat(builder, step, REALS), builder.sitofp(added, REALS), flags=FUSED)
            if has_groups:
                result = builder.fmul(_halves(builder, scale.at(tile, group, HALVES)), result, flags=FUSED)
            if has_offset:
                of_q = builder.fmul(step, builder.sitofp(total, F32))
                least = _halves(builder, offset.at(tile, group, HALVES))
                result = builder.fadd(
                    result, builder.fmul(least, _splat(builder, of_q, REALS), flags=FUSED), flags=FUSED
                )
            results.append(builder.fadd(product, result, flags=FUSED))
            product.add_incoming(results[-1], builder.block)
        builder.cbranch(builder.icmp_signed("<", following, weights.shape[1]), loop, done)

        builder.position_at_end(done)
        for row, result in zip(rows, results, strict=True):
            of_rows = None if has_groups else builder.load(scale.at(tile, I64(0), REALS), align=4)
            scaled = result if of_rows is None else builder.fmul(of_rows, result)
            builder.store(scaled, out.at(row, builder.mul(tile, I64(TILE)), REALS), align=4)
        return context.get_dummy_value()

    return types.void(n, levels, scale, offset, q, q_scale, q_total, tile, first, out), generate


FUSED = ("contract",)  # a product and a sum may be one instruction


class _Place:
    """An array whose later axes are packed, in memory."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.start = builder, builder.ptrtoint(array.data, I64)
        self.shape, self.strides = (
            [builder.extract_value(each, i) for i in range(kind.ndim)] for each in (array.shape, array.strides)
        )

    def at(self, i: ir.Value, j: ir.Value, kind: ir.Type, n_bytes: int = 0) -> ir.Value:
        """A pointer to something of this kind, so many bytes behind index (i, j)."""
        builder = self.builder
        within = builder.add(builder.mul(i, self.strides[0]), builder.mul(j, self.strides[1]))
        address = builder.add(builder.add(self.start, within), I64(n_bytes))
        return builder.inttoptr(address, kind.as_pointer())


def _halves(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """16 numbers of half precision, as float32."""
    return builder.fpext(builder.load(pointer, align=2), REALS)


def _levels(builder: ir.IRBuilder, data: ir.Value, run: int, bits: int) -> list[tuple[int, ir.Value]]:
    """What stands in a run, as the instruction takes it, and which four columns of the group it is."""
    if bits == 8:
        return [(run, builder.xor(data, BYTES([0x80] * 64)) if _is_unsigned() else data)]
    return [(run, builder.and_(data, BYTES([15] * 64))), (run + 4, builder.lshr(data, BYTES([4] * 64)))]


def _zero(bits: int) -> int:
    """The level that stands for 0."""
    return 8 if bits == 4 else 128 if _is_unsigned() else 0


def _is_unsigned() -> bool:
    """Whether the instruction takes levels from 0 on; others take them with their signs."""
    return instructions() in ("AVX512-VNNI", "AVX-VNNI")


def _dot(builder: ir.IRBuilder, sums: ir.Value, levels: ir.Value, q: ir.Value) -> ir.Value:
    """Each of 16 sums, and the products of four levels with four numbers of a vector."""
    match instructions():
        case "AVX512-VNNI":
            return _by_instruction(builder, "llvm.x86.avx512.vpdpbusd.512", 16, [sums, levels, q])
        case "AVX-VNNI":
            return _by_instruction(builder, "llvm.x86.avx512.vpdpbusd.256", 8, [sums, levels, q])
        case "NEON dot product":
            return _by_instruction(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, [sums, levels, q])
        case "AVX2":
            return builder.add(sums, _in_parts(builder, 8, [levels, q], lambda *part: _by_avx2(builder, *part)))
    wide = ir.VectorType(I16, 64)
    pairs = [_every_second(builder, builder.sext(each, wide)) for each in (levels, q)]
    products = [
        builder.mul(*(builder.sext(part[i], ir.VectorType(I32, 32)) for part in pairs)) for i in (0, 1)
    ]  # which LLVM knows for one instruction, with their sum
    return builder.add(sums, builder.add(*_every_second(builder, builder.add(*products))))


def _every_second(builder: ir.IRBuilder, vector: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The entries at even places, and those at odd ones."""
    n = vector.type.count
    even, odd = (
        builder.shuffle_vector(vector, vector, ir.VectorType(I32, n // 2)(list(range(start, n, 2)))) for start in (0, 1)
    )
    return even, odd


def _by_instruction(builder: ir.IRBuilder, name: str, width: int, operands: Sequence[ir.Value]) -> ir.Value:
    """16 sums by an instruction that adds to so many at once."""
    sums, of_bytes = ir.VectorType(I32, width), ir.VectorType(I8, 4 * width)
    operand = sums if name.startswith("llvm.x86") else of_bytes  # by words of four bytes, as every LLVM reads it
    function = _declared(builder, name, sums, [sums, operand, operand])

    def call(of_sums: ir.Value, *of_operands: ir.Value) -> ir.Value:
        return builder.call(function, [of_sums, *(builder.bitcast(each, operand) for each in of_operands)])

    return _in_parts(builder, width, operands, call)


def _by_avx2(builder: ir.IRBuilder, levels: ir.Value, q: ir.Value) -> ir.Value:
    """8 sums of four products: the first factor without its sign, which the second one takes, since |level| · 127 · 2
    is less than 2¹⁵."""
    of_bytes, of_pairs, sums = (ir.VectorType(each, n) for each, n in ((I8, 32), (I16, 16), (I32, 8)))
    levels, q = (builder.bitcast(each, of_bytes) for each in (levels, q))
    size = builder.call(
        _declared(builder, "llvm.abs.v32i8", of_bytes, [of_bytes, ir.IntType(1)]), [levels, ir.IntType(1)(0)]
    )
    turned = builder.call(_declared(builder, "llvm.x86.avx2.psign.b", of_bytes, [of_bytes, of_bytes]), [q, levels])
    pairs = builder.call(
        _declared(builder, "llvm.x86.avx2.pmadd.ub.sw", of_pairs, [of_bytes, of_bytes]), [size, turned]
    )
    add = _declared(builder, "llvm.x86.avx2.pmadd.wd", sums, [of_pairs, of_pairs])
    return builder.call(add, [pairs, of_pairs([1] * 16)])


def _in_parts(
    builder: ir.IRBuilder, width: int, operands: Sequence[ir.Value], function: Callable[..., ir.Value]
) -> ir.Value:
    """16 words, so many by each call of a function of as many words of the operands."""
    words = [builder.bitcast(each, SUMS) for each in operands]
    if width == TILE:
        return function(*words)
    parts = []
    for start in range(0, TILE, width):
        places = ir.VectorType(I32, width)(list(range(start, start + width)))
        parts.append(function(*(builder.shuffle_vector(each, each, places) for each in words)))
    while len(parts) > 1:
        n = parts[0].type.count
        together = ir.VectorType(I32, 2 * n)(list(range(2 * n)))
        parts = [builder.shuffle_vector(a, b, together) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _declared(builder: ir.IRBuilder, name: str, result: ir.Type, operands: Sequence[ir.Type]) -> ir.Function:
    """An intrinsic function of LLVM's."""
    functions = builder.module.globals
    return functions.get(name) or ir.Function(builder.module, ir.FunctionType(result, operands), name)


def _splat(builder: ir.IRBuilder, number: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A vector with this number everywhere."""
    first = builder.insert_element(kind(ir.Undefined), number, I32(0))
    return builder.shuffle_vector(first, kind(ir.Undefined), ir.VectorType(I32, kind.count)([0] * kind.count))


# ---- what others call


@inlined
def quantize_rows(x: Array, q: Array, scale: Array, total: Array) -> None:
    """Round vectors (n, columns) to `q`, with a scale for each group, and the sum of a group's `q`.

    The columns are a multiple of 32. A group with a number that is infinite or none has such a scale.
    """
    for row in range(x.shape[0]):
        for group in range(scale.shape[1]):
            _quantize_group(x, q, scale, total, row, group)


@inlined
def tiles_product(
    levels: Array,
    scale: Array,
    offset: Array | None,
    q: Array,
    q_scale: Array,
    q_total: Array,
    out: Array,
    lo: int,
    hi: int,
) -> None:
    """The rows of the tiles lo to hi − 1 of a matrix, times the vectors, in `out` (n, 16 · tiles) as float32.

    `levels` are (tiles, groups, 8, 16, 4) int8, or (tiles, groups, 4, 16, 4) uint8 of two numbers. `scale` is
    (tiles, 16) float32 for whole rows, or (tiles, groups, 16) float16, given as uint16; then `offset` may be too.
    """
    for tile in range(lo, hi):
        row = 0
        while row + AT_ONCE <= q.shape[0]:
            _tile_product(AT_ONCE, levels, scale, offset, q, q_scale, q_total, tile, row, out)
            row += AT_ONCE
        if row + FEWER <= q.shape[0]:
            _tile_product(FEWER, levels, scale, offset, q, q_scale, q_total, tile, row, out)
            row += FEWER
        while row < q.shape[0]:
            _tile_product(1, levels, scale, offset, q, q_scale, q_total, tile, row, out)
            row += 1


@njit
def quantize(x: Array, q: Array, scale: Array, total: Array) -> None:
    """`quantize_rows`, for callers in Python."""
    quantize_rows(x, q, scale, total)


@njit
def product(
    levels: Array,
    scale: Array,
    offset: Array | None,
    q: Array,
    q_scale: Array,
    q_total: Array,
    out: Array,
    lo: int,
    hi: int,
) -> None:
    """`tiles_product`, for callers in Python."""
    tiles_product(levels, scale, offset, q, q_scale, q_total, out, lo, hi)
