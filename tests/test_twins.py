"""Every fast twin equals its readable equation, forward and backward; and `use` chooses between them."""

import contextvars
import copy
import dataclasses
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import glassformer
from glassformer import twins
from glassformer.errors import ConfigError
from glassformer.nn import attend, functional
from glassformer.twins import BACKENDS, TWINS, Backend, Choice, current, twin, use
from support.tolerances import assert_close

SOURCE = Path(glassformer.__file__).parent

for path in sorted(SOURCE.rglob("*.py")):  # declaring a twin happens on import
    if "\n@twin(" in path.read_text():
        importlib.import_module(".".join(("glassformer", *path.relative_to(SOURCE).with_suffix("").parts)))

Inputs = tuple[object, ...]
FLOATS = (torch.float64, torch.float32, torch.bfloat16)
EXTREMES = [0.0, -0.0, 1e-30, -1e-30, 1e-3, -1e-3, 1.0, -1.0, 6.0, -6.0, 20.0, -20.0, 1e4, -1e4]


def randn(*shape: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, dtype=torch.float64) * scale).to(dtype)


def elementwise(dtype: torch.dtype) -> Iterator[Inputs]:
    yield (randn(3, 4, 5, dtype=dtype),)
    yield (randn(1, dtype=dtype),)
    yield (randn(2, 0, 3, dtype=dtype),)
    yield (torch.tensor(EXTREMES, dtype=dtype),)


def softmaxes(dtype: torch.dtype) -> Iterator[Inputs]:
    yield (randn(2, 3, 7, dtype=dtype),)
    yield randn(2, 3, 7, dtype=dtype), 1
    yield randn(2, 3, 7, dtype=dtype), 0
    yield (randn(4, 1, dtype=dtype),)
    yield (randn(4, 9, dtype=dtype, scale=1000),)
    yield (randn(4, 9, dtype=dtype) + 1e4,)
    yield (torch.tensor([[0.5, -torch.inf, 2.0], [-torch.inf, -torch.inf, -3.0]], dtype=dtype),)
    yield (torch.tensor([[-1e30, 0.0, 1e30]], dtype=dtype),)


def linears(dtype: torch.dtype) -> Iterator[Inputs]:
    yield randn(2, 3, 5, dtype=dtype), randn(4, 5, dtype=dtype), randn(4, dtype=dtype)
    yield randn(5, dtype=dtype), randn(4, 5, dtype=dtype)
    yield randn(2, 1, 2, 1, dtype=dtype), randn(1, 1, dtype=dtype), randn(1, dtype=dtype)
    yield randn(0, 5, dtype=dtype), randn(4, 5, dtype=dtype), randn(4, dtype=dtype)


def embeddings(dtype: torch.dtype) -> Iterator[Inputs]:
    yield torch.tensor([[0, 6, 6], [6, 1, 0]]), randn(7, 4, dtype=dtype)  # a repeated row adds its gradients
    yield torch.tensor(2), randn(3, 1, dtype=dtype)
    yield torch.tensor([0, 1], dtype=torch.int32), randn(2, 3, dtype=dtype)


def convolutions(dtype: torch.dtype) -> Iterator[Inputs]:
    yield randn(2, 7, 3, dtype=dtype), randn(4, 3, 3, dtype=dtype), randn(4, dtype=dtype), 2, 1
    yield randn(1, 5, 2, dtype=dtype), randn(3, 2, 5, dtype=dtype)
    yield randn(2, 1, 1, dtype=dtype), randn(1, 1, 1, dtype=dtype), randn(1, dtype=dtype), 3, 0
    yield randn(1, 6, 2, dtype=dtype), randn(3, 2, 2, dtype=dtype), None, 1, 4  # windows of nothing but padding


def layer_norms(dtype: torch.dtype) -> Iterator[Inputs]:
    for x in (
        randn(2, 3, 8, dtype=dtype),
        randn(8, dtype=dtype),
        randn(2, 8, dtype=dtype, scale=1e3),
    ):
        yield x, randn(x.shape[-1], dtype=dtype), randn(x.shape[-1], dtype=dtype)
    for constant in torch.ones(2, 8, dtype=dtype), randn(3, 1, dtype=dtype):
        width = constant.shape[-1]
        yield constant, randn(width, dtype=dtype), randn(width, dtype=dtype), 1.0  # 1 / √ε would amplify rounding


def rms_norms(dtype: torch.dtype) -> Iterator[Inputs]:
    for x, weight, *_ in layer_norms(dtype):
        yield x, weight
    yield torch.zeros(2, 8, dtype=dtype), randn(8, dtype=dtype)
    yield randn(3, 1, dtype=dtype), randn(1, dtype=dtype), 0.1


