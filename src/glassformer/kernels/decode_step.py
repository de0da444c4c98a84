"""One decode step of a whole decoder: from the next token of each row to its logits, in one call.

A model is tables of numbers: where its matrices and norms lie in memory, and what each layer does with them. Nothing
is compiled for one model's sizes, so that one compilation serves all models.

Several threads take part in a step. The first that comes leads: it goes from phase to phase, such as the product that
gives a layer's queries, keys and values. A phase is divided into chunks, and each thread takes the next chunk that is
left, until none is. The leader waits for those alone who have taken one: a thread may come late or never, and the step
is made all the same.
"""

import math

import numpy as np

from glassformer.kernels import Callback, inlined, njit, reordered
from glassformer.kernels.memory import (
    Longs,
    add_to,
    address_of,
    compare_and_swap,
    doubles,
    floats,
    let_others_run,
    longs,
    prefetch,
    read,
    write,
)
from glassformer.kernels.quantized import GROUP as NEIGHBOURS
from glassformer.kernels.quantized import TILE, multiply_tiles, quantize_rows

# A step: what its threads share, each number that several write in a line of the caches of its own; then sizes and
# addresses of tables.
TICKET, DONE, IS_OPEN, HAS_LEADER = 0, 8, 16, 17
PHASE, LAYER, N_CHUNKS, MATRIX, N_MATRICES, SOURCE, TARGET, WIDTH = range(24, 32)  # what the phase is
(
    N_THREADS, N_ROWS, N_PADDED, N_LAYERS, N_POLICIES, N_ROPES, N_PAIRS, IS_HALF, D_MODEL, D_FF, QKV_WIDTH,
    MIXED_WIDTH, N_SCORES, TOKEN_TABLE, PLACE_TABLE, FINAL_NORM, HEAD,
    MODEL_NUMBERS, MATRICES, NORMS, LAYERS, NUMBERS, CACHES, POLICIES, FREQUENCIES, TOKENS, POSITIONS, ANGLES,
    X, NORMED, BESIDE, QKV, MIXED, HIDDEN, ADDED, SCORES, LOGITS, LOGITS_WIDTH,
    ROUNDED, ROUNDED_SCALES, ROUNDED_TOTALS,  # what a product reads, in 8 bits
    EMBEDDING_NORM, MEMORIES, MEMORY_LENGTH,  # beside an encoder
    MEMORY_MASK, SCORE_BIAS, BIAS_WIDTH,  # is added to scores: of the memory 0 or −∞, of the text by its heads; 0: none
    N_TEXTS, FIRST_ROWS,  # whose tokens the rows are: those of a text stand in a row, in its order
) = range(32, 81)  # fmt: skip
N_STEP = 88
PRODUCT, ACTIVATED, GATED, ATTENTION, CROSS_ATTENTION = range(5)  # phases
EMBEDDING_SCALE, LOGIT_SCALE, LOGIT_CAP, AMPLITUDE = range(4)  # numbers of the model, float32
WEIGHT, BIAS, ROWS, COLUMNS, LEVELS, SCALE, OFFSET = range(7)  # of a matrix; its kind of levels, -1 of float32
N_MATRIX = 7
NORM_KIND, NORM_WEIGHT, NORM_BIAS, NORM_SIZE, NORM_EPSILON = range(5)  # of a norm; ε in units of 2⁻⁶⁰
N_NORM = 5
LAYER_NORM, RMS_NORM, UNIT_OFFSET_RMS_NORM = range(3)
(
    QUERY, KEY, VALUE, OUT, GATE, UP, DOWN,  # numbers of matrices; the first three in a row, as are gate and up
    ATTN_BEFORE, ATTN_ADDED, ATTN_AFTER, MLP_BEFORE, MLP_ADDED, MLP_AFTER, QUERY_NORM, KEY_NORM,  # of norms
    N_HEADS, N_KV_HEADS, D_HEAD, ACTIVATION, IS_PARALLEL, IS_JOINT, ROPE, POLICY,
    CROSS_QUERY, CROSS_OUT, CROSS_BEFORE, CROSS_ADDED, CROSS_AFTER,  # of cross-attention: matrices and norms
) = range(28)  # of a layer; -1: none  # fmt: skip
N_LAYER = 28
RELU, SILU, GELU, GELU_TANH = range(4)
SCORE_SCALE, SOFTCAP, MULTIPLIER, CROSS_SCALE = range(4)  # numbers of a layer, float32
N_NUMBERS = 4
KEYS, VALUES, SINKS, SLOTS, SINK_SLOTS = range(5)  # of a layer's cache: addresses of its buffers, and their slots
N_CACHE = 5
MEMORY_KEYS, MEMORY_VALUES, OF_ROW, OF_HEAD, OF_SLOT = range(5)  # of a layer's memory: addresses, and strides of both
N_MEMORY = 5
CAPACITY, N_SINKS = range(2)  # of a policy
N_POLICY = 2

