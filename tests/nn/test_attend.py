"""Every backend of attention against numpy float64, torch's own attention, and the laws they share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.nn import mask
from glassformer.nn.attend import BACKENDS, attend
from glassformer.nn.mask import Mask, Rule
from glassformer.twins import Backend, register, use
from support import oracles
from support.oracles import array
from support.tolerances import assert_close

T, S = 5, 7


def padded() -> Mask:
    """Two rows of a batch with their own positions and padding, left and right."""
    positions = torch.tensor([[-1, -1, 0, 1, 2], [0, 1, 2, -1, -1]])[:, None]
    return Mask(rule=mask.Causal(), queries=positions, keys=positions)


def padded_source() -> Mask:
    """Cross-attention over two sources, the second of which is shorter."""
    keys = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, -1, -1, -1, -1]])[:, None]
    return Mask(rule=mask.Everything(), queries=torch.arange(T), keys=keys)


def some(*shape: int) -> Tensor:
    """A random table in which each query sees a key."""
    table = torch.rand(*shape, generator=torch.Generator().manual_seed(1)) > 0.5
    table[..., 0] = True
    return table


MASKS = {
    "causal": Mask.over(mask.Causal(), T),
    "window": Mask.over(mask.Window(2), T),
    "window of one": Mask.over(mask.Window(1), T),
    "sinks": Mask.over(mask.Sinks(1, 2), T),
    "everything": Mask.over(mask.Everything(), T),
    "cross": Mask.between(mask.Everything(), T, S),
    "causal between": Mask.between(mask.Causal(), T, S),
    "padded": padded(),
    "padded source": padded_source(),
    "table": Mask.explicit(some(T, S)),
    "table for each row": Mask.explicit(some(2, 1, T, S)),
    "table for each head": Mask.explicit(some(2, 4, T, S)),
    "shuffled": Mask(rule=mask.Causal(), queries=torch.tensor([4, 2, 0, 3, 1]), keys=torch.tensor([3, 0, 4, 1, 2])),
}
DTYPES = (torch.float64, torch.float32)


def problem(over: Mask, n_kv_heads: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (of another width) that fit the mask."""
    n_queries, n_keys = over.queries.shape[-1], over.keys.shape[-1]
    q, k = torch.randn(2, 4, n_queries, 8, dtype=dtype), torch.randn(2, n_kv_heads, n_keys, 8, dtype=dtype)
    return q, k, torch.randn(2, n_kv_heads, n_keys, 6, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n_kv_heads", [4, 2, 1], ids=["MHA", "GQA", "MQA"])
@pytest.mark.parametrize("name", MASKS)
def test_a_backend_is_the_equation(backend: Backend, name: str, n_kv_heads: int, dtype: torch.dtype) -> None:
    over = MASKS[name]
    q, k, v = problem(over, n_kv_heads, dtype)
    expected = oracles.attention(array(q), array(k), array(v), over.allowed().numpy())
    assert_close(backend(q, k, v, over), expected)


@pytest.mark.parametrize("name", [name for name in MASKS if "padded" not in name])
def test_a_backend_is_torchs_attention_forward_and_backward(backend: Backend, name: str) -> None:
    over = MASKS[name]
    inputs = [part.requires_grad_() for part in problem(over, 2, torch.float64)]
    ours = backend(*inputs, over)
    theirs = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=over.allowed(), enable_gqa=True)
    assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_any_number_of_batch_axes_may_come_before_the_heads(backend: Backend, lead: tuple[int, ...]) -> None:
    q, k, v = torch.randn(3, *lead, 2, 5, 4)
    expected = oracles.attention(array(q), array(k), array(v), np.tri(5, dtype=bool))
    assert_close(backend(q, k, v, Mask.over(mask.Causal(), 5)), expected)


def test_one_query_over_one_key_is_that_keys_value(backend: Backend) -> None:
    q, k, v = torch.randn(3, 2, 3, 1, 4)
    assert_close(backend(q, k, v, Mask.over(mask.Causal(), 1)), v)


