"""The compiled decode step gives what the module gives, for every model, cache, batch and padding that it covers."""

import contextlib
import dataclasses
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glassformer as gf
from glassformer.inference import decode_plan, decode_room, decode_tables
from glassformer.inference.decode_plan import DecodePlan, plan_for
from glassformer.inference.engine import Engine
from glassformer.inference.logits import Sampling
from glassformer.inference.quantize import quantize
from glassformer.inference.request import Request
from glassformer.kernels import decode_step
from glassformer.models import specs
from glassformer.nn import threads as threads_of_kernels
from glassformer.nn.feedforward import SwiGLU
from glassformer.nn.kv_cache import KVCache, full, parse_policy
from glassformer.nn.linear import Linear
from support.counts import count
from support.scalings import random_scaling
from support.tiny import TINY

VOCAB, CONTEXT = 37, 48
FAMILIES = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "olmo2", "granite", "gemma2", "gemma3"]
FAMILIES += ["gpt_neox", "cs336"]
KINDS = ("linear", "dynamic", "yarn", "longrope", "llama3")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Steps are made in inference mode, and with as many threads as they like."""
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def random_config(family: str, choose: random.Random) -> Any:
    """A small configuration of a family, with whatever choices it has."""
    cls = specs()[family].config
    names = {field.name for field in dataclasses.fields(cls)}
    n_kv_heads, per_group = choose.choice([1, 2, 3]), choose.choice([1, 2, 4])
    d_head = choose.choice([4, 8, 18])
    n_heads = n_kv_heads * per_group
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "context_length": CONTEXT,
        "n_layers": choose.choice([1, 2, 3]),
        "n_heads": n_heads,
        "d_model": n_heads * d_head,
        "d_ff": choose.choice([5, 16, 70]),
        "tied_head": choose.random() < 0.5,
    }
    options: dict[str, Any] = {
        "n_kv_heads": n_kv_heads,
        "d_head": d_head,
        "qkv_bias": choose.random() < 0.5,
        "o_bias": choose.random() < 0.5,
        "mlp_bias": choose.random() < 0.5 and not family.startswith("gemma"),
        "attn_bias": choose.random() < 0.5,
        "qk_norm": choose.random() < 0.5,
        "parallel": choose.random() < 0.5,
        "activation": choose.choice(["gelu", "gelu_tanh", "relu", "silu"]),
        "rope_style": choose.choice(["half", "interleaved"]),
        "inverse_layer_scale": choose.random() < 0.5,
        "norm_placement": choose.choice(["pre", "post", "none"]),
        "ffn": choose.choice(["swiglu", "silu"]),
        "score_softcap": choose.choice([0.0, 3.0]),
        "logit_softcap": choose.choice([0.0, 2.0]),
        "query_scalar": choose.choice([4, 9]),
        "sliding_windows": choose.choice([(), (5,), (6, 0), (0, 4)]),
    }
    if "d_rotary" in names:
        options["d_rotary"] = choose.choice([n for n in (0, 2, 4) if n <= d_head])
    if "rope_scaling" in names and choose.random() < 0.6:
        n_pairs = (options.get("d_rotary") or (d_head // 4 if family == "gpt_neox" else d_head)) // 2
        kind = choose.choice(KINDS if n_pairs > 1 else KINDS[:1])
        if family != "gpt_neox":
            options["rope_scaling"], _ = random_scaling(kind, choose, n_pairs, 10_000.0, originals=(8, 16, 64))
    if "d_head" not in names or isinstance(vars(cls).get("d_head"), property):
        del options["d_head"]
    if family == "gpt_neox":
        options["d_rotary"] = choose.choice([2, 4])
    return cls(**settings, **{name: value for name, value in options.items() if name in names})


def model_of(family: str, config: Any, seed: int) -> nn.Module:
    """With weights that are large enough for every part to matter."""
    torch.manual_seed(seed)
    module = specs()[family].build(config).eval()
    for parameter in module.parameters():
        parameter.copy_(parameter * 3 + 0.1 * torch.randn(parameter.shape))
    return module


def begun(module: Any, cache: str, choose: random.Random, n_rows: int) -> KVCache:
    """A state after texts of different lengths, whose padding stands anywhere."""
    state: KVCache = module.begin(None, parse_policy(cache, CONTEXT))
    for _ in range(choose.choice([1, 2])):
        n = choose.randint(1, min(6, state.room))
        tokens, valid = torch.randint(VOCAB, (n_rows, n)), torch.rand(n_rows, n) < 0.7
        module(tokens, state, None if choose.random() < 0.3 else valid)
    return state


def test_a_plan_gives_what_its_module_gives_and_leaves_the_same_cache() -> None:
    caches = ("full", "window:3", "window:7", "sinks:1+4", "sinks:3+6")
    for case in range(count("decode steps of plans")):
        choose = random.Random(case)
        family = FAMILIES[case % len(FAMILIES)]
        config = random_config(family, choose)
        module, n_rows, cache = (
            model_of(family, config, case),
            choose.choice([1, 1, 2, 3, 4, 5, 8]),
            choose.choice(caches),
        )
        torch.set_num_threads(choose.choice([1, 2]))
        plan = plan_for(module)
        assert plan is not None, (case, config)
        state = begun(module, cache, choose, n_rows)
        if n_rows == 1 and choose.random() < 0.3:
            n_rows = choose.randint(1, 4)
            state = state.with_static_rows(n_rows)
        other = state.branch(torch.arange(n_rows))
        for _ in range(choose.randint(1, min(20, CONTEXT - 14))):
            tokens = torch.randint(VOCAB, (n_rows, 1))
            valid = torch.rand(n_rows, 1) < 0.7 if choose.random() < 0.3 else None
            expected = module(tokens, state, valid)
            logits = plan.step(tokens, other, valid)
            assert logits is not None, (case, config)
            rows = slice(None) if valid is None else valid[:, 0]
            assert differ(logits[rows], expected[rows]) < 1e-4, (case, config, cache)
        assert torch.equal(state.lengths, other.lengths)
        for mine, its in zip(other.layers, state.layers, strict=True):
            for one, another in zip(mine.buffers, its.buffers, strict=True):
                assert differ(one[:, :, 1:], another[:, :, 1:]) < 1e-4, (case, config, cache)


def test_a_plan_reads_several_tokens_of_each_text_at_once_as_its_module_does() -> None:
    """As drafts come: of each row at least one, and padding behind the last."""
    for case in range(count("decode steps of several tokens")):
        choose = random.Random(case)
        family = FAMILIES[case % len(FAMILIES)]
        module, n_rows = model_of(family, random_config(family, choose), case), choose.choice([1, 1, 2, 3])
        torch.set_num_threads(choose.choice([1, 2]))
        plan = plan_for(module)
        state = begun(module, choose.choice(["full", "window:40", "sinks:2+38"]), choose, n_rows)
        other = state.branch(torch.arange(n_rows))
        for _ in range(4):
            n_new = [choose.randint(1, 4) for _ in range(n_rows)]
            valid = torch.arange(max(n_new)) < torch.tensor(n_new)[:, None]
            tokens, spares = torch.randint(VOCAB, valid.shape), state.spares
            expected = module(tokens, state, valid)
            logits = None if plan is None else plan.step(tokens, other, None if valid.all() else valid)
            if valid.shape[1] > 1 and any(n > spare for n, spare in zip(n_new, spares, strict=True)):
                assert logits is None, "where tokens leave, several are the module's"
                break
            assert logits is not None, (case, family)
            assert differ(logits[valid], expected[valid]) < 1e-4, (case, family)
            n_forgotten = torch.tensor([choose.randint(0, n - 1) for n in n_new])
            state.rewind(n_forgotten)
            other.rewind(n_forgotten)
        else:
            assert torch.equal(state.lengths, other.lengths)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_plan_of_a_quantized_module_rounds_as_this_does(family: str, quantization: Any) -> None:
    sizes = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 64, "n_layers": 2, "n_heads": 4}
    module: Any = gf.build(
        family, **sizes, **({"d_ff": 96, "n_kv_heads": 2} if family == "llama" else {})
    ).module.eval()
    quantize(module, quantization)
    plan = plan_for(module)
    assert plan is not None
    for n_rows in (1, 3, 8):
        state = begun(module, "sinks:2+5", random.Random(n_rows), n_rows)
        other = state.branch(torch.arange(n_rows))
        for _ in range(9):
            tokens = torch.randint(VOCAB, (n_rows, 1))
            expected, logits = module(tokens, state), plan.step(tokens, other, None)
            assert logits is not None
            # A number between two levels may go to either, as the last bit of a sum before it falls.
            assert differ(logits, expected) < 2e-2
    module.blocks[0].mlp.up_proj.weight.levels = module.blocks[0].mlp.up_proj.weight.levels.clone()
    assert plan_for(module) is not plan


def differ(one: Tensor, other: Tensor) -> float:
    """The greatest difference, of numbers above 1 relative to the greatest of them."""
    if one.numel() == 0:
        return 0.0
    return float((one - other).abs().max()) / max(1.0, float(other.abs().max()))


@pytest.fixture(scope="module")
def llama() -> Any:
    return gf.build("llama", **SMALL).module.eval().requires_grad_(False)


SMALL: Any = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 24, "n_layers": 2, "n_heads": 3, "d_ff": 40}


def served(module: Any, n_rows: int = 1) -> bool:
    """Whether the plan makes a step in the module's place."""
    plan = plan_for(module)
    if plan is None:
        return False
    state = module.begin(None, full(8))
    module(torch.zeros(n_rows, 2, dtype=torch.long), state)
    return plan.step(torch.ones(n_rows, 1, dtype=torch.long), state, None) is not None