def cross_entropies(dtype: torch.dtype) -> Iterator[Inputs]:
    targets = torch.tensor([[0, 4, 2], [2, 3, 3]])
    yield randn(2, 3, 5, dtype=dtype), targets
    yield randn(2, 3, 5, dtype=dtype), targets, 3
    yield randn(2, 3, 5, dtype=dtype), targets, -100, 0.1
    yield randn(2, 3, 5, dtype=dtype), targets.where(targets != 2, -100), -100, 0.3
    yield randn(2, 3, 5, dtype=dtype), targets.where(targets != 2, -100), -100, 0.3, "sum"
    yield randn(2, 3, 5, dtype=dtype), torch.full((2, 3), -100), -100, 0.0, "sum"
    yield randn(2, 3, 5, dtype=dtype, scale=1000), targets
    yield randn(3, 1, dtype=dtype), torch.zeros(3, dtype=torch.long)
    yield randn(1, 5, dtype=dtype), torch.tensor([4], dtype=torch.int32)
    yield torch.tensor([[0.5, -torch.inf, 2.0]], dtype=dtype), torch.tensor([2])


CASES: dict[str, Callable[[torch.dtype], Iterator[Inputs]]] = {
    "nn.functional.linear": linears,
    "nn.convolution.conv1d": convolutions,
    "nn.functional.embedding": embeddings,
    "nn.functional.softmax": softmaxes,
    "nn.functional.log_softmax": softmaxes,
    "nn.functional.layer_norm": layer_norms,
    "nn.functional.rms_norm": rms_norms,
    "nn.functional.relu": elementwise,
    "nn.functional.gelu": elementwise,
    "nn.functional.gelu_tanh": elementwise,
    "nn.functional.silu": elementwise,
    "nn.functional.cross_entropy": cross_entropies,
}


def adamws(dtype: torch.dtype) -> Iterator[dict[str, object]]:
    """Parameters, gradients, both moments, steps: one tensor, several, none; zero and large gradients."""
    settings = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    for shapes, steps, scale in (
        ([(3, 4), (5,), ()], [1, 7, 1000], 1.0),
        ([(1,)], [1], 1e4),
        ([(2, 3)], [2], 0.0),
        ([], [], 1.0),
    ):
        yield {
            "parameters": [randn(*shape, dtype=dtype) for shape in shapes],
            "gradients": [randn(*shape, dtype=dtype, scale=scale) for shape in shapes],
            "means": [randn(*shape, dtype=dtype, scale=scale) for shape in shapes],
            "mean_squares": [randn(*shape, dtype=dtype, scale=scale).square() for shape in shapes],
            "steps": [torch.tensor(float(step)) for step in steps],
            **settings,
        }


def clippings(dtype: torch.dtype) -> Iterator[dict[str, object]]:
    """Above, below and at the bound; a gradient missing, all missing, zero, of length 1, not finite."""
    for gradients, bound in (
        ([randn(3, 4, dtype=dtype), None, randn(5, dtype=dtype)], 1.0),
        ([randn(3, 4, dtype=dtype)], 1e6),
        ([torch.tensor([3.0, 4.0], dtype=dtype)], 5.0),
        ([torch.zeros(3, dtype=dtype)], 1.0),
        ([randn(1, dtype=dtype, scale=1e4)], 0.5),
        ([torch.tensor([torch.inf, 1.0], dtype=dtype)], 1.0),
        ([None], 1.0),
        ([], 1.0),
    ):
        parameters = [torch.zeros(()) if grad is None else torch.zeros_like(grad) for grad in gradients]
        for parameter, grad in zip(parameters, gradients, strict=True):
            parameter.grad = grad
        yield {"parameters": parameters, "max_norm": bound}


IN_PLACE: dict[str, Callable[[torch.dtype], Iterator[dict[str, object]]]] = {
    "training.adamw.adamw": adamws,
    "training.clip.clip_gradients": clippings,
}


ON_INTEGERS = {  # tests/tokenizers/
    *("tokenizers.bpe.learn", "tokenizers.bpe.merge", "tokenizers.pretokenize.split"),
    *("tokenizers.byte_level.encode", "tokenizers.byte_level.decode"),
    "tokenizers.counting.count_shares",
    "nn.quantized.linear",  # whose twin rounds x, too: tests/nn/test_quantized.py
    "tokenizers.special_tokens.find",
}