def test_weights_of_a_worked_example(backend: Backend) -> None:
    """Scores ln 3 · √1 / √1 and 0 weigh 3/4 and 1/4."""
    q = torch.tensor([[[[1.0]]]])
    k, v = torch.tensor([[[[math.log(3)], [0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert_close(backend(q, k, v, Mask.between(mask.Everything(), 1, 2)), [[[[0.75, 0.25]]]])


def test_scores_in_the_thousands_neither_overflow_nor_vanish(backend: Backend) -> None:
    q, k, v = torch.randn(3, 1, 2, 6, 4, dtype=torch.float64)
    over = Mask.over(mask.Causal(), 6)
    expected = oracles.attention(array(q) * 1000, array(k) * 10, array(v), over.allowed().numpy())
    assert_close(backend(q * 1000, k * 10, v, over), expected)


CALLS = {  # what else an attention may be asked for
    "scale": {"scale": 0.25},
    "softcap": {"softcap": 1.5},
    "scale and softcap": {"scale": 0.5, "softcap": 0.7},
    "bias": {"bias": ()},  # the axes before its heads
    "bias of each row": {"scale": 1.0, "bias": (2,)},
    "bias and softcap": {"softcap": 0.7, "bias": (1,)},
}


def run(backend: Backend, inputs: list[Tensor], over: Mask, settings: dict[str, Any]) -> Tensor:
    """The backend's result, or that of the one that runs instead where it does not support the call."""
    if backend.supports(*inputs, over, **settings):
        return backend(*inputs, over, **settings)
    with use("fast"):
        return attend(*inputs, over, **settings)


@pytest.mark.parametrize("settings", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", ["causal", "window", "everything", "padded", "table for each head"])
def test_scale_bias_and_softcap_are_the_equation_forward_and_backward(
    backend: Backend, name: str, settings: dict[str, Any]
) -> None:
    over = MASKS[name]
    inputs = [part.requires_grad_() for part in problem(over, 2, torch.float64)]
    lead, others = settings.get("bias"), {name: value for name, value in settings.items() if name != "bias"}
    biases: dict[str, Tensor] = {}
    if lead is not None:
        n_scores = over.queries.shape[-1], over.keys.shape[-1]
        biases["bias"] = torch.randn(*lead, 4, *n_scores, dtype=torch.float64, requires_grad=True)
    out = run(backend, inputs, over, others | biases)
    in_numpy = others | {name: array(bias) for name, bias in biases.items()}
    expected = oracles.attention(*map(array, inputs), over.allowed().numpy(), **in_numpy)
    assert_close(out, expected)
    upstream = torch.randn_like(out)
    gradients = torch.autograd.grad(out, [*inputs, *biases.values()], upstream)
    slopes = oracles.attention_gradients(*map(array, inputs), over.allowed().numpy(), array(upstream), **in_numpy)
    for one, other in zip(gradients, slopes, strict=False):
        assert_close(one, torch.from_numpy(other).sum_to_size(one.shape))


def test_a_cap_far_above_all_scores_changes_nothing_and_a_small_one_bounds_the_weights(backend: Backend) -> None:
    over = MASKS["causal"]
    inputs = list(problem(over, dtype=torch.float64))
    assert_close(run(backend, inputs, over, {"softcap": 1e6}), backend(*inputs, over))
    weights = run(backend, [*inputs[:2], torch.eye(T, dtype=torch.float64).expand(2, 4, T, T)], over, {"softcap": 0.1})
    ratio = weights[..., -1, :].amax(-1) / weights[..., -1, :].amin(-1)
    assert (ratio <= math.exp(2 * 0.1)).all()


def test_a_backend_is_one_registration_away() -> None:
    """A toy that attends through the equation, to windows of two in float32 alone."""
    calls: list[str] = []

    def toy(q: Tensor, k: Tensor, v: Tensor, over: Mask, **settings: Any) -> Tensor:
        calls.append("toy")
        return BACKENDS["naive"](q, k, v, over, **settings)

    def supports(q: Tensor, k: Tensor, v: Tensor, over: Mask, **settings: Any) -> bool:
        return q.dtype == torch.float32 and over.rule == mask.Window(2)

    over, before = MASKS["window"], dict(BACKENDS)
    q, k, v = problem(over)
    register(Backend(name="toy", fn=toy, supports=supports, priority=9))
    try:
        expected = BACKENDS["naive"](q, k, v, over)
        assert_close(attend(q, k, v, over), expected)  # "auto" takes what has the highest priority and supports it
        with use(attention="toy"):
            assert_close(attend(q, k, v, over), expected)
        assert calls == ["toy"] * 2
        attend(q, k, v, MASKS["causal"])
        attend(q.double(), k.double(), v.double(), over)
        assert calls == ["toy"] * 2
        with use(attention="toy"), pytest.raises(ConfigError, match=r'"toy" .*Causal\(\)\): use "auto"'):
            attend(q, k, v, MASKS["causal"])
    finally:
        BACKENDS.clear()
        BACKENDS.update(before)


def test_a_backend_that_gives_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = problem(MASKS["causal"])
    monkeypatch.setitem(BACKENDS, "last", Backend(name="last", fn=lambda q, k, v, mask, **settings: v[..., -1:, :]))
    with use(attention="last"), pytest.raises(ConfigError, match="it must keep the queries' shape"):
        attend(q, k, v, MASKS["causal"])


FULLY_MASKED = {
    "a table with an empty row": Mask.explicit(torch.tensor([[True, False], [False, False], [True, True]])),
    "nothing allowed at all": Mask.explicit(torch.zeros(3, 2, dtype=torch.bool)),
    "padded queries": padded(),
    "every key is padding": Mask(rule=mask.Everything(), queries=torch.arange(3), keys=torch.tensor([-1, -1])),
    "one head sees nothing": Mask.explicit(torch.tensor([True, False, True, True])[:, None, None].expand(4, 3, 2)),
}


@pytest.mark.parametrize("name", FULLY_MASKED)
def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(backend: Backend, name: str) -> None:
    over = FULLY_MASKED[name]
    inputs = [part.requires_grad_() for part in problem(over)]
    out = backend(*inputs, over)
    blind = ~over.allowed().any(-1).expand(2, 4, -1)
    assert blind.any()
    assert (out[blind] == 0).all()
    assert_close(out, oracles.attention(*map(array, inputs), over.allowed().numpy()))
    gradients = torch.autograd.grad(out, inputs, torch.randn_like(out))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][blind] == 0).all()


def test_what_a_query_may_not_see_has_no_influence_and_no_gradient(backend: Backend) -> None:
    over = Mask.over(mask.Causal(), T)
    q, k, v = (part.requires_grad_() for part in problem(over))
    gradients = torch.autograd.grad(backend(q, k, v, over)[:, :, :3].sum(), (k, v))
    assert all((gradient[:, :, 3:] == 0).all() for gradient in gradients)
    assert all((gradient[:, :, :3] != 0).any() for gradient in gradients)


def test_an_order_of_the_keys_changes_nothing(backend: Backend) -> None:
    over, order = MASKS["cross"], torch.randperm(S)
    q, k, v = problem(over, dtype=torch.float64)
    assert_close(backend(q, k[:, :, order], v[:, :, order], over), backend(q, k, v, over))


@pytest.mark.parametrize("name", ["naive", "sdpa"])
@pytest.mark.parametrize("rule", [mask.Causal(), mask.Window(40)], ids=["causal", "window"])
def test_dropout_falls_on_the_weights_and_keeps_their_mean(name: str, rule: Rule) -> None:
    over = Mask.over(rule, 64)
    q, k = torch.randn(2, 50, 4, 64, 8)
    v = torch.eye(64).expand(50, 4, 64, 64)  # so that the output is the weights
    whole, dropped = BACKENDS[name](q, k, v, over), BACKENDS[name](q, k, v, over, dropout=0.25)
    kept = dropped != 0
    assert_close(dropped[kept], whole[kept] / 0.75)
    assert abs(kept[whole > 0].float().mean().item() - 0.75) < 0.005
    assert abs(dropped.sum(-1).mean().item() - 1) < 0.01


def test_tiled_refuses_dropout_and_a_bias_and_sdpa_a_softcap() -> None:
    q, k, v = problem(MASKS["causal"])
    with pytest.raises(ConfigError, match=r'"sdpa" attention backend.*softcap 2.0\): use "auto"'):
        BACKENDS["sdpa"](q, k, v, MASKS["causal"], softcap=2.0)
    with pytest.raises(ConfigError, match=r'"tiled" attention backend.*Causal\(\), dropout 0.1\): use "auto"'):
        BACKENDS["tiled"](q, k, v, MASKS["causal"], dropout=0.1)
    with pytest.raises(ConfigError, match=r'"tiled" attention backend.*Causal\(\), bias\): use "auto"'):
        BACKENDS["tiled"](q, k, v, MASKS["causal"], bias=torch.zeros(4, T, T))


def test_bfloat16_goes_in_and_comes_out(backend: Backend) -> None:
    over = MASKS["sinks"]
    q, k, v = problem(over, 2, torch.bfloat16)
    assert_close(backend(q, k, v, over), oracles.attention(*map(array, (q, k, v)), over.allowed().numpy()))