LEFT = (1 << 24) - 1  # of a ticket: the chunks that are left; the bits above number the phases
CHUNK, SMALL_CHUNK = 1 << 18, 1 << 15  # bytes of weights: a long read is the faster, a short one is soon waited for
CHUNKS = 4  # for each thread, where they are not small
LINE = 64  # bytes that come from memory at once
AHEAD = 2048  # bytes; a row comes from memory sooner where it is asked for before it is read
GROUP = 4  # rows of the batch that a product takes at once
PATIENCE = 2_000  # looks at a ticket after which a thread lets others run


@njit
def take_part(address: int) -> None:
    """Lead the step that lies at an address, if it is open and nobody does, or help until it is made."""
    step = longs(address)
    if compare_and_swap(field(step, HAS_LEADER), 0, 1):
        lead(step)
    else:
        assist(step)


def _take_part(address: int) -> None:
    take_part(address)


TAKE_PART = Callback(_take_part)


@njit
def lead(step: Longs) -> None:
    """Make the step."""
    embed(step)
    turn(step)
    x, normed, added, width = step[X], step[NORMED], step[ADDED], step[D_MODEL]
    for i in range(step[N_LAYERS]):
        layer = longs(step[LAYERS] + 8 * N_LAYER * i)
        source = normalise(step, layer[ATTN_BEFORE], x, normed)
        choose_matrices(step, PRODUCT, i, layer[QUERY], 3)
        multiply(step, source, step[QKV], step[QKV_WIDTH])
        beside = x
        if layer[IS_PARALLEL]:
            beside = normalise(step, layer[MLP_BEFORE], x, step[BESIDE])
        if layer[IS_JOINT]:
            normalise_jointly(step, i)
        step[PHASE], step[LAYER] = ATTENTION, i
        share(step, step[N_TEXTS] * layer[N_KV_HEADS])
        choose_matrices(step, PRODUCT, i, layer[OUT], 1)
        multiply(step, step[MIXED], added, width)
        add(step, i, layer[ATTN_ADDED], layer[ATTN_AFTER])
        if layer[CROSS_QUERY] >= 0:
            source = normalise(step, layer[CROSS_BEFORE], x, normed)
            choose_matrices(step, PRODUCT, i, layer[CROSS_QUERY], 1)
            multiply(step, source, step[QKV], step[MIXED_WIDTH])
            step[PHASE] = CROSS_ATTENTION
            share(step, step[N_ROWS] * layer[N_HEADS])
            choose_matrices(step, PRODUCT, i, layer[CROSS_OUT], 1)
            multiply(step, step[MIXED], added, width)
            add(step, i, layer[CROSS_ADDED], layer[CROSS_AFTER])
        source = beside if layer[IS_PARALLEL] else normalise(step, layer[MLP_BEFORE], x, normed)
        if layer[GATE] >= 0:
            choose_matrices(step, GATED, i, layer[GATE], 2)
            multiply(step, source, step[HIDDEN], step[D_FF])
        else:
            choose_matrices(step, ACTIVATED, i, layer[UP], 1)
            multiply(step, source, step[HIDDEN], step[D_FF])
        choose_matrices(step, PRODUCT, i, layer[DOWN], 1)
        multiply(step, step[HIDDEN], added, width)
        add(step, i, layer[MLP_ADDED], layer[MLP_AFTER])
    source = normalise(step, step[FINAL_NORM], x, normed)
    choose_matrices(step, PRODUCT, 0, step[HEAD], 1)
    multiply(step, source, step[LOGITS], step[LOGITS_WIDTH])
    cap_logits(step, step[LOGITS_WIDTH])
    write(field(step, IS_OPEN), 0)