def test_nothing_is_copied_and_weights_that_change_in_place_count_at_once(llama: Any) -> None:
    plan, state = plan_for(llama), llama.begin(None, full(9))
    assert plan is not None
    llama(torch.tensor([[1, 2]]), state)
    before = llama.blocks[0].mlp.up_proj.weight.clone()
    for _ in range(2):
        other = state.branch(torch.tensor([0]))
        logits = plan.step(torch.tensor([[3]]), other, None)
        assert logits is not None
        assert differ(logits, llama(torch.tensor([[3]]), state.branch(torch.tensor([0])))) < 1e-5
        llama.blocks[0].mlp.up_proj.weight.mul_(-2)
    llama.blocks[0].mlp.up_proj.weight.copy_(before)
    assert plan_for(llama) is plan


def test_other_memory_and_other_parts_make_another_plan() -> None:
    module: Any = gf.build("llama", **SMALL).module.eval()
    plan = plan_for(module)
    assert plan is not None
    module.lm_head.weight = nn.Parameter(module.lm_head.weight * 2)
    state = module.begin(None, full(9))
    module(torch.tensor([[1, 2]]), state)
    assert plan.step(torch.tensor([[3]]), state, None) is None
    another = plan_for(module)
    assert another is not plan
    assert served(module)
    module.blocks[1].mlp.gate_proj = Linear(24, 40, bias=True)
    assert plan_for(module) is not another
    assert served(module)
    module.double()
    assert plan_for(module) is None