@pytest.mark.parametrize("size", [(64, 5), (2, 40, 5), (2, 0, 40, 5), (40, 0)])
def test_linear_without_gradients_is_what_it_is_with_them(size: tuple[int, ...]) -> None:
    x, bias = torch.randn(size), torch.randn(7)
    weights = torch.randn(7, size[-1]), torch.randn(size[-1], 7).mT, torch.randn(14, 2 * size[-1])[::2, ::2][:7]
    views = x, x.flip(0), x.transpose(0, -2)
    for weight in weights:
        for each in views:
            for offset in (bias, None):
                with torch.inference_mode(), twins.use("fast"):
                    y = functional.linear(each, weight, offset)
                with twins.use("readable"):
                    assert_close(y, functional.linear(each, weight, offset))


def test_every_twin_has_a_case_here() -> None:
    assert {*CASES, *IN_PLACE, *ON_INTEGERS} == set(TWINS)


def parameters_of(function: Callable[..., object]) -> list[tuple[object, ...]]:
    return [(entry.name, entry.kind, entry.default) for entry in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted({*CASES, *IN_PLACE, *ON_INTEGERS}))
def test_a_twin_has_the_same_name_and_parameters(name: str) -> None:
    fast = TWINS[name].fast()
    assert fast is not None
    assert fast.__name__ == TWINS[name].readable.__name__
    assert parameters_of(fast) == parameters_of(TWINS[name].readable)


def public(name: str) -> Callable[..., Tensor]:
    """The function that users call, which chooses between the two."""
    module, _, function = f"glassformer.{name}".rpartition(".")
    chosen: Callable[..., Tensor] = getattr(importlib.import_module(module), function)
    return chosen


def run(name: str, mode: twins.Mode, inputs: Inputs) -> list[Tensor]:
    """The result, and the gradients of a fixed weighted sum of it."""
    leaves = [
        part.clone().requires_grad_() if isinstance(part, Tensor) and part.is_floating_point() else part
        for part in inputs
    ]
    with use(mode):
        out = public(name)(*leaves)
    weights = torch.linspace(0.5, 2.0, out.numel(), dtype=out.dtype).reshape(out.shape)
    finite = torch.isfinite(out)
    (out.where(finite, 0.0) * weights).sum().backward()
    return [out, *(part.grad for part in leaves if isinstance(part, Tensor) and part.requires_grad)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", sorted(CASES))
def test_readable_equals_fast_forward_and_backward(name: str, dtype: torch.dtype) -> None:
    for inputs in CASES[name](dtype):
        readable, fast = run(name, "readable", inputs), run(name, "fast", inputs)
        assert len(readable) == len(fast) > 1
        for one, other in zip(readable, fast, strict=True):
            assert one.dtype == other.dtype == dtype
            assert not one.isnan().any()
            assert_close(one, other)


def everything_in(value: object) -> list[Tensor]:
    """The tensors of nested lists, gradients included."""
    if isinstance(value, list):
        return [tensor for part in value for tensor in everything_in(part)]
    if isinstance(value, Tensor):
        return [value] if value.grad is None else [value, value.grad]
    return []


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=str)
@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_readable_equals_fast_where_tensors_are_changed_in_place(name: str, dtype: torch.dtype) -> None:
    for inputs in IN_PLACE[name](dtype):
        changed: list[list[Tensor]] = []
        for mode in ("readable", "fast"):
            copies = copy.deepcopy(inputs)
            with use(mode):
                out = public(name)(**copies)
            changed.append(everything_in([out, *copies.values()]))
        for one, other in zip(*changed, strict=True):
            assert one.dtype == other.dtype
            assert_close(one, other)


def test_an_all_ignored_cross_entropy_is_nan_in_both_modes() -> None:
    for mode in ("readable", "fast"):
        with use(mode):
            assert glassformer.nn.functional.cross_entropy(torch.randn(2, 3), torch.tensor([-100, -100])).isnan()


def test_rms_norm_of_bfloat16_takes_its_mean_in_float32() -> None:
    x, weight = randn(64, 256, dtype=torch.bfloat16, scale=30), randn(256, dtype=torch.bfloat16)
    wide = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    for mode in ("readable", "fast"):
        with use(mode):
            assert torch.equal(glassformer.nn.functional.rms_norm(x, weight), wide.bfloat16() * weight)
            assert glassformer.nn.functional.rms_norm(x, weight.float()).dtype == torch.bfloat16


