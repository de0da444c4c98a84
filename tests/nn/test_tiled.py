"""`tiled` is exact attention in memory linear in the length."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.errors import ConfigError
from glassformer.nn import mask
from glassformer.nn.attend.naive import naive
from glassformer.nn.attend.tiled import tiled
from glassformer.nn.mask import Mask
from support.counts import count
from support.tolerances import assert_close


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tensor], Mask, int]:
    """Queries, keys and values of random sizes, a mask of any kind that fits them, and a size of tiles."""
    n_queries, n_keys = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    batch, n_kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kind = draw(
        st.sampled_from(["causal", "window", "sinks", "everything", "padded", "table", "rows", "heads", "none"])
    )
    rule = {
        "window": mask.Window(draw(st.integers(1, 9))),
        "sinks": mask.Sinks(draw(st.integers(1, 4)), draw(st.integers(1, 9))),
        "everything": mask.Everything(),
    }.get(kind, mask.Causal())
    if kind in ("causal", "window", "sinks", "everything"):
        n_keys = n_queries if draw(st.booleans()) else n_keys
        over = Mask.over(rule, n_queries) if n_keys == n_queries else Mask.between(rule, n_queries, n_keys)
    elif kind == "padded":
        positions = torch.randint(-3, 12, (2, batch, 1, 17), generator=generator).clamp(min=-1)
        over = Mask(rule=rule, queries=positions[0, ..., :n_queries], keys=positions[1, ..., :n_keys])
    else:
        lead = {"rows": (batch, 1), "heads": (batch, n_kv_heads * group)}.get(kind, ())
        share = 0.0 if kind == "none" else draw(st.floats(0, 1))
        over = Mask.explicit(torch.rand((*lead, n_queries, n_keys), generator=generator) < share)
    width, value_width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    scale = draw(st.sampled_from([1.0, 30.0]))

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    q = randn(batch, n_kv_heads * group, n_queries, width) * scale
    return (
        [q, randn(batch, n_kv_heads, n_keys, width), randn(batch, n_kv_heads, n_keys, value_width)],
        over,
        draw(st.integers(1, 18)),
    )


@settings(max_examples=count("tiled equals naive"))
@given(problems())
def test_tiled_equals_naive_in_float64_forward_and_backward(problem: tuple[list[Tensor], Mask, int]) -> None:
    inputs, over, tile = problem
    inputs = [part.requires_grad_() for part in inputs]
    one, other = tiled(*inputs, over, tile=tile), naive(*inputs, over)
    assert_close(one, other)
    upstream = torch.linspace(-1, 2, one.numel(), dtype=torch.float64).reshape(one.shape)
    for ours, theirs in zip(
        torch.autograd.grad(one, inputs, upstream), torch.autograd.grad(other, inputs, upstream), strict=True
    ):
        assert_close(ours, theirs)


@pytest.mark.parametrize("tile", [1, 2, 5])
@pytest.mark.parametrize(
    "over",
    [
        Mask.over(mask.Causal(), 4),
        Mask.over(mask.Sinks(1, 2), 4),
        Mask.explicit(torch.tensor([[True, False, True, False]] * 3 + [[False] * 4])),
    ],
    ids=["causal", "sinks", "a row that sees nothing"],
)
def test_its_backward_is_the_numerical_derivative(over: Mask, tile: int) -> None:
    q = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(1, 1, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda q, k, v: tiled(q, k, v, over, tile=tile), (q, k, v))


def test_a_second_derivative_which_it_does_not_have_is_refused() -> None:
    q, k, v = (torch.randn(1, 1, 4, 3, requires_grad=True) for _ in range(3))
    out = tiled(q, k, v, Mask.over(mask.Causal(), 4))
    for loss in (out.sum(), out.square().sum()):  # with a constant for the gradient of `out`, and without
        with pytest.raises(ConfigError, match="no second derivative"):
            torch.autograd.grad(loss, q, create_graph=True, retain_graph=True)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, and how many matrix products there are."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        self.products += func in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default)
        return out


def largest(backend: Any, over: Mask, length: int) -> Largest:
    q, k, v = (torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3))
    with Largest() as seen:
        backend(q, k, v, over).sum().backward()
    return seen


def test_it_never_holds_as_many_numbers_as_there_are_pairs() -> None:
    length = 2048
    over = Mask.over(mask.Causal(), length)
    assert largest(tiled, over, length).numel <= 256 * 256  # one tile, by far
    assert largest(naive, over, length).numel >= length * length  # what this test would see otherwise


def test_tiles_in_which_no_pair_is_allowed_are_skipped() -> None:
    length, tiles = 2048, 8
    products = {
        name: largest(tiled, Mask.over(rule, length), length).products
        for name, rule in (("everything", mask.Everything()), ("causal", mask.Causal()), ("window", mask.Window(256)))
    }
    assert products["everything"] == 7 * tiles**2  # two products forward, five backward
    assert products["causal"] == 7 * tiles * (tiles + 1) // 2
    assert products["window"] == 7 * (2 * tiles - 1)


MEASURE = """
import resource, torch
from glassformer.nn import mask
from glassformer.nn.attend.tiled import tiled
from glassformer.nn.mask import Mask
torch.manual_seed(0)
q, k, v = (torch.randn(1, {heads}, {length}, 64, requires_grad=True) for _ in range(3))
small = (part[:, :, :512].detach().requires_grad_() for part in (q, k, v))
tiled(*small, Mask.over(mask.Causal(), 512)).sum().backward()  # what torch loads once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tiled(q, k, v, Mask.over(mask.Causal(), {length})).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_at_length_16384_it_takes_under_a_gigabyte_extra_forward_and_backward() -> None:
    code = MEASURE.format(heads=4, length=16_384)
    extra = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert extra < 1e9, f"{extra / 1e6:.0f} MB"
