"""The recorder: what it writes down, what it calls it, and that it leaves nothing behind."""

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import glassformer as gf
from glassformer.errors import GlassformerError, TraceError
from glassformer.inference.recorded_call import call_of
from glassformer.tracing.check import check
from glassformer.tracing.recorder import record
from support.counts import count
from support.tiny import TINY, inputs

MODELS = {
    "gpt2": lambda: gf.build("nano-sort", seed=1),
    "llama": lambda: gf.build(
        "llama", vocab_size=11, context_length=12, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=24
    ),
    "cs336": lambda: gf.build("cs336", vocab_size=11, context_length=12, d_model=16, n_layers=2, n_heads=4, d_ff=24),
}
TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2]])


class Named(nn.Module):
    """Every way to give a result a name."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
        a, b = x.chunk(2)
        c, d = a + 1, b * 2
        e: Tensor = c - d
        e += scale
        f = (g := e.exp()) * 2
        h = self.inner(f) if x.ndim else f
        table = [h.sum(), g.mean()]
        k = helper(h)
        k.mul_(2)
        for i in range(3):
            k = k + i
        del table
        return k.tanh()


def helper(x: Tensor) -> Tensor:
    y = x.relu()
    return y.abs().sqrt()


@pytest.fixture
def named():
    return record(Named(), torch.randn(2, 4), scale=torch.ones(4))


def test_names_are_those_of_the_variables(named):
    for name in ("x", "scale", "a", "b", "c", "d", "e", "f", "g", "h", "k", "output", "inner.output", "inner.input"):
        assert name in named, name
    assert torch.equal(named["c"].value, named["a"].value + 1)
    assert torch.equal(named["d"].value, named["b"].value * 2)
    assert torch.equal(named["h"].value, named["inner.output"].value)
    assert torch.equal(named["g"].value, named["e"].value.exp())
    assert torch.equal(named["output"].value, named["k"].value.tanh())


def test_a_name_given_again_has_a_number_and_stands_for_the_last(named):
    numbered = [named[f"k#{i}"].value for i in range(1, 6)]
    assert torch.equal(numbered[0] * 2, numbered[1]), "after mul_, which works in place"
    assert torch.equal(numbered[1] + 0 + 1 + 2, named["k"].value)
    assert torch.equal(named["e#1"].value, named["c"].value - named["d"].value)
    assert torch.equal(named["e"].value, named["e#1"].value + 1)


def test_inner_expressions_have_derived_names(named):
    assert torch.equal(named["k.abs"].value, named["y"].value.abs())


def test_lines_of_source_are_those_that_computed(named):
    assert named["e"].operation.source.text == "e += scale"
    assert named["k#1"].operation.source.text == "return y.abs().sqrt()"
    assert named["k#1"].operation.source.function == "helper"
    assert named["h"].operation.source.file.endswith("linear.py")


def test_a_name_that_is_not_there_gets_the_near_ones(named):
    with pytest.raises(TraceError, match=r"no tensor inner\.outputs\. There are inner\.output"):
        named["inner.outputs"]
    with pytest.raises(TraceError, match="no tensor k#9"):
        named["k#9"]
    with pytest.raises(TraceError, match=r"shape \(1, 4\), so there is no cell \[0, 4\]"):
        named["k"][0, 4]


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_a_run_that_nobody_watches(name):
    model = MODELS[name]()
    with gf.use("readable", attention="naive"), torch.no_grad():
        readable = model.module(TOKENS)
    with torch.no_grad():
        fast = model.module(TOKENS)
    trace = gf.trace(model, TOKENS)
    assert torch.equal(trace["logits"].value, readable)
    assert torch.allclose(trace["logits"].value, fast, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_names_on_our_models_are_those_of_the_papers(name):
    trace = gf.trace(MODELS[name](), TOKENS)
    attention = ["q", "k", "v", "scores", "weights", "out", "y", "highest", "exponentials", "total", "allowed"]
    mlp = ["gate", "up", "gated"] if name != "gpt2" else ["hidden", "activated"]
    norm = ["mean", "centred", "variance", "normalised"] if name == "gpt2" else ["mean_square", "normalised", "scaled"]
    expected = [f"blocks.1.attn.{each}" for each in attention] + [f"blocks.1.mlp.{each}" for each in [*mlp, "out"]]
    expected += [f"blocks.1.attn_norm.{each}" for each in norm] + ["tokens", "x", "logits", "blocks.1.x"]
    missing = [path for path in expected if path not in trace]
    assert missing == []
    assert trace["blocks.1.attn.q"].axes == ("B", "H", "T", "D")
    assert trace["blocks.1.attn.weights"].axes == ("B", "H", "T", "S")
    assert torch.allclose(trace["blocks.1.attn.weights"].value.sum(-1), torch.ones(1, 1))


@pytest.mark.parametrize("name", MODELS)
def test_every_number_of_our_models_recomputes(name, unchecked):
    report = gf.trace(MODELS[name](), TOKENS).check(cells=count("cells of a model"))
    assert report.failures == [], {k: v.reason for k, v in report.by_operation.items() if v.failures}


def test_nothing_stays_behind():
    model = gf.build("nano-sort")
    before = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    torch.manual_seed(7)
    random = torch.get_rng_state()
    gf.trace(model, TOKENS)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.module.training
    assert all(torch.equal(before[name], weight) for name, weight in model.module.state_dict().items())
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in model.module.modules())
    assert _get_current_dispatch_mode_stack() == []
    assert all(weight.grad is None for weight in model.module.parameters())


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x)[:, :3])


def test_nothing_stays_behind_an_exception():
    module = Breaks()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        record(module, torch.randn(2, 4), decompose=True)
    assert _get_current_dispatch_mode_stack() == []
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fastpath


def test_a_trace_holds_no_module_s_memory_twice():
    model = gf.build("nano-sort")
    trace = gf.trace(model, TOKENS)
    weight = trace["blocks.0.attn.q_proj.weight"]
    storage = trace.storages[weight.record.storage].bytes
    assert storage.data_ptr() == model.module.blocks[0].attn.q_proj.weight.untyped_storage().data_ptr()
    q, y = trace["blocks.0.attn.q"].record, trace["blocks.0.attn.q_proj.y"].record
    assert q.storage == y.storage, "a view is a window into the same storage"
    gc.collect()


def test_a_weight_that_changed_afterwards_is_not_shown_as_what_was_recorded():
    model = gf.build("nano-sort")
    trace = gf.trace(model, TOKENS)
    with torch.no_grad():
        model.module.lm_head.weight.add_(1)
    with pytest.raises(TraceError, match=r"lm_head\.weight has changed since it was recorded"):
        _ = trace["lm_head.weight"].value
    assert trace["logits"].value.shape == (1, 6, 3)


@pytest.mark.parametrize("name", TINY)
def test_a_partial_recording_numbers_its_operations_as_a_whole_one(name: str) -> None:
    """What is not seen counts all the same, with the copies without a gradient that torch makes of new tensors."""
    model = gf.build(name, **TINY[name])
    read, module = inputs(model), model.module
    call = call_of(module)
    whole = [(each.number, each.name, each.module) for each in record(module, *read, call=call).operations]
    paths = sorted({path for _, _, path in whole} - {""})
    for path in paths[:: max(len(paths) // 3, 1)]:
        seen = [
            (each.number, each.name, each.module) for each in record(module, *read, call=call, modules=path).operations
        ]
        assert seen
        assert set(seen) <= set(whole), path


def test_scopes_limit_what_is_recorded():
    model = gf.build("nano-sort")
    trace = gf.trace(model, TOKENS, modules="blocks.1.*")
    assert {operation.module.split(".")[1] for operation in trace.operations} == {"1"}
    assert "blocks.1.attn.weights" in trace
    assert "blocks.0.attn.weights" not in trace
    assert check(trace, cells=2_000).failures == []
    assert torch.equal(trace["blocks.1.attn.q"].value, gf.trace(model, TOKENS)["blocks.1.attn.q"].value)


def test_positions_are_read_into_a_cache_before():
    model = gf.build("nano-sort")
    whole = gf.trace(model, TOKENS)
    last = gf.trace(model, TOKENS, positions=slice(4, None))
    assert last["blocks.2.attn.weights"].shape == (1, 3, 2, 6)
    assert torch.allclose(last["logits"].value, whole["logits"].value[:, 4:], atol=1e-5)
    assert last.check(cells=3_000).failures == []
    with pytest.raises(TraceError, match="must be a stretch"):
        gf.trace(model, TOKENS, positions=slice(9, None))
    with pytest.raises(TraceError, match="language model of ours"):
        gf.trace(nn.Linear(4, 4), torch.randn(2, 4), positions=slice(1))


def test_a_bound_on_memory_holds():
    with pytest.raises(TraceError, match=r"grown beyond 0\.0 GiB in blocks\.\d.*Record some modules only"):
        gf.trace(gf.build("nano-sort"), TOKENS, max_bytes=100_000)


def test_what_cannot_be_recorded_says_so():
    with pytest.raises(TraceError, match="is compiled"):
        record(torch.compile(nn.Linear(4, 4), backend="eager"), torch.randn(2, 4))
    with pytest.raises(TraceError, match="cannot be recorded"):
        record(nn.Identity(), torch.eye(3).to_sparse())


def test_a_text_and_a_list_are_inputs_too():
    model = gf.build("nano-sort")
    assert torch.equal(gf.trace(model, "CBABBC")["logits"].value, gf.trace(model, [2, 1, 0, 1, 1, 2])["logits"].value)
    with pytest.raises(GlassformerError, match="context of 11"):
        gf.trace(model, "A" * 12)


class InPlace(nn.Module):
    """A buffer that is written, read, written again."""

    def forward(self, x: Tensor) -> Tensor:
        buffer = torch.zeros(2, 6)
        buffer[:, :3] = x
        first = buffer * 2
        buffer[:, 3:].copy_(x + 1)
        buffer.add_(1)
        second = buffer.clone()
        x.mul_(3)
        return first + second + x.sum()


def test_what_is_written_in_place_keeps_what_was_read_before(unchecked):
    x = torch.arange(6.0).view(2, 3)
    trace = record(InPlace(), x.clone())
    assert torch.equal(trace["first"].value[:, :3], 2 * x)
    assert torch.equal(trace["first"].value[:, 3:], torch.zeros(2, 3))
    assert torch.equal(trace["second"].value, torch.cat([x, x + 1], 1) + 1)
    assert torch.equal(trace["x#1"].value, x), "the input as it was"
    assert check(trace).failures == []
    untouched = gf.explain(trace["first"][0, 4])
    assert [cell.value for cell in untouched.sources] == [0.0]


def test_inference_mode_and_training_mode_are_recorded_too():
    class Inside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                return torch.nn.functional.linear(x, x) + 1

    assert check(record(Inside(), torch.randn(3, 3))).failures == []
    torch.manual_seed(0)
    dropped = record(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4)).train(), torch.randn(2, 4))
    assert check(dropped).failures == []


class Many(nn.Module):
    """Kernels with several results, of which a variable holds the first."""

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        h = nn.functional.layer_norm(x, (4,))
        o = nn.functional.scaled_dot_product_attention(q, q, q)
        p = nn.functional.max_pool2d(q, 2)
        return h + o.sum() + p.sum()


def test_a_variable_holds_the_first_result_of_a_kernel():
    x, q = torch.randn(3, 4), torch.randn(1, 1, 4, 4)
    trace = record(Many(), x, q)
    assert torch.equal(trace["h"].value, nn.functional.layer_norm(x, (4,)))
    assert torch.equal(trace["o"].value, nn.functional.scaled_dot_product_attention(q, q, q))
    assert torch.equal(trace["p"].value, nn.functional.max_pool2d(q, 2))


class Writes(nn.Module):
    """Writes in place, through windows and without saying a name."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = 0
        h = y - 1
        torch.relu_(h)
        c = torch.empty(2, 3)
        torch.add(h, 1, out=c)
        return y + h + c