LARGE: dict[str, Callable[[torch.dtype], Inputs]] = {  # float16 ends at 65504; the second of each holds their sums
    "layer_norm": lambda dtype: (randn(8, 256, dtype=dtype, scale=2e3), torch.ones(256), torch.zeros(256)),
    "rms_norm": lambda dtype: (randn(8, 256, dtype=dtype, scale=2e3), torch.ones(256)),
    "softmax": lambda dtype: (randn(1, 200_000, dtype=dtype, scale=1e-2),),
    "log_softmax": lambda dtype: (randn(1, 200_000, dtype=dtype, scale=1e-2),),
    "cross_entropy": lambda dtype: (randn(20_000, 9, dtype=dtype, scale=4), torch.arange(20_000) % 9),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", sorted(LARGE))
def test_half_precision_is_widened_where_sums_and_squares_would_overflow(name: str, dtype: torch.dtype) -> None:
    inputs = LARGE[name](dtype)
    parts = [part.to(dtype) if isinstance(part, Tensor) and part.is_floating_point() else part for part in inputs]
    wide = [part.double() if isinstance(part, Tensor) and part.is_floating_point() else part for part in inputs]
    function = getattr(torch.nn.functional, name)
    shape = [(256,)] if name.endswith("norm") else [-1] if name.endswith("softmax") else []
    expected = function(wide[0], *shape, *wide[1:])
    for mode in ("readable", "fast"):
        with use(mode):
            out = getattr(glassformer.nn.functional, name)(*parts)
        assert out.dtype == dtype
        rounding = torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny
        assert ((out.double() - expected).abs() <= rounding).all(), mode


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_half_precision_gradients_are_clipped_by_a_norm_that_they_could_not_hold(
    mode: twins.Mode, dtype: torch.dtype
) -> None:
    parameters = [nn.Parameter(torch.zeros(9, dtype=dtype)), nn.Parameter(torch.zeros(7, dtype=torch.float32))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 3e4)
    with use(mode):
        norm = glassformer.training.clip.clip_gradients(parameters, 1.0)
    assert norm.dtype == torch.float32
    torch.testing.assert_close(norm, torch.tensor(12e4), rtol=torch.finfo(dtype).eps, atol=0)
    for parameter in parameters:
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 0.25), rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_gradient_of_gelu_is_finite_where_the_cube_overflows_half_precision(dtype: torch.dtype) -> None:
    for mode in ("readable", "fast"):
        x = torch.tensor([-300.0, -70.0, 0.0, 70.0, 300.0], dtype=dtype, requires_grad=True)
        with use(mode):
            glassformer.nn.functional.gelu_tanh(x).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_the_second_derivative_of_gelu_is_the_same_in_both_modes() -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    for power in (1, 2):  # with a constant for the gradient of the result, and without
        curvatures = []
        for mode in ("readable", "fast"):
            with use(mode):
                out = glassformer.nn.functional.gelu_tanh(x).pow(power).sum()
            (slope,) = torch.autograd.grad(out, x, create_graph=True)
            curvatures.append(torch.autograd.grad(slope.sum(), x)[0])
        assert_close(*curvatures)


def test_the_default_is_fast_with_automatic_attention() -> None:
    assert current() == Choice(mode="fast", attention="auto")


def test_use_nests_and_leaves_what_it_does_not_name() -> None:
    with use("readable"):
        assert current() == Choice(mode="readable", attention="auto")
        with use(attention="tiled"):
            assert current() == Choice(mode="readable", attention="tiled")
            with use("fast", attention="naive"):
                assert current() == Choice(mode="fast", attention="naive")
            assert current() == Choice(mode="readable", attention="tiled")
        assert current() == Choice(mode="readable", attention="auto")
    assert current() == Choice()


def test_use_restores_after_an_exception() -> None:
    with pytest.raises(RuntimeError), use("readable", attention="naive"):
        raise RuntimeError
    assert current() == Choice()


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_a_thread_started_inside_a_block_sees_its_choice() -> None:
    seen: list[Choice] = []

    def look_and_choose() -> None:
        seen.append(current())
        with use(attention="naive"):
            in_a_thread(lambda: seen.append(current()))
        seen.append(current())

    with use("readable"):
        in_a_thread(look_and_choose)
    in_a_thread(lambda: seen.append(current()))
    readable = Choice(mode="readable")
    assert seen == [readable, Choice(mode="readable", attention="naive"), readable, Choice()]