def test_the_module_runs_where_somebody_wants_to_see_it(llama: Any) -> None:
    assert served(llama)
    with gf.use("readable"):
        assert not served(llama)
    with gf.use(attention="naive"):
        assert not served(llama)
    handle = llama.blocks[0].mlp.register_forward_hook(lambda *_: None)
    assert not served(llama)
    handle.remove()
    assert served(llama)
    llama.train()
    assert not served(llama)
    llama.eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert not served(llama)
    with torch.inference_mode(False), torch.enable_grad():
        assert not served(llama)
    assert not served(llama, n_rows=decode_plan.MOST_ROWS + 1)
    assert served(llama, n_rows=decode_plan.MOST_ROWS)
    trace = gf.trace(llama, torch.tensor([[1, 2]]))
    assert any(operation.name == "linear" or "mm" in operation.name for operation in trace.operations)


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v2", "rnn"])
def test_what_no_table_says_is_left_to_the_module(family: str) -> None:
    assert plan_for(gf.build(family, **TINY[family]).module.eval()) is None


def test_a_class_that_derives_from_a_covered_one_is_left_to_the_module() -> None:
    class Doubled(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    module: Any = gf.build("llama", **SMALL).module.eval()
    module.blocks[0].mlp.up_proj = Doubled(24, 40, bias=False)
    assert plan_for(module) is None
    module = gf.build("llama", **SMALL).module.eval()
    module.blocks[0].forward = module.blocks[0].forward
    assert plan_for(module) is None


def test_a_plan_that_differs_is_not_used_and_a_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = gf.build("llama", **SMALL).module.eval()
    monkeypatch.setitem(decode_tables.GATES, SwiGLU, decode_step.RELU)
    with pytest.warns(UserWarning, match="decode step of this Llama differs: the module runs"):
        assert plan_for(module) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan_for(module) is None


def texts_of(module: Any, n: int) -> list[list[int]]:
    """What an engine makes of two prompts."""
    engine = Engine(module, full(CONTEXT))
    texts: list[list[int]] = [[], []]
    for prompt in ((1, 2, 3), (4,)):
        engine.admit(Request(tokens=prompt, sampling=Sampling(temperature=0.0), max_new_tokens=n))
    for new in engine.run():
        texts[new.sequence].append(new.token)
    return texts


def test_an_engine_makes_the_same_text_with_and_without(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[bool] = []
    whole = DecodePlan.step

    def noted(self: DecodePlan, *arguments: Any) -> Tensor | None:
        logits = whole(self, *arguments)
        steps.append(logits is not None)
        return logits

    monkeypatch.setattr(DecodePlan, "step", noted)
    texts = texts_of(llama, 12)
    assert steps.count(True) >= 11
    with gf.use("readable"):
        assert texts_of(llama, 12) == texts


def test_a_short_text_of_a_small_model_loads_no_kernel() -> None:
    program = """
import sys, glassformer as gf
from glassformer.inference import decode_plan
model = gf.build("llama", vocab_size=7, context_length=400, d_model=8, n_layers=1, n_heads=2, d_ff=8)
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
sampling = Sampling(temperature=0.0)
[*generate(model.module, [[1]], max_new_tokens=50, sampling=sampling)]
assert "numba" not in sys.modules
decode_plan.WORTH = 0.02
[*generate(model.module, [[1]], max_new_tokens=50, sampling=sampling)]
assert decode_plan.KERNEL in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_threads_share_a_step_and_one_may_be_missing(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    alone = texts_of(llama, 30)
    torch.set_num_threads(2)
    results: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: results.append(texts_of(llama, 30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [alone] * 3  # the plan serves one at a time, and the module the others
    monkeypatch.setattr(threads_of_kernels, "_openmp", lambda: None)  # threads of ours, which come late
    assert texts_of(llama, 30) == alone
    monkeypatch.setattr(decode_room, "run_together", lambda kernel, callback, places, n: kernel(places.ctypes.data))
    assert texts_of(llama, 30) == alone


def test_a_thread_that_comes_late_finds_the_step_made(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []

    def noted(kernel: Any, callback: Any, places: Any, n_threads: int) -> None:
        kernel(places.ctypes.data)
        steps.append((kernel, places.copy()))

    monkeypatch.setattr(decode_room, "run_together", noted)
    texts_of(llama, 3)
    kernel, places = steps[-1]
    places[decode_step.LAYERS] = places[decode_step.LOGITS] = 0  # what it would touch is no memory any more
    before = places.copy()
    kernel(places.ctypes.data)
    assert (places == before).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_no_helpers_and_steps_all_the_same(llama: Any) -> None:
    torch.set_num_threads(2)
    plan, state = plan_for(llama), llama.begin(None, full(CONTEXT))
    assert plan is not None
    llama(torch.tensor([[1, 2]]), state)
    states = [state.branch(torch.tensor([0])) for _ in range(2)]
    tokens = torch.tensor([[3]])
    expected = [plan.step(tokens, states[0], None) for _ in range(30)][-1]
    assert expected is not None
    child = os.fork()
    if child == 0:
        logits = [plan.step(tokens, states[1], None) for _ in range(30)][-1]
        os._exit(0 if logits is not None and logits.tolist() == expected.tolist() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_token_that_is_none_and_a_full_cache_raise_as_the_module_does(llama: Any) -> None:
    plan, state = plan_for(llama), llama.begin(None, full(3))
    assert plan is not None
    llama(torch.tensor([[1, 2]]), state)
    assert plan.step(torch.tensor([[VOCAB]]), state, None) is None
    assert plan.step(torch.tensor([[1]]), state, None) is not None
    with pytest.raises(gf.GlassformerError, match="cannot take 1 at once: the context is full"):
        plan.step(torch.tensor([[1]]), state, None)


def small() -> Any:
    """A Llama of two layers."""
    config = specs()["llama"].config(
        vocab_size=VOCAB, context_length=CONTEXT, n_layers=2, n_heads=2, d_model=32, d_ff=64
    )
    return model_of("llama", config, 0)


def differs(module: Any, plan: DecodePlan) -> bool:
    """Whether a step of the plan gives something else than the module."""
    state = module.begin(None, full(CONTEXT))
    module(torch.arange(5)[None], state)
    logits = plan.step(torch.tensor([[7]]), state.branch(torch.zeros(1, dtype=torch.long)), None)
    return logits is not None and not torch.allclose(logits, module(torch.tensor([[7]]), state), atol=1e-4)


def test_what_is_set_on_a_module_after_a_plan_is_in_the_next_one() -> None:
    def set_scale(module: Any) -> None:
        module.blocks[0].attn.scale = 3.0

    def set_epsilon(module: Any) -> None:
        module.blocks[0].attn_norm.eps = 0.5

    def set_forward(module: Any) -> None:
        module.blocks[0].mlp.forward = torch.zeros_like

    def set_rotation(module: Any) -> None:
        module.rope = dataclasses.replace(module.rope, theta=50.0)

    def turn_matrix(module: Any) -> None:
        weight = module.blocks[0].attn.o_proj.weight
        weight.data = weight.data.mT  # in the same memory

    def crop_vocabulary(module: Any) -> None:
        module.token_embedding.weight.data = module.token_embedding.weight.data[:8]

    for change in (set_scale, set_epsilon, set_forward, set_rotation, turn_matrix, crop_vocabulary):
        module = small()
        assert plan_for(module) is not None
        change(module)
        plan = plan_for(module)
        assert plan is None or not differs(module, plan), change.__name__
        assert (plan is None) == (change in (set_forward, turn_matrix, crop_vocabulary)), change.__name__


def test_hooks_around_every_module_are_called() -> None:
    module = small()
    plan = plan_for(module)
    assert plan is not None
    state = module.begin(None, full(CONTEXT))
    module(torch.arange(5)[None], state)
    hooks: Any = nn.modules.module
    for register in (hooks.register_module_forward_hook, hooks.register_module_forward_pre_hook):
        with register(lambda part, *_: None):
            assert plan.step(torch.tensor([[7]]), state, None) is None
        assert plan.step(torch.tensor([[7]]), state, None) is not None


def test_a_text_under_way_keeps_its_weights_in_memory_and_soon_sees_that_there_are_others() -> None:
    module = small()
    plan = plan_for(module)
    assert plan is not None
    state, tokens = module.begin(None, full(CONTEXT)), torch.tensor([[7]])
    module(torch.arange(5)[None], state)
    expected = module(tokens, state.branch(torch.tensor([0])))
    assert plan.step(tokens, state.branch(torch.tensor([0])), None) is not None
    steps = [plan.step(tokens, state, None)]
    weight = module.lm_head.weight
    weight.data = torch.full_like(weight, torch.nan)
    steps += [plan.step(tokens, state, None) for _ in range(decode_plan.UNSEEN)]
    assert steps[-1] is None
    assert all(logits.isfinite().all() for logits in steps if logits is not None)
    assert differ(next(logits for logits in steps if logits is not None), expected) < 1e-4
    del state
    assert len(plan._looks) == 0


def test_who_is_stopped_while_room_is_made_has_room_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small()
    plan = plan_for(module)
    assert plan is not None
    state = module.begin(None, full(CONTEXT))
    module(torch.arange(8)[:, None], state)
    tokens, zeros = torch.arange(8)[:, None], np.zeros
    expected = module(tokens, state.branch(torch.arange(8)))
    for n_made in range(14):
        left = [n_made]

        def stopping(*args: Any, left: list[int] = left) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return zeros(*args)

        one = state.branch(torch.zeros(1, dtype=torch.long))
        assert plan.step(tokens[:1], one, None) is not None  # room for one row
        with monkeypatch.context() as patch:
            patch.setattr(np, "zeros", stopping)
            with contextlib.suppress(KeyboardInterrupt):
                plan.step(tokens, state.branch(torch.arange(8)), None)
        logits = plan.step(tokens, state.branch(torch.arange(8)), None)
        assert logits is not None
        assert torch.allclose(logits, expected, atol=1e-4)


def test_a_cache_of_another_precision_is_the_modules() -> None:
    module = small()
    plan = plan_for(module)
    assert plan is not None
    state = module.begin(None, full(CONTEXT))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(torch.arange(5)[None], state)
    assert plan.step(torch.tensor([[7]]), state, None) is None
