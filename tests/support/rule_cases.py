"""For every rule a function that needs it, in all its options, with small inputs; and cells drawn from a trace."""

import random
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Trace

aten = torch.ops.aten
Function = Callable[..., object]
Cells = list[tuple[int, list[int]]]  # a tensor, and an index into it


class Run(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def whole(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(high))


def _written_slice(a: Tensor) -> Tensor:
    made = torch.zeros(3, 6)
    made[:, 1:5] = a
    made[0] += 1
    made.mul_(2)
    return made.T + 1


def _written_places(a: Tensor) -> Tensor:
    made = torch.zeros(5)
    made[torch.tensor([4, 1, 0, 2])] = a[0]
    return made * 3


A, B, C = x(3, 4), x(4, 5), x(3, 5)
POSITIVE = x(3, 4).abs() + 0.1
MASK = A > 0
LEFT, RIGHT = x(2, 3, 4), x(2, 4, 5)
IDS = whole(7, 2, 3)
IMAGE = x(2, 4, 7, 8)
WAVE = x(2, 40)
ELEMENTWISE: dict[str, Function] = {
    **{name: getattr(torch, name) for name in ("abs", "exp", "expm1", "sin", "cos", "tanh", "erf", "sigmoid", "floor")},
    **{name: getattr(torch, name) for name in ("ceil", "round", "trunc", "sign", "isnan", "isinf", "isfinite", "neg")},
    **{
        name: getattr(F, name) for name in ("relu", "gelu", "silu", "elu", "leaky_relu", "softplus", "hardtanh", "selu")
    },
    "gelu tanh": lambda a: F.gelu(a, approximate="tanh"),
    "square": lambda a: a**2,
    "cube": lambda a: a**3,
    "scalars": lambda a: (2 * a - 1) / 3 + 0.5,
    "rsub": lambda a: 1 - a,
    "clamp": lambda a: a.clamp(-0.5, 0.5),
    "clamp below": lambda a: a.clamp(min=0.1),
    "exp2": torch.exp2,
    "reciprocal": torch.reciprocal,
    "logical": lambda a: torch.logical_or(a > 0, torch.logical_not(a < 1)),
    "bits": lambda a: ((a > 0) & ~(a > 1)) | ((a < -1) ^ (a < 0)),
    "nan and inf": lambda a: torch.where(a > 0.5, a / 0, a * float("nan")),
    "where": lambda a: torch.where(a > 0, a, 2.0),
    "masked_fill": lambda a: a.masked_fill(a > 0, -torch.inf),
    "fill in place": lambda a: a.clone().fill_(3.0),
    "to int": lambda a: (a * 10).to(torch.int64) % 3,
    "to half": lambda a: a.half() + a.bfloat16(),
    "float64": lambda a: a.double() * 1.1,
    "dropout": lambda a: F.dropout(a, 0.5, training=True),
    "lerp": lambda a: torch.lerp(a, a * 2, 0.3),
}
TWO: dict[str, Function] = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div", "maximum", "minimum", "atan2", "fmod")},
    **{name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "remainder", "floor_divide")},
    "alpha": lambda a, b: torch.add(a, b, alpha=0.5),
    "broadcast": lambda a, b: a[:, None] + b[0],
    "div floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b, value=0.3),
}
CASES: dict[str, tuple[Function, tuple[Tensor, ...]]] = {
    **{name: (function, (A,)) for name, function in ELEMENTWISE.items()},
    **{f"two {name}": (function, (A, POSITIVE)) for name, function in TWO.items()},
    **{name: (getattr(torch, name), (POSITIVE,)) for name in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt")},
    "power": (lambda a: a**1.7, (POSITIVE,)),
    "power of": (lambda a: 2.0**a, (A,)),
    "power of powers": (torch.pow, (POSITIVE, A)),
    # contraction
    "mm": (torch.mm, (A, B)),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2.0), (C, A, B)),
    "bmm": (torch.bmm, (LEFT, RIGHT)),
    "baddbmm": (lambda c, a, b: torch.baddbmm(c, a, b, beta=0.0), (x(2, 3, 5), LEFT, RIGHT)),
    "mv": (lambda a, b: a @ b[:, 0], (A, B)),
    "dot": (lambda a: torch.dot(a[0], a[1]), (A,)),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bki", a, b), (LEFT, RIGHT)),
    "linear": (lambda a, b: F.linear(a, b.T, b[0]), (A, B)),
    "linear of three axes": (lambda a, b: F.linear(a, b.T, b[0]), (LEFT, B)),
    "half": (lambda a, b: a.half() @ b.half(), (A, B)),
    "bfloat16": (lambda a, b: F.linear(a.bfloat16(), b.T.bfloat16()), (A, B)),
    "float64 product": (lambda a, b: a.double() @ b.double(), (A, B)),
    "conv1d": (lambda a, w: F.conv1d(a, w, w[:, 0, 0], stride=2, padding=1), (x(2, 4, 9), x(6, 4, 3))),
    "conv1d dilated groups": (lambda a, w: F.conv1d(a, w, dilation=2, groups=2), (x(2, 4, 9), x(6, 2, 3))),
    "conv2d": (lambda a, w: F.conv2d(a, w, stride=(1, 2), padding=(2, 1)), (IMAGE, x(3, 4, 3, 2))),
    "depthwise": (lambda a, w: F.conv2d(a, w, groups=4), (IMAGE, x(4, 1, 3, 3))),
    "attention": (F.scaled_dot_product_attention, (x(2, 2, 3, 4), x(2, 2, 5, 4), x(2, 2, 5, 4))),
    "causal attention": (lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), (x(2, 2, 5, 4),)),
    "masked attention": (lambda q, m: F.scaled_dot_product_attention(q, q, q, m), (x(2, 2, 5, 4), x(5, 5))),
    # movement
    "transposed copy": (lambda a: a.T.contiguous(), (A,)),
    "cat": (lambda a, c: torch.cat([a, c, a], dim=1), (A, C)),
    "stack": (lambda a: torch.stack([a, a + 1], dim=1), (A,)),
    "chunks": (lambda a: [part + 1 for part in a.chunk(2, dim=1)], (A,)),
    "gather": (lambda a, i: a.gather(1, i), (A, whole(4, 3, 2))),
    "embedding": (F.embedding, (IDS, x(7, 3))),
    "index": (lambda a, i: a[i], (x(7, 3), IDS)),
    "index two": (lambda a: a[torch.tensor([0, 2]), torch.tensor([1, 3])], (A,)),
    "index_select": (lambda a: a.index_select(1, torch.tensor([3, 0, 3])), (A,)),
    "repeat": (lambda a: a.repeat(2, 3), (A,)),
    "repeat_interleave": (lambda a: a.repeat_interleave(2, dim=0), (A,)),
    "expanded sum": (lambda a: a[None].expand(2, 3, 4).sum(0), (A,)),
    "flip": (lambda a: a.flip(0, 1), (A,)),
    "roll": (lambda a: a.roll(1, 1), (A,)),
    "tril": (lambda a: a.tril(), (A,)),
    "triu": (lambda a: a.triu(1), (A,)),
    "pad": (lambda a: F.pad(a, (1, 2), value=7.0), (A,)),
    "reflect": (lambda a: F.pad(a[None], (1, 2), mode="reflect"), (A,)),
    "unfold": (lambda a: a.unfold(1, 2, 1) * 2, (A,)),
    "image to columns": (lambda a: F.unfold(a, 3), (IMAGE,)),
    "scatter": (lambda a: torch.zeros(3, 6).scatter(1, torch.tensor([[0, 1, 2, 3]] * 3), a), (A,)),
    "masked_select": (lambda a: a[a > 0] * 2, (A,)),
    "write into a slice": (_written_slice, (A,)),
    "write at places": (_written_places, (A,)),
    # reduction
    "sum": (lambda a: a.sum(), (A,)),
    "sum of axes": (lambda a: a.sum((0, 2)), (LEFT,)),
    "sum keepdim": (lambda a: a.sum(1, keepdim=True), (LEFT,)),
    "count": (lambda a: (a > 0).sum(-1), (A,)),
    "mean": (lambda a: a.mean(-1), (A,)),
    "mean of all": (lambda a: a.mean(), (A,)),
    "var": (lambda a: a.var(-1), (A,)),
    "std unbiased": (lambda a: a.std(0, correction=0), (A,)),
    "var_mean": (lambda a: torch.var_mean(a, -1), (A,)),
    "prod": (lambda a: a.prod(1), (A,)),
    "amax": (lambda a: a.amax((0, 1)), (LEFT,)),
    "max": (lambda a: a.max(-1), (A,)),
    "min of all": (lambda a: a.min(), (A,)),
    "argmax": (lambda a: a.argmax(-1), (A,)),
    "argmin of all": (lambda a: a.argmin(), (A,)),
    "any all": (lambda a: (a > 0).any(-1) & (a > -9).all(-1), (A,)),
    "logsumexp": (lambda a: a.logsumexp(-1), (A,)),
    "norm": (F.normalize, (A,)),
    "sort": (lambda a: a.sort(-1, descending=True), (A,)),
    "topk": (lambda a: a.topk(2), (A,)),
    "topk in no order": (lambda a: a.topk(5, sorted=False), (x(1, 100),)),
    "cumsum": (lambda a: a.cumsum(-1), (A,)),
    "cumprod": (lambda a: a.cumprod(0), (A,)),
    "positions": (lambda a: (a > 0).cumsum(-1) - 1, (A,)),
    "max pool": (lambda a: F.max_pool2d(a, 3, 2, 1), (IMAGE,)),
    "avg pool": (lambda a: F.avg_pool2d(a, 2), (IMAGE,)),
    "adaptive pool": (lambda a: F.adaptive_avg_pool2d(a, 3), (IMAGE,)),
    # normalisation
    "softmax": (lambda a: a.softmax(0), (A,)),
    "softmax of nothing": (lambda a: a.masked_fill(a < 0.5, -torch.inf).softmax(-1), (A,)),
    "log_softmax": (lambda a: a.log_softmax(-1), (A,)),
    "layer_norm": (lambda a: F.layer_norm(a, (4,), a[0], a[1]), (A,)),
    "layer_norm plain, two axes": (lambda a: F.layer_norm(a, (3, 4)), (LEFT,)),
    "rms_norm": (lambda a: F.rms_norm(a, (4,), a[0], 1e-5), (A,)),
    "group_norm": (lambda a: F.group_norm(a, 2), (IMAGE,)),
    "batch_norm": (lambda a: F.batch_norm(a, torch.zeros(4), torch.ones(4)), (IMAGE,)),
    "batch_norm in training": (lambda a: F.batch_norm(a, None, None, training=True), (IMAGE,)),
    "cross entropy": (lambda a: F.cross_entropy(a, torch.tensor([0, -100, 3])), (A,)),
    # what Python's functions reach rarely
    "aten elementwise": (lambda a: [aten.sgn(a), aten.clamp_max(a, 0.3), aten.clamp_min(a, 0.3)], (A,)),
    "aten logic": (lambda a: aten.logical_xor(a > 0, aten.logical_and(a > 1, a < 2)), (A,)),
    "aten constants": (
        lambda a: [
            aten.zero(a),
            aten.full_like(a, 2.0),
            aten.ones_like(a),
            a.new_full((2,), 3.0),
            a.new_ones(2),
            a.new_zeros(2),
        ],
        (A,),
    ),
    "aten movement": (
        lambda a: [
            aten.take(a, torch.tensor([3, 5])),
            aten.diag_embed(a),
            aten.index_copy(a, 0, torch.tensor([2, 0]), a[:2] + 1),
            aten.select_scatter(a, a[0, :3] * 2, 1, 2),
            aten.slice_scatter(a, a[:, :2] * 2, 1, 1, 3),
            aten.masked_select(a, a > 0),
        ],
        (A,),
    ),
    "image movement": (
        lambda a: [
            aten.pixel_shuffle(a, 2),
            aten.pixel_unshuffle(a[..., :6, :], 2),
            aten.reflection_pad2d(a, [1, 2, 0, 1]),
            aten.replication_pad1d(a[0], [1, 2]),
        ],
        (IMAGE,),
    ),
    "aten reductions": (lambda a: [aten.amin(a, [1]), aten.addmv(a[:, 0], a, a[0])], (A,)),
    "conjugates, which torch puts off": (lambda a: torch.view_as_real(torch.fft.rfft(a).conj() * 2), (WAVE,)),
    "negatives too": (lambda a: torch.fft.rfft(a).conj().imag * 3, (WAVE,)),
    "complex parts": (lambda a: [torch.fft.rfft(a).imag * 1, torch.fft.rfft(a).real * 1], (WAVE,)),
    "native dropout": (lambda a: torch.native_dropout(a, 0.4, True), (A,)),
    "aten norms": (
        lambda a: [
            aten._native_batch_norm_legit_no_training(a, None, None, a[0, :, 0, 0], a[0, :, 0, 0] ** 2, 0.1, 1e-5),
            aten._native_batch_norm_legit.no_stats(a, None, None, True, 0.1, 1e-5),
        ],
        (IMAGE,),
    ),
    "aten rms_norm": (lambda a: aten._fused_rms_norm(a, [4], a[0], 1e-5), (A,)),
    "safe softmax": (lambda a: aten._safe_softmax(a.masked_fill(a < A[0, 0], -torch.inf), -1), (A,)),
    # signal
    "rfft": (lambda a: torch.fft.rfft(a).abs(), (WAVE,)),
    "fft": (lambda a: torch.view_as_real(torch.fft.fft(a, norm="ortho")), (WAVE,)),
    "ifft": (lambda a: torch.fft.ifft(torch.complex(a, -a)), (WAVE,)),
    "irfft": (lambda a: torch.fft.irfft(torch.fft.rfft(a)), (WAVE,)),
    "rfft2": (lambda a: torch.fft.rfft2(a).real, (x(4, 6),)),
    "stft": (lambda a: torch.stft(a, 16, 8, window=torch.hann_window(16), return_complex=True).abs() ** 2, (WAVE,)),
    # sources
    "constants": (lambda a: torch.zeros(2) + torch.ones(2) + torch.full((2,), 3.0) + torch.zeros_like(a[0, :2]), (A,)),
    "ranges": (lambda a: torch.arange(5) * torch.arange(1, 10, 2), (A,)),
    "eye linspace": (lambda a: torch.eye(3) * torch.linspace(0, 1, 3), (A,)),
}  # fmt: skip