# ---- threads


@njit
def assist(step: Longs) -> None:
    """Take chunks until the step is made."""
    looks = 0
    while read(field(step, IS_OPEN)):
        if take_chunk(step):
            continue
        looks += 1
        if looks % PATIENCE == 0:
            let_others_run()


@njit
def share(step: Longs, n_chunks: int) -> None:
    """Run the phase that is described, in so many chunks."""
    step[N_CHUNKS] = n_chunks
    ticket = field(step, TICKET)
    write(field(step, DONE), 0)
    write(ticket, (read(ticket) | LEFT) + 1 + n_chunks)
    looks = 0
    while read(field(step, DONE)) < n_chunks:
        if take_chunk(step):
            continue
        looks += 1
        if looks % PATIENCE == 0:
            let_others_run()


@inlined
def take_chunk(step: Longs) -> bool:
    """Run the next chunk, if one is left."""
    ticket = field(step, TICKET)
    now = read(ticket)
    while now & LEFT:
        if compare_and_swap(ticket, now, now - 1):
            run_chunk(step, step[N_CHUNKS] - (now & LEFT))
            add_to(field(step, DONE), 1)
            return True
        now = read(ticket)
    return False


@njit
def run_chunk(step: Longs, chunk: int) -> None:
    """One chunk of the phase."""
    if step[PHASE] == ATTENTION:
        n_kv_heads = longs(step[LAYERS] + 8 * N_LAYER * step[LAYER])[N_KV_HEADS]
        text, g = chunk // n_kv_heads, chunk % n_kv_heads
        first = longs(step[FIRST_ROWS])
        for b in range(first[text], first[text + 1]):  # each sees the keys of those before it
            attend(step, step[LAYER], text, b, g)
    elif step[PHASE] == CROSS_ATTENTION:  # rows that share a memory read the same head of it at once
        attend_to_memory(step, step[LAYER], chunk % step[N_ROWS], chunk // step[N_ROWS])
    else:
        multiply_chunk(step, chunk)


@inlined
def field(step: Longs, i: int) -> int:
    """The address of a number of the step."""
    address: int = address_of(step)
    return address + 8 * i


# ---- products


@inlined
def choose_matrices(step: Longs, phase: int, layer: int, matrix: int, n_matrices: int) -> None:
    """Which matrices come next, and for what; by itself, since numba compiles a function anew for each constant."""
    step[PHASE], step[LAYER], step[MATRIX], step[N_MATRICES] = phase, layer, matrix, n_matrices


@njit
def multiply(step: Longs, source: int, target: int, width: int) -> None:
    """Vectors, one for each row, times the chosen matrices: side by side in the target, or as the phase has it."""
    step[SOURCE], step[TARGET], step[WIDTH] = source, target, width
    matrix, n_matrices = step[MATRIX], step[N_MATRICES]
    n_columns, width_in_bytes = longs(step[MATRICES] + 8 * N_MATRIX * matrix)[COLUMNS], 4 * width
    for each in range(matrix, matrix + n_matrices):
        if longs(step[MATRICES] + 8 * N_MATRIX * each)[LEVELS] >= 0:
            width_in_bytes = width
    if width_in_bytes == width:
        n_groups = n_columns // NEIGHBOURS
        quantize_rows(source, step[N_ROWS], n_groups, step[ROUNDED], step[ROUNDED_SCALES], step[ROUNDED_TOTALS])
    n_threads, n_bytes = step[N_THREADS], width_in_bytes * n_columns
    n_chunks = max(n_bytes // CHUNK, min(n_bytes // SMALL_CHUNK, CHUNKS * n_threads)) // n_threads * n_threads
    share(step, min(max(n_chunks, 1 if width < 64 else n_threads), LEFT))


@njit
def multiply_chunk(step: Longs, chunk: int) -> None:
    """A chunk of the products: the rows of the matrices that are its own."""
    width, n_chunks = step[WIDTH], step[N_CHUNKS]
    lo = chunk * width // n_chunks // TILE * TILE
    hi = width if chunk + 1 == n_chunks else (chunk + 1) * width // n_chunks // TILE * TILE
    if step[PHASE] == GATED:
        gates, beside = step[TARGET], 4 * step[N_PADDED] * width
        product(step, step[MATRIX], lo, hi, gates)
        product(step, step[MATRIX] + 1, lo, hi, gates + beside)
        activate(step, lo, hi)
        for b in range(step[N_ROWS]):
            gate, up = floats(gates + 4 * b * width), floats(gates + beside + 4 * b * width)
            for r in range(lo, hi):
                gate[r] *= up[r]
        return
    first = 0
    for matrix in range(step[MATRIX], step[MATRIX] + step[N_MATRICES]):
        n_rows = longs(step[MATRICES] + 8 * N_MATRIX * matrix)[ROWS]
        product(step, matrix, max(lo - first, 0), min(hi - first, n_rows), step[TARGET] + 4 * first)
        first += n_rows
    if step[PHASE] == ACTIVATED:
        activate(step, lo, hi)


@inlined
def product(step: Longs, matrix: int, lo: int, hi: int, target: int) -> None:
    """Rows lo to hi of a matrix times the vector of each row, and the bias, into the target."""
    entry = longs(step[MATRICES] + 8 * N_MATRIX * matrix)
    width = step[WIDTH]
    if entry[LEVELS] < 0:
        multiply_rows(entry[WEIGHT], entry[COLUMNS], lo, hi, step[SOURCE], step[N_PADDED], target, width)
    elif lo < hi:
        multiply_tiles(
            entry[LEVELS],
            entry[WEIGHT],
            entry[SCALE],
            entry[OFFSET],
            entry[COLUMNS] // NEIGHBOURS,
            step[ROUNDED],
            step[ROUNDED_SCALES],
            step[ROUNDED_TOTALS],
            step[N_ROWS],
            target,
            width,
            lo // TILE,
            (hi + TILE - 1) // TILE,
        )
    if entry[BIAS]:
        bias = floats(entry[BIAS])
        for b in range(step[N_ROWS]):
            out = floats(target + 4 * b * width)
            for r in range(lo, hi):
                out[r] += bias[r]


@reordered
def multiply_rows(
    weight: int, n_columns: int, lo: int, hi: int, source: int, n_rows: int, target: int, width: int
) -> None:
    """Rows lo to hi of a float32 matrix times one vector, or times n_rows of them, a multiple of GROUP."""
    if n_rows == 1:
        x, out = floats(source), floats(target)
        for r in range(lo, hi):
            row = weight + 4 * r * n_columns
            for i in range(0, n_columns, LINE // 4):
                prefetch(row + 4 * i + AHEAD)
            w, total = floats(row), np.float32(0)
            for i in range(n_columns):
                total += w[i] * x[i]
            out[r] = total
        return
    for r in range(lo, hi, 2):  # two rows of the matrix at once, so that a vector is read half as often
        s = min(r + 1, hi - 1)
        w, v = floats(weight + 4 * r * n_columns), floats(weight + 4 * s * n_columns)
        following, n_bytes = weight + 4 * (r + 2) * n_columns, 8 * n_columns
        for b in range(0, n_rows, GROUP):
            for i in range(n_bytes * b // n_rows, n_bytes * (b + GROUP) // n_rows, LINE):
                prefetch(following + i)
            x0 = floats(source + 4 * b * n_columns)
            x1 = floats(source + 4 * (b + 1) * n_columns)
            x2 = floats(source + 4 * (b + 2) * n_columns)
            x3 = floats(source + 4 * (b + 3) * n_columns)
            w0 = w1 = w2 = w3 = v0 = v1 = v2 = v3 = np.float32(0)
            for i in range(n_columns):
                w0 += w[i] * x0[i]
                w1 += w[i] * x1[i]
                w2 += w[i] * x2[i]
                w3 += w[i] * x3[i]
                v0 += v[i] * x0[i]
                v1 += v[i] * x1[i]
                v2 += v[i] * x2[i]
                v3 += v[i] * x3[i]
            out = floats(target + 4 * b * width)
            out[r], out[width + r], out[2 * width + r], out[3 * width + r] = w0, w1, w2, w3
            out[s], out[width + s], out[2 * width + s], out[3 * width + s] = v0, v1, v2, v3


@njit
def activate(step: Longs, lo: int, hi: int) -> None:
    """Bend the features lo to hi of the target."""
    kind, width = longs(step[LAYERS] + 8 * N_LAYER * step[LAYER])[ACTIVATION], step[WIDTH]
    half, one, root, cubic = np.float32(0.5), np.float32(1), np.float32(math.sqrt(0.5)), np.float32(0.044715)
    slope = np.float32(-2 * math.sqrt(2 / math.pi))
    for b in range(step[N_ROWS]):
        out = floats(step[TARGET] + 4 * b * width)
        for r in range(lo, hi):
            z = out[r]
            if kind == SILU:
                out[r] = z / (one + math.exp(-z))
            elif kind == GELU_TANH:
                out[r] = z / (one + math.exp(slope * (z + cubic * z * z * z)))  # as (1 + tanh y) / 2 = 1 / (1 + e⁻²ʸ)
            elif kind == GELU:
                out[r] = half * z * (one + math.erf(z * root))
            elif z <= 0:
                out[r] = z * np.float32(0)


# ---- the stream


@njit
def embed(step: Longs) -> None:
    """The vectors that the first layer reads; of padding zeros."""
    n, scale = step[D_MODEL], floats(step[MODEL_NUMBERS])[EMBEDDING_SCALE]
    tokens, positions = longs(step[TOKENS]), longs(step[POSITIONS])
    last_place = longs(step[POLICIES])[CAPACITY] - 1
    for b in range(step[N_ROWS]):
        x, vector = floats(step[X] + 4 * b * n), floats(step[TOKEN_TABLE] + 4 * tokens[b] * n)
        for i in range(n):
            x[i] = scale * vector[i]
        if step[PLACE_TABLE]:
            place = floats(step[PLACE_TABLE] + 4 * min(max(positions[b], 0), last_place) * n)
            for i in range(n):
                x[i] += place[i]
    normalise(step, step[EMBEDDING_NORM], step[X], step[X])


@njit
def normalise(step: Longs, norm: int, source: int, target: int) -> int:
    """The vectors of all rows, normalised; where the result is: where they are if there is no norm."""
    if norm < 0:
        return source
    n = longs(step[NORMS] + 8 * N_NORM * norm)[NORM_SIZE]
    for b in range(step[N_ROWS]):
        normalise_one(step, norm, source + 4 * b * n, target + 4 * b * n)
    return target


@njit
def normalise_one(step: Longs, norm: int, source: int, target: int) -> None:
    """One vector, normalised."""
    entry = longs(step[NORMS] + 8 * N_NORM * norm)
    n, kind = entry[NORM_SIZE], entry[NORM_KIND]
    x, out, weight = floats(source), floats(target), floats(entry[NORM_WEIGHT])
    epsilon = np.float32(entry[NORM_EPSILON] * 2.0**-60)
    one = np.float32(1)
    if kind == LAYER_NORM:
        bias, mean = floats(entry[NORM_BIAS]), total(source, n) / np.float32(n)
        for i in range(n):
            out[i] = x[i] - mean
        inverse = one / np.sqrt(dot(target, target, n) / np.float32(n) + epsilon)
        for i in range(n):
            out[i] = out[i] * inverse * weight[i] + bias[i]
        return
    inverse = one / np.sqrt(dot(source, source, n) / np.float32(n) + epsilon)
    if kind == RMS_NORM:
        for i in range(n):
            out[i] = x[i] * inverse * weight[i]
    else:
        for i in range(n):
            out[i] = x[i] * inverse * (one + weight[i])


@njit
def normalise_jointly(step: Longs, i: int) -> None:
    """Queries and keys, over the features of all their heads together."""
    layer = longs(step[LAYERS] + 8 * N_LAYER * i)
    for b in range(step[N_ROWS]):
        queries = step[QKV] + 4 * b * step[QKV_WIDTH]
        keys = queries + 4 * layer[N_HEADS] * layer[D_HEAD]
        normalise_one(step, layer[QUERY_NORM], queries, queries)
        normalise_one(step, layer[KEY_NORM], keys, keys)


@njit
def add(step: Longs, layer: int, norm: int, norm_after: int) -> None:
    """Add to the stream what a sublayer gives, which a norm may change before, and the stream another one after."""
    multiplier = floats(step[NUMBERS] + 4 * N_NUMBERS * layer)[MULTIPLIER]
    normalise(step, norm, step[ADDED], step[ADDED])
    x, added = floats(step[X]), floats(step[ADDED])
    for i in range(step[N_ROWS] * step[D_MODEL]):
        x[i] += multiplier * added[i]
    normalise(step, norm_after, step[X], step[X])


@njit
def cap_logits(step: Longs, n_tokens: int) -> None:
    """Scale the logits and hold them within their cap."""
    numbers = floats(step[MODEL_NUMBERS])
    scale, cap = numbers[LOGIT_SCALE], numbers[LOGIT_CAP]
    logits = floats(step[LOGITS])
    if scale != 1:
        for i in range(step[N_ROWS] * n_tokens):
            logits[i] /= scale
    if cap > 0:
        for i in range(step[N_ROWS] * n_tokens):
            logits[i] = cap * math.tanh(logits[i] / cap)


# ---- attention


@njit
def turn(step: Longs) -> None:
    """Cosines and sines: of each row's position, for each kind of angles, and of how far sinks move in each policy."""
    n_pairs, n_rows, n_ropes = step[N_PAIRS], step[N_ROWS], step[N_ROPES]
    if n_pairs == 0:
        return
    positions, amplitude = longs(step[POSITIONS]), floats(step[MODEL_NUMBERS])[AMPLITUDE]
    for table in range(n_ropes + step[N_POLICIES]):
        rope = table if table < n_ropes else 0
        for b in range(n_rows):
            by = max(positions[b], 0)
            if table >= n_ropes:
                by = max(positions[b] + 1 - longs(step[POLICIES] + 8 * N_POLICY * (table - n_ropes))[CAPACITY], 0)
            frequencies = doubles(step[FREQUENCIES] + 8 * (rope * n_rows + b) * n_pairs)
            angles = floats(step[ANGLES] + 8 * (table * n_rows + b) * n_pairs)
            for i in range(n_pairs):
                angle = by * frequencies[i]
                angles[i], angles[n_pairs + i] = math.cos(angle), math.sin(angle)
                if table == 0:
                    angles[i] *= amplitude
                    angles[n_pairs + i] *= amplitude


@inlined
def rotate(step: Longs, table: int, b: int, source: int, target: int, d_head: int) -> None:
    """Turn the pairs of one vector; features behind them stay."""
    n_pairs = step[N_PAIRS]
    angles = floats(step[ANGLES] + 8 * (table * step[N_ROWS] + b) * n_pairs)
    x, out = floats(source), floats(target)
    stride, beside = (1, n_pairs) if step[IS_HALF] else (2, 1)
    for i in range(n_pairs):
        first, second, cos, sin = x[stride * i], x[stride * i + beside], angles[i], angles[n_pairs + i]
        out[stride * i] = first * cos - second * sin
        out[stride * i + beside] = second * cos + first * sin
    for i in range(2 * n_pairs, d_head):
        out[i] = x[i]


@njit
def attend(step: Longs, i: int, text: int, b: int, g: int) -> None:
    """Of one row, the query heads that read one head of its text's keys and values; its own go into the cache."""
    layer, cache = longs(step[LAYERS] + 8 * N_LAYER * i), longs(step[CACHES] + 8 * N_CACHE * i)
    policy = longs(step[POLICIES] + 8 * N_POLICY * layer[POLICY])
    position = longs(step[POSITIONS])[b]
    if position < 0:
        return
    n_heads, n_kv_heads, d = layer[N_HEADS], layer[N_KV_HEADS], layer[D_HEAD]
    queries = step[QKV] + 4 * b * step[QKV_WIDTH]
    new_key = queries + 4 * (n_heads + g) * d
    new_value = new_key + 4 * n_kv_heads * d
    per_group = n_heads // n_kv_heads
    queries += 4 * g * per_group * d
    is_rotated, rope = layer[ROPE] >= 0, layer[ROPE]
    if layer[KEY_NORM] >= 0 and not layer[IS_JOINT]:
        normalise_one(step, layer[KEY_NORM], new_key, new_key)
        for h in range(per_group):
            normalise_one(step, layer[QUERY_NORM], queries + 4 * h * d, queries + 4 * h * d)
    if is_rotated:
        rotate(step, rope, b, new_key, new_key, d)
        for h in range(per_group):
            rotate(step, rope, b, queries + 4 * h * d, queries + 4 * h * d, d)

    capacity, n_sinks = policy[CAPACITY], policy[N_SINKS]
    slot = position if position < n_sinks else n_sinks + (position - n_sinks) % (capacity - n_sinks)
    head = text * n_kv_heads + g
    keys = cache[KEYS] + 4 * (head * cache[SLOTS] + 1) * d  # behind the slot that takes padding
    values = cache[VALUES] + 4 * (head * cache[SLOTS] + 1) * d
    copy(new_key, keys + 4 * slot * d, d)
    copy(new_value, values + 4 * slot * d, d)
    if n_sinks and is_rotated:
        sinks = cache[SINKS] + 4 * (head * cache[SINK_SLOTS] + 1) * d
        if position < n_sinks:
            copy(new_key, sinks + 4 * position * d, d)
        if position >= capacity:
            for s in range(n_sinks):
                rotate(step, step[N_ROPES] + layer[POLICY], b, sinks + 4 * s * d, keys + 4 * s * d, d)

    n_slots = min(position + 1, capacity)
    numbers = floats(step[NUMBERS] + 4 * N_NUMBERS * i)
    for h in range(per_group):
        scores = step[SCORES] + 4 * (b * n_heads + g * per_group + h) * step[N_SCORES]
        mixed = step[MIXED] + 4 * b * step[MIXED_WIDTH] + 4 * (g * per_group + h) * d
        bias = step[SCORE_BIAS]
        if bias:
            bias += 4 * (b * n_heads + g * per_group + h) * step[BIAS_WIDTH]
        weigh(queries + 4 * h * d, keys, scores, n_slots, d, d, numbers[SCORE_SCALE], numbers[SOFTCAP], bias)
        mix(scores, values, mixed, n_slots, d, d)


@njit
def attend_to_memory(step: Longs, i: int, b: int, h: int) -> None:
    """Of one row, one query head that reads the memory."""
    if longs(step[POSITIONS])[b] < 0:
        return
    layer, memory = longs(step[LAYERS] + 8 * N_LAYER * i), longs(step[MEMORIES] + 8 * N_MEMORY * i)
    n_slots, d, of_slot = step[MEMORY_LENGTH], layer[D_HEAD], memory[OF_SLOT]
    g = h // (layer[N_HEADS] // layer[N_KV_HEADS])
    first = 4 * (b * memory[OF_ROW] + g * memory[OF_HEAD])
    of_query = 4 * (b * step[MIXED_WIDTH] + h * d)
    scores = step[SCORES] + 4 * (b * layer[N_HEADS] + h) * step[N_SCORES]
    mask = step[MEMORY_MASK] + 4 * b * n_slots if step[MEMORY_MASK] else 0
    numbers = floats(step[NUMBERS] + 4 * N_NUMBERS * i)
    scale, softcap = numbers[CROSS_SCALE], numbers[SOFTCAP]  # which is 0 in a layer that has a memory
    weigh(step[QKV] + of_query, memory[MEMORY_KEYS] + first, scores, n_slots, d, of_slot, scale, softcap, mask)
    mix(scores, memory[MEMORY_VALUES] + first, step[MIXED] + of_query, n_slots, d, of_slot)


@njit
def weigh(
    query: int, keys: int, scores: int, n_slots: int, d: int, stride: int, scale: float, softcap: float, bias: int
) -> None:
    """The weights that a query gives to the slots: exp(score − the highest), over their sum; 0 if it sees none."""
    score(query, keys, scores, n_slots, d, stride)
    out = floats(scores)
    highest = np.float32(-np.inf)
    for s in range(n_slots):
        out[s] *= scale
        if softcap > 0:
            out[s] = softcap * math.tanh(out[s] / softcap)
        if bias:
            out[s] += floats(bias)[s]
        highest = max(highest, out[s])
    if bias and highest == -np.inf:
        for s in range(n_slots):
            out[s] = np.float32(0)
        return
    sum_ = np.float32(0)
    for s in range(n_slots):
        out[s] = math.exp(out[s] - highest)
        sum_ += out[s]
    for s in range(n_slots):
        out[s] /= sum_


@reordered
def score(query: int, keys: int, scores: int, n_slots: int, d: int, stride: int) -> None:
    """The products of a query with the keys, four at once while there are so many."""
    q, out = floats(query), floats(scores)
    n_fours = n_slots // 4 * 4
    for s in range(0, n_fours, 4):
        key = keys + 4 * s * stride
        k0, k1, k2, k3 = floats(key), floats(key + 4 * stride), floats(key + 8 * stride), floats(key + 12 * stride)
        total0 = total1 = total2 = total3 = np.float32(0)
        for i in range(d):
            total0 += q[i] * k0[i]
            total1 += q[i] * k1[i]
            total2 += q[i] * k2[i]
            total3 += q[i] * k3[i]
        out[s], out[s + 1], out[s + 2], out[s + 3] = total0, total1, total2, total3
    for s in range(n_fours, n_slots):
        out[s] = dot(query, keys + 4 * s * stride, d)


@njit
def mix(weights: int, values: int, target: int, n_slots: int, d: int, stride: int) -> None:
    """The sum of the values, each by its weight, four at once while there are so many."""
    w, out = floats(weights), floats(target)
    for i in range(d):
        out[i] = np.float32(0)
    n_fours = n_slots // 4 * 4
    for s in range(0, n_fours, 4):
        value = values + 4 * s * stride
        v0, v1 = floats(value), floats(value + 4 * stride)
        v2, v3 = floats(value + 8 * stride), floats(value + 12 * stride)
        w0, w1, w2, w3 = w[s], w[s + 1], w[s + 2], w[s + 3]
        for i in range(d):
            out[i] += (w0 * v0[i] + w1 * v1[i]) + (w2 * v2[i] + w3 * v3[i])
    for s in range(n_fours, n_slots):
        v0, w0 = floats(values + 4 * s * stride), w[s]
        for i in range(d):
            out[i] += w0 * v0[i]


# ---- vectors


@reordered
def dot(a: int, b: int, n: int) -> np.float32:
    """Σ aᵢ bᵢ."""
    x, y, sum_ = floats(a), floats(b), np.float32(0)
    for i in range(n):
        sum_ += x[i] * y[i]
    return sum_


@reordered
def total(a: int, n: int) -> np.float32:
    """Σ aᵢ."""
    x, sum_ = floats(a), np.float32(0)
    for i in range(n):
        sum_ += x[i]
    return sum_


@inlined
def copy(source: int, target: int, n: int) -> None:
    """The numbers of one place to another."""
    x, out = floats(source), floats(target)
    for i in range(n):
        out[i] = x[i]