def test_a_variable_that_is_written_into_holds_what_was_written():
    x = torch.randn(2, 3)
    trace = record(Writes(), x)
    y = x * 2
    assert torch.equal(trace["y#1"].value, y)
    y[:, 0] = 0
    assert torch.equal(trace["y"].value, y)
    assert torch.equal(trace["h#1"].value, y - 1)
    assert torch.equal(trace["h"].value, (y - 1).relu())
    assert torch.equal(trace["c"].value, (y - 1).relu() + 1)
    assert check(trace).failures == []
    assert gf.explain(trace["y"][0, 1]).source.text == "y = x * 2"


def test_inputs_are_as_they_were_when_the_caller_goes_on():
    x = torch.ones(2)
    trace = record(nn.Threshold(0.5, 0.0), x)
    x.zero_()
    assert torch.equal(trace["input"].value, torch.ones(2))


class Catches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        try:
            h = self.a(x)
        except RuntimeError:
            h = x
        h = self.b(h)
        y = h * 2
        return y


def test_an_exception_that_is_caught_leaves_the_paths_right():
    trace = record(Catches(), torch.randn(2, 4))
    assert {"h", "y", "output", "b.output"} <= set(trace.names)
    assert not {"a.h", "a.y", "a.output", "a.b.output"} & set(trace.names)