def _normalised_in_training(a: Tensor) -> tuple[Tensor, ...]:
    mean, variance = torch.zeros(4), torch.ones(4)
    made = F.batch_norm(a, mean, variance, training=True, momentum=0.3)
    return made, mean * 2, variance * 2


def _written_over(a: Tensor) -> list[Tensor]:
    chosen, twice, beside = a.clone(), a.clone(), x(2, 3, 4).clone()
    chosen[a > 0.2] = 7.0
    chosen[a < -1] = a[a < -1] * 2
    twice[torch.tensor([2, -3, 2]), 1:3] = torch.tensor([[1.0], [2.0], [3.0]])
    beside[:, torch.tensor([[0, 2]]), torch.tensor([[1], [3]])] = a[0, :2]
    beside[torch.tensor([1]), :, torch.tensor([-1])] = a[:1, :3]
    return [chosen + 1, twice + 1, beside + 1]


TIES = torch.tensor([[2.0, 1.0, 2.0, float("nan"), 1.0, float("nan"), 2.0]])
OPTIONS: dict[str, tuple[Function, tuple[Tensor, ...]]] = {
    "places among equal numbers and among what is no number": (
        lambda a: [
            [
                a.topk(k, largest=largest, sorted=sort)
                for k in (2, 4, 6)
                for largest in (True, False)
                for sort in (True, False)
            ],
            [a.sort(descending=descending, stable=stable) for descending in (True, False) for stable in (True, False)],
            [a.max(-1), a.min(-1), a.argmax(-1), a.argmin(), (a > 1).sort(descending=True), a[:, :3].max(-1)],
            F.max_pool2d(a[None], (1, 4), 1, return_indices=True),
        ],
        (TIES,),
    ),
    "looking up": (
        lambda a, b: [
            a[torch.tensor([-1, 0])],
            b[:, torch.tensor([[0, -1], [1, 1]])],
            b[torch.tensor([1, 0]), :, torch.tensor([3, -2])],
            b[:, torch.tensor([[2], [0]]), torch.tensor([0, 1, 3])],
            b[b[..., 0] > 0],
            b[:, a > 0.1],
            b[torch.tensor([1]), a[:, 0] > -9],
            b[None, ..., torch.tensor([2, 0])],
            aten.take(b, torch.tensor([-1, 5])),
            torch.gather(b, 2, torch.tensor([[[3, 0]], [[1, 1]]])),
            aten.masked_select(b, a[0] > 0),
        ],
        (A, LEFT),
    ),
    "moving": (
        lambda a, b: [
            a.repeat(2, 1, 3),
            a.roll(5),
            a.roll((1, -2), (0, 1)),
            a.flip(-1),
            aten.diag_embed(a, 1, 0, 2),
            aten.diag_embed(a, -2),
            b.tril(-1),
            b.triu(-1),
            torch.cat([a, a[:0], a], 0),
            torch.stack([a, a], -1),
        ],
        (A, LEFT),
    ),
    "padding": (
        lambda a: [
            F.pad(a, (1, -2, 0, 3), value=-1.5),
            F.pad(a, (2, 1, 1, 2), mode="reflect"),
            F.pad(a[0], (3, 1), mode="replicate"),
            F.unfold(a, (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 1)),
            F.unfold(a[0], 2, stride=2),
        ],
        (IMAGE,),
    ),
    "writing": (
        lambda a, b: [
            aten.slice_scatter(b, b[:, :, 1:3] * 2, 2, -4, -1, 2),
            aten.select_scatter(b, a * 2, 0, -1),
            aten.index_copy(b, -1, torch.tensor([3, 1]), b[..., :2] + 1),
            b.scatter(1, torch.tensor([[[2, 0]], [[1, 1]]]), 9.0),
            b.scatter(-1, torch.tensor([[[2, 0], [3, 1]]]), a[None] + 1),
        ],
        (A, LEFT),
    ),
    "writing over": (_written_over, (A,)),
    "comparison in single precision": (lambda a: [a > 0.1, a == 0.1, a <= 0.1], (torch.full((3,), 0.1),)),
    "comparison in half precision": (
        lambda a: [b > 0.1 for b in (a.half(), a.bfloat16())] + [a.bfloat16() == 0.1],
        (torch.full((3,), 0.1),),
    ),
    "small whole numbers wrap around": (lambda a: [a + 2, a - 1, a * a], (torch.tensor([127, 0], dtype=torch.uint8),)),
    "signed ones too": (lambda a: a + 2, (torch.tensor([127, -128], dtype=torch.int8),)),
    "floor of a quotient that rounds up": (lambda a: a // 0.1, (torch.ones(2),)),
    "a complex scalar": (lambda a: torch.view_as_real(torch.complex(a, a) * 1j), (A,)),
    "a scale of zero": (lambda q: F.scaled_dot_product_attention(q, q, q, scale=0.0), (x(1, 1, 3, 4),)),
    "grouped attention": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        (x(1, 4, 3, 4), x(1, 2, 5, 4)),
    ),
    "pooling with a divisor": (lambda a: F.avg_pool2d(a, 3, divisor_override=5), (IMAGE,)),
    "pooling with padding": (lambda a: F.avg_pool2d(a, (3,), 2, 1, count_include_pad=False), (IMAGE,)),
    "losses one by one": (lambda a: F.cross_entropy(a, torch.tensor([0, -100, 3]), reduction="none"), (A,)),
    "running statistics": (_normalised_in_training, (IMAGE,)),
    "bfloat16 at every step": (
        lambda a: [a.bfloat16().abs().rsqrt(), a.bfloat16().log_softmax(-1), torch.add(a.half(), a.half(), alpha=0.3)],
        (A,),
    ),
}


def recorded(name: str) -> Trace:
    """The trace of a case."""
    function, inputs = {**CASES, **OPTIONS}[name]
    torch.manual_seed(0)
    return record(Run(function), *inputs)


def place(number: int, shape: tuple[int, ...]) -> list[int]:
    """The index of a cell from its number, row by row."""
    return [int(i) for i in np.unravel_index(number, shape)] if shape else []


def sampled(trace: Trace, per_kind: int, outside: int = 40) -> Cells:
    """So many computed cells of each kind of operation, or all; and some of all other tensors, views among them."""
    draw = random.Random(0)
    by_kind: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for operation, output in trace.computed():
        by_kind[operation.base] += [(output, i) for i in range(trace.tensors[output].n_cells)]
    cells = [cell for found in by_kind.values() for cell in draw.sample(found, min(per_kind, len(found)))]
    others = [record for record in trace.tensors if record.n_cells]
    others = draw.sample(others, min(outside, len(others)))
    cells += [(record.id, draw.randrange(record.n_cells)) for record in others]
    return [(tensor, place(i, trace.tensors[tensor].shape)) for tensor, i in cells]