def test_a_thread_keeps_the_choice_of_the_block_in_which_it_began_and_no_later_one_moves_it() -> None:
    seen: dict[str, list[Choice]] = {"before": [], "inside": [], "late": []}
    turns = {name: [threading.Event(), threading.Event()] for name in seen}

    def look(name: str) -> None:
        asked, done = turns[name]
        for _ in range(2 if name == "inside" else 1):
            assert asked.wait(timeout=120)
            asked.clear()
            seen[name].append(current())
            done.set()

    def ask(name: str) -> None:
        asked, done = turns[name]
        asked.set()
        assert done.wait(timeout=120)
        done.clear()

    threads = {name: threading.Thread(target=look, args=(name,)) for name in seen}
    threads["before"].start()
    with use("readable", attention="naive"):
        threads["inside"].start()
        threads["late"].start()
        ask("before")
        ask("inside")
    with use(attention="tiled"):
        ask("inside")
        ask("late")  # it looks for the first time when its block has long been closed
    for thread in threads.values():
        thread.join()
    chosen = Choice(mode="readable", attention="naive")
    assert seen == {"before": [Choice()], "inside": [chosen, chosen], "late": [chosen]}


def test_each_context_has_its_own_choice() -> None:
    elsewhere = contextvars.copy_context()
    with use("readable"):
        assert elsewhere.run(current) == Choice()
        assert current().mode == "readable"


def test_threads_that_choose_at_the_same_time_do_not_disturb_each_other() -> None:
    both_inside = threading.Barrier(2)
    seen: dict[str, str] = {}

    def choose(mode: twins.Mode) -> None:
        with use(mode):
            both_inside.wait(timeout=120)
            seen[mode] = current().mode
            both_inside.wait(timeout=120)

    threads = [threading.Thread(target=choose, args=(mode,)) for mode in ("readable", "fast")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"readable": "readable", "fast": "fast"}


@pytest.mark.parametrize("mode", ["slow", "", "Readable", 1])
@pytest.mark.usefixtures("unchecked")
def test_an_unknown_mode_is_an_error_that_names_the_modes(mode: object) -> None:
    with pytest.raises(ConfigError, match=r'"readable" and "fast"'), use(mode):  # type: ignore[arg-type]
        pass
    assert current() == Choice()


def test_an_unknown_backend_is_an_error_that_names_the_backends() -> None:
    with pytest.raises(ConfigError, match="auto, sdpa, naive, tiled"), use(attention="flash"):
        pass


def test_a_backend_chosen_before_any_is_registered_is_checked_when_it_is_to_run() -> None:
    x, over = torch.randn(1, 2, 3, 4), glassformer.nn.mask.Mask.over(glassformer.nn.mask.Causal(), 3)
    registered = dict(BACKENDS)
    BACKENDS.clear()
    try:
        chosen = [use(attention=name) for name in ("tiled", "flash")]
        with chosen[0]:
            BACKENDS.update(registered)
            attend.attend(x, x, x, over)
        BACKENDS.clear()
        with chosen[1]:
            BACKENDS.update(registered)
            with pytest.raises(ConfigError, match="auto, sdpa, naive, tiled"):
                attend.attend(x, x, x, over)
    finally:
        BACKENDS.update(registered)


@pytest.mark.parametrize(
    ("mode", "attention", "runs"),
    [
        ("fast", "auto", "sdpa"),
        ("readable", "auto", "naive"),
        ("readable", "tiled", "tiled"),
        ("fast", "naive", "naive"),
        ("readable", "sdpa", "sdpa"),
    ],
)
def test_attention_runs_the_named_backend_and_auto_follows_the_mode(
    mode: twins.Mode, attention: str, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name, backend in BACKENDS.items():

        def spy(*args: object, backend: Backend = backend, **settings: object) -> object:
            called.append(backend.name)
            return backend.fn(*args, **settings)

        monkeypatch.setitem(BACKENDS, name, dataclasses.replace(backend, fn=spy))
    x = torch.randn(1, 2, 3, 4)
    with use(mode, attention=attention):
        attend.attend(x, x, x, glassformer.nn.mask.Mask.over(glassformer.nn.mask.Causal(), 3))
    assert called == [runs]


def test_a_readable_function_runs_where_its_twins_library_is_missing_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twins, "TWINS", {})

    monkeypatch.setattr(twins, "_missing", set())

    @twin("glassformer.no_such_kernels")
    def double(x: int) -> int:
        return 2 * x

    @twin("glassformer.no_such_kernels")
    def triple(x: int) -> int:
        return 3 * x

    with pytest.warns(UserWarning, match="the readable form runs") as caught:
        results = [double(4), double(5), triple(4)]
    assert results == [8, 10, 12]
    assert len(caught) == 1