class State(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(x)
        y = self.seen * 2
        return y


def test_a_state_is_recorded_as_it_was_and_a_patch_leaves_it_alone():
    module = State()
    trace = gf.trace(module, torch.ones(3))
    assert torch.equal(trace["seen#1"].value, torch.zeros(3))
    assert trace.check().failures == []
    patched = trace.patch({})
    assert patched.changed() == {}
    assert torch.equal(module.seen, torch.ones(3))
    assert patched.after.check().failures == []


def test_bytes_read_as_another_type_are_not_explained_as_the_same_number():
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            s = x * 2
            z = torch.view_as_complex(s)
            w = s.view(torch.int32)
            return z, w

    trace = record(Turned(), torch.randn(3, 2))
    found = gf.explain(trace["z"][1])
    assert found.check().passed
    assert found.check().recomputed == pytest.approx(trace["z"].value[1].item())
    with pytest.raises(TraceError, match="as another type"):
        gf.explain(trace["w"][1, 0])


def test_terms_of_fused_attention_are_its_values():
    class Fused(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            y = nn.functional.scaled_dot_product_attention(q, k, k)
            return y

    trace = record(Fused(), torch.randn(1, 1, 3, 4), torch.randn(1, 1, 9, 4))
    found = gf.explain(trace["y"][0, 0, 1, 2])
    assert [str(term.operands[0]) for term in found.terms] == [f"k[0,0,{s},2]" for s in range(9)]
    assert sum(term.value for term in found.terms) == pytest.approx(found.value, abs=1e-6)
    assert "✓" in str(found)


def test_patterns_that_fit_nothing_are_refused():
    model = gf.build("nano-sort")
    with pytest.raises(TraceError, match="No module's path fits 'blokcs"):
        gf.trace(model, TOKENS, modules="blokcs.*")
    with pytest.raises(TraceError, match="No module's path fits"):
        gf.trace(model, TOKENS).check(modules="typo")


def test_what_is_no_cell_is_refused_with_a_sentence(unchecked):
    trace = gf.trace(gf.build("nano-sort"), TOKENS)
    with pytest.raises(TraceError, match="whole numbers"):
        trace["logits"][0:1, 0, 0]  # type: ignore[index]
    assert repr(trace["tokens"]) == "<tokens, 1×6, input>"
    assert repr(trace["tokens"][0, 0]) == "<tokens[0,0] = 2>"


def test_a_call_that_is_more_than_forward_is_recorded_as_one_pass():
    def both(module: nn.Module, first: Tensor, second: Tensor) -> Tensor:
        halves = first + second
        out = module(halves)
        twice = 2 * out
        return twice

    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    first, second = torch.ones(1, 3), torch.full((1, 3), 0.5)
    trace = record(module, first, second, call=both)
    assert [trace.tensors[number].name for number in trace.inputs] == ["first", "second"]
    assert torch.equal(trace["twice"].value, 2 * module(first + second))
    assert torch.equal(trace["output"].value, trace["twice"].value)
    assert torch.equal(trace["0.input"].value, trace["halves"].value)
    assert trace["twice"].operation is not None
    assert trace["twice"].operation.source.text == "twice = 2 * out"
    assert trace["halves"].operation is not None
    assert trace["halves"].operation.module == ""
    assert check(trace).passed
    after = trace.patch({"first": torch.zeros(1, 3)}).after
    assert torch.equal(after["twice"].value, 2 * module(second))
    assert [hook for part in module.modules() for hook in part._forward_hooks] == []


def test_what_is_done_with_a_trace_is_a_function_and_its_verb():
    trace = gf.trace(gf.build("nano-sort"), TOKENS)
    assert type(trace) is gf.Trace
    assert gf.Trace.check is check
    assert type(trace.patch({"logits": 0.0}).after) is gf.Trace
    assert str(trace.explain("logits", 0, 5, 1)) == str(gf.explain(trace["logits"][0, 5, 1]))
