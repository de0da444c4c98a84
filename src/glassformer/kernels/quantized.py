"""Products of quantized matrices with vectors: whole numbers of 4 or 8 bits, multiplied and added up as such.

A matrix lies in tiles of 16 rows, one tile after the other. Of each group of 32 columns a tile has 8 runs of 64 bytes,
in each of which every row has 4 neighbouring columns, so that one instruction multiplies 16 rows by 4 numbers of a
vector. In 4 bits a byte has column i of a group in its low half and column i + 16 in its high half, as in ggml's
blocks; there are 4 runs then. The vectors are rounded to 8 bits, each group of 32 by a scale of its own.

What LLVM does not find by itself is said in its own words: the instruction that multiplies bytes and adds them up four
by four, where the processor has one (`instructions`). All places are addresses, which nobody checks. The readable
twins are in `nn/quantized.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from glassformer.kernels import Callback, inlined, njit
from glassformer.kernels.memory import Longs, add_to, emit_prefetch, floats, let_others_run, longs, read

GROUP = 32  # columns that share a scale
TILE = 16  # rows
# How a matrix is quantized, by ggml's names. Scales are float16, (tiles, groups, 16), and so are the offsets that Q4_1
# has; in Q4_0 the level 8 stands for 0.
Q8_0, Q4_0, Q4_1 = range(3)

I8, I16, I32, I64, F32 = *(ir.IntType(n) for n in (8, 16, 32, 64)), ir.FloatType()
BYTES, SUMS = ir.VectorType(I8, 64), ir.VectorType(I32, TILE)
REALS, HALVES = ir.VectorType(F32, TILE), ir.VectorType(ir.HalfType(), TILE)
AHEAD = 2048  # bytes; levels come from memory sooner where they are asked for before they are read
FUSED = ("contract",)  # a product and a sum may be one instruction


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


def _quantize_group(typing_context: Any, x: Any, q: Any, scale: Any, total: Any) -> Any:
    """Round 32 numbers: q = x / scale, the largest being ±127; `total` is the sum of q."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        reals, whole, of_bytes = (ir.VectorType(kind, GROUP) for kind in (F32, I32, I8))
        kinds = (reals, of_bytes, F32, I32)
        x, q, scale, total = (_at(builder, kind, each) for kind, each in zip(kinds, arguments, strict=True))

        def call(name: str, result: ir.Type, operand: ir.Value) -> ir.Value:
            return builder.call(_declared(builder, f"llvm.{name}", result, [operand.type]), [operand])

        numbers = builder.load(x, align=4)
        sizes = builder.bitcast(call("fabs.v32f32", reals, numbers), whole)  # in the order of the numbers, NaN last
        largest = builder.bitcast(call("vector.reduce.umax.v32i32", I32, sizes), F32)
        is_zero = builder.fcmp_ordered("==", largest, F32(0))
        inverse = builder.select(is_zero, F32(0), builder.fdiv(F32(127), largest))
        steps = call("rint.v32f32", reals, builder.fmul(numbers, _splat(builder, inverse, reals)))
        levels = call("fptosi.sat.v32i32.v32f32", whole, steps)
        builder.store(builder.trunc(levels, of_bytes), q, align=1)
        builder.store(builder.fdiv(largest, F32(127)), scale, align=4)
        builder.store(call("vector.reduce.add.v32i32", I32, levels), total, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


def _tile_product(
    typing_context: Any,
    kind: Any,
    n: Any,
    levels: Any,
    scale: Any,
    offset: Any,
    n_groups: Any,
    q: Any,
    q_scale: Any,
    q_total: Any,
    out: Any,
    width: Any,
) -> Any:
    """The products of a tile with n vectors, float32, `width` numbers after each other; kind and n are constants."""
    name, n_vectors = kind.literal_value, n.literal_value
    bits = 8 if name == Q8_0 else 4

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        levels, scale, offset, n_groups, q, q_scale, q_total, out, width = arguments[2:]
        at_zero = I32(0 if name == Q4_1 else -_zero(bits))
        before = builder.block
        loop, done = builder.append_basic_block("groups"), builder.append_basic_block("product")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(I64)
        group.add_incoming(I64(0), before)
        products = [builder.phi(REALS) for _ in range(n_vectors)]
        for product in products:
            product.add_incoming(REALS([0.0] * TILE), before)

        groups = [builder.add(group, builder.mul(I64(i), n_groups)) for i in range(n_vectors)]  # of each vector
        totals = [builder.load(_at(builder, I32, q_total, each), align=4) for each in groups]
        sums = [_splat(builder, builder.mul(total, at_zero), SUMS) for total in totals]
        for run in range(bits):
            place = _at(builder, BYTES, levels, builder.add(builder.mul(group, I64(bits)), I64(run)))
            ahead = builder.bitcast(builder.gep(place, [I64(AHEAD // 64)]), I8.as_pointer())
            emit_prefetch(builder, ahead, 2)
            data = builder.load(place, align=1)
            for quad, of_rows in _levels(builder, data, run, bits):
                for i, each in enumerate(groups):
                    place = builder.add(builder.mul(each, I64(GROUP // 4)), I64(quad))
                    four = builder.load(_at(builder, I32, q, place), align=1)
                    sums[i] = _dot(builder, sums[i], of_rows, builder.bitcast(_splat(builder, four, SUMS), BYTES))

        following = builder.add(group, I64(1))
        group.add_incoming(following, builder.block)
        results = []
        for each, product, added, total in zip(groups, products, sums, totals, strict=True):
            step = builder.load(_at(builder, F32, q_scale, each), align=4)
            result = builder.fmul(_splat(builder, step, REALS), builder.sitofp(added, REALS), flags=FUSED)
            result = builder.fmul(_halves(builder, scale, group), result, flags=FUSED)
            if name == Q4_1:
                of_vector = _splat(builder, builder.fmul(step, builder.sitofp(total, F32)), REALS)
                least = builder.fmul(_halves(builder, offset, group), of_vector, flags=FUSED)
                result = builder.fadd(result, least, flags=FUSED)
            results.append(builder.fadd(product, result, flags=FUSED))
            product.add_incoming(results[-1], builder.block)
        builder.cbranch(builder.icmp_signed("<", following, n_groups), loop, done)

        builder.position_at_end(done)
        for i, result in enumerate(results):
            first = builder.add(out, builder.mul(I64(4 * i), width))
            builder.store(result, _at(builder, REALS, first), align=4)
        return context.get_dummy_value()

    return types.void(kind, n, *[types.int64] * 9), generate


quantize_group: Any = intrinsic(_quantize_group)
tile_product: Any = intrinsic(prefer_literal=True)(_tile_product)


def _at(builder: ir.IRBuilder, kind: ir.Type, address: ir.Value, i: ir.Value | None = None) -> ir.Value:
    """A pointer to the i-th of the things of a kind that begin at an address."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    return pointer if i is None else builder.gep(pointer, [i])


def _halves(builder: ir.IRBuilder, address: ir.Value, group: ir.Value) -> ir.Value:
    """A group's 16 numbers of half precision, as float32."""
    return builder.fpext(builder.load(_at(builder, HALVES, address, group), align=2), REALS)


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
def quantize_rows(x: int, n_rows: int, n_groups: int, q: int, scale: int, total: int) -> None:
    """Round n_rows vectors of n_groups · 32 float32 numbers to int8, with a float32 scale and an int32 sum for each
    group. One with a number that is infinite or none has such a scale."""
    for group in range(n_rows * n_groups):
        quantize_group(x + 4 * GROUP * group, q + GROUP * group, scale + 4 * group, total + 4 * group)


def _multiplication(kind: int) -> Callable[..., None]:
    """`multiply_tiles` for matrices of a kind."""
    bits, has_offsets = 8 if kind == Q8_0 else 4, kind == Q4_1

    def multiply(
        levels: int,
        scale: int,
        offset: int,
        n_groups: int,
        q: int,
        q_scale: int,
        q_total: int,
        n_rows: int,
        out: int,
        width: int,
        lo: int,
        hi: int,
    ) -> None:
        for tile in range(lo, hi):
            w, s = levels + 64 * bits * n_groups * tile, scale + 2 * TILE * n_groups * tile
            o = offset + 2 * TILE * n_groups * tile if has_offsets else 0
            row = 0
            while row < n_rows:
                at = n_groups * row
                x, x_scale, x_total = q + GROUP * at, q_scale + 4 * at, q_total + 4 * at
                y = out + 4 * (width * row + TILE * tile)
                if row + AT_ONCE <= n_rows:
                    tile_product(kind, AT_ONCE, w, s, o, n_groups, x, x_scale, x_total, y, width)
                    row += AT_ONCE
                elif row + FEWER <= n_rows:
                    tile_product(kind, FEWER, w, s, o, n_groups, x, x_scale, x_total, y, width)
                    row += FEWER
                else:
                    tile_product(kind, 1, w, s, o, n_groups, x, x_scale, x_total, y, width)
                    row += 1

    multiply.__qualname__ += f"-{kind}"  # files of its own: two processes that compile at once must not mix the kinds
    return njit(multiply)


multiply_q8_0, multiply_q4_0, multiply_q4_1 = map(_multiplication, (Q8_0, Q4_0, Q4_1))


@inlined
def multiply_tiles(
    kind: int,
    levels: int,
    scale: int,
    offset: int,
    n_groups: int,
    q: int,
    q_scale: int,
    q_total: int,
    n_rows: int,
    out: int,
    width: int,
    lo: int,
    hi: int,
) -> None:
    """The rows 16 lo to 16 hi − 1 of a matrix times n_rows vectors that are quantized, one result `width` numbers after
    the other. A matrix whose last tile is not full has results for its missing rows, too."""
    if kind == Q8_0:
        multiply_q8_0(levels, scale, offset, n_groups, q, q_scale, q_total, n_rows, out, width, lo, hi)
    elif kind == Q4_0:
        multiply_q4_0(levels, scale, offset, n_groups, q, q_scale, q_total, n_rows, out, width, lo, hi)
    else:
        multiply_q4_1(levels, scale, offset, n_groups, q, q_scale, q_total, n_rows, out, width, lo, hi)


# ---- a product in several threads

# Of a product: what its threads count, each number in a line of the caches of its own; then sizes and addresses.
NEXT, DONE = 0, 8
(
    X, N_ROWS, N_GROUPS, Q, Q_SCALE, Q_TOTAL, KIND, LEVELS, SCALE, OFFSET, BIAS, OUT, WIDTH, N_OUT, N_TILES,
    ROW_CHUNKS, TILE_CHUNKS,
) = range(16, 33)  # fmt: skip
N_PRODUCT = 40
PATIENCE = 2_000  # looks after which a thread that waits lets others run


@njit
def multiply(address: int) -> None:
    """Vectors in float32 times a matrix, plus a bias; it returns when all is done, whoever else takes part.

    First the vectors are rounded, so many of them at once, then come the tiles.
    """
    product = longs(address)
    n_row_chunks, n_tile_chunks = product[ROW_CHUNKS], product[TILE_CHUNKS]
    chunk = add_to(address + 8 * NEXT, 1)
    while chunk < n_row_chunks + n_tile_chunks:
        if chunk < n_row_chunks:
            n = product[N_ROWS]
            round_some(product, chunk * n // n_row_chunks, (chunk + 1) * n // n_row_chunks)
        else:
            wait_until(address + 8 * DONE, n_row_chunks)
            n, i = product[N_TILES], chunk - n_row_chunks
            multiply_some(product, i * n // n_tile_chunks, (i + 1) * n // n_tile_chunks)
        add_to(address + 8 * DONE, 1)
        chunk = add_to(address + 8 * NEXT, 1)
    wait_until(address + 8 * DONE, n_row_chunks + n_tile_chunks)


def _multiply(address: int) -> None:
    multiply(address)


MULTIPLY = Callback(_multiply)


@inlined
def wait_until(count: int, least: int) -> None:
    """Until the number at an address has come so far."""
    looks = 0
    while read(count) < least:
        looks += 1
        if looks % PATIENCE == 0:
            let_others_run()


@inlined
def round_some(product: Longs, lo: int, hi: int) -> None:
    """The vectors lo to hi − 1, to 8 bits."""
    n_groups = product[N_GROUPS]
    first = n_groups * lo
    x, q = product[X] + 4 * GROUP * first, product[Q] + GROUP * first
    quantize_rows(x, hi - lo, n_groups, q, product[Q_SCALE] + 4 * first, product[Q_TOTAL] + 4 * first)


@inlined
def multiply_some(product: Longs, lo: int, hi: int) -> None:
    """The tiles lo to hi − 1 of the matrix times all vectors."""
    out, width, n_rows = product[OUT], product[WIDTH], product[N_ROWS]
    multiply_tiles(
        product[KIND],
        product[LEVELS],
        product[SCALE],
        product[OFFSET],
        product[N_GROUPS],
        product[Q],
        product[Q_SCALE],
        product[Q_TOTAL],
        n_rows,
        out,
        width,
        lo,
        hi,
    )
    if product[BIAS]:
        bias = floats(product[BIAS])
        for row in range(n_rows):
            y = floats(out + 4 * row * width)
            for i in range(TILE * lo, min(TILE * hi, product[N_OUT])):
                y[i] += bias[i]
