"""Running again with changes: what changes, what does not, and that the model and its inputs stay as they were."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassformer
from glassformer.errors import TraceError
from glassformer.nn.kv_cache import full
from glassformer.tracing.check import check
from glassformer.tracing.explain import explain
from glassformer.tracing.intervene import ablate_head, activation_patching, attention_patterns, logit_lens, patch
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Trace
from support.foreign import FOREIGN
from support.tiny import TINY, inputs
from support.tolerances import assert_close

TOKENS = torch.tensor([[1, 4, 2, 0, 6], [5, 5, 3, 1, 2]])


@pytest.fixture
def model() -> nn.Module:
    return glassformer.build("gpt2", n_layers=2, n_heads=2, d_model=8, d_ff=12, vocab_size=7, context_length=6).module


@pytest.fixture
def trace(model: nn.Module) -> Trace:
    with glassformer.use("readable", attention="naive"):
        return record(model, TOKENS)


def unchanged(model: nn.Module) -> Callable[[], bool]:
    before = copy.deepcopy(model.state_dict())
    return lambda: all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def downstream(patched: Any, tensor: int) -> set[str]:
    """The named tensors that are computed from one, by the operands of the operations."""
    trace = patched.before
    bytes_of = {tensor}
    storages = {trace.tensors[tensor].storage}
    for operation in trace.operations[trace.tensors[tensor].made_by + 1 :]:
        if any(trace.tensors[i].storage in storages for i in operands(operation.arguments)):
            bytes_of |= set(operation.outputs)
            storages |= {trace.tensors[output].storage for output in operation.outputs}
    return {trace.tensors[i].name for i in bytes_of if not trace.tensors[i].derived}


def operands(value: Any) -> list[int]:
    if hasattr(value, "tensor"):
        return [value.tensor]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in operands(part)]


# ---- one change and its consequences


def test_an_empty_patch_changes_nothing(trace: Trace) -> None:
    patched = patch(trace, {})
    assert patched.changed() == {}
    assert patched.before is trace
    assert list(patched.after.names) == list(trace.names)


@pytest.mark.parametrize(
    "path", ["x#1", "blocks.0.x#2", "blocks.0.attn.scores", "blocks.1.attn.out#1", "blocks.1.mlp.hidden", "logits"]
)
def test_a_patched_cell_is_a_constant_and_all_that_follows_recomputes(
    model: nn.Module, trace: Trace, path: str
) -> None:
    same = unchanged(model)
    cell = trace[path][[-1] * len(trace[path].shape)]
    patched = patch(trace, {cell: 0.75})
    there = patched.after[path][cell.index]
    assert there.value == 0.75
    assert explain(there).formula is None
    assert patched.after.tensors[there.tensor].kind == "constant"
    assert check(patched.after, cells=None if path == "logits" else 1000).failures == []
    assert patched.difference(path).count_nonzero() == 1
    assert same()
    changed = patched.changed()
    assert set(changed) <= downstream(patched, trace[path].id)
    assert {trace[path].name, trace["logits"].name} <= set(changed)


def test_only_later_positions_change(trace: Trace) -> None:
    difference = patch(trace, {trace["blocks.0.x#1"][1, 3, 2]: 9.0}).difference("logits")
    assert not difference[0].any()
    assert not difference[1, :3].any()
    assert difference[1, 3:].any(-1).all()


def test_a_patch_is_what_a_hook_makes_of_it(model: nn.Module, trace: Trace) -> None:
    handle = model.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: output * 3)
    try:
        with glassformer.use("readable", attention="naive"), torch.no_grad():
            expected = model(TOKENS)
    finally:
        handle.remove()
    assert torch.equal(patch(trace, {"blocks.1.mlp.output": lambda x: x * 3}).after["logits"].value, expected)


@pytest.mark.parametrize("value", [1e300, 10**39, -(10**400)], ids=["float", "int", "huge"])
def test_a_number_beyond_the_type_is_refused_in_a_sentence_however_long_it_is(trace: Trace, value: float) -> None:
    with pytest.raises(TraceError, match=r"from -3.40282e\+38 to 3.40282e\+38, which .{4,40} does not fit into"):
        patch(trace, {"logits": value})


def test_a_whole_number_longer_than_torch_has_any_is_put_where_it_fits(trace: Trace) -> None:
    after = patch(trace, {"logits": 10**20}).after
    assert (after["logits"].value == 1e20).all()


def test_values_may_be_numbers_tensors_that_broadcast_and_functions(trace: Trace) -> None:
    path, shape = "blocks.0.mlp.hidden", trace["blocks.0.mlp.hidden"].shape
    row = torch.arange(shape[-1]).float()
    for change, expected in [
        (2.5, torch.full(shape, 2.5)),
        (1, torch.ones(shape)),
        (row, row.expand(shape)),
        (lambda hidden: -hidden, -trace[path].value),
        (lambda hidden: hidden.zero_(), torch.zeros(shape)),
    ]:
        assert torch.equal(patch(trace, {path: change}).after[path].value, expected)
    cell = trace[path][1, 2, 3]
    assert patch(trace, {cell: lambda number: number + 1}).after[path][1, 2, 3].value == pytest.approx(cell.value + 1)


def test_several_changes_act_together_in_their_order(trace: Trace) -> None:
    path = "blocks.0.mlp.hidden"
    patched = patch(trace, {path: 1.0, trace[path][0, 0, 0]: 5.0, "blocks.1.x#2": 0.0, "lm_head.weight": 1.0})
    hidden = patched.after[path].value
    assert hidden[0, 0, 0] == 5
    assert hidden.sum() == 5 + hidden.numel() - 1
    assert not patched.after["blocks.1.x#2"].value.any()
    assert torch.equal(patched.after["token_embedding.weight"].value, torch.ones(7, 8))  # they are tied


def test_a_view_is_replaced_alone(trace: Trace) -> None:
    patched = patch(trace, {"blocks.0.attn.q": 0.0})
    assert not patched.after["blocks.0.attn.q"].value.any()
    assert "blocks.0.attn.q_proj.y" not in patched.changed()
    assert_close(patched.after["blocks.0.attn.weights"].value[0, 0, 1], torch.tensor([0.5, 0.5, 0, 0, 0]))


def test_a_patched_trace_can_be_patched_again(trace: Trace) -> None:
    once = patch(trace, {"blocks.0.attn.out#1": 0.5, "final_norm.bias": 2.0}).after
    assert patch(once, {}).changed() == {}
    twice = patch(once, {"blocks.1.mlp.output": 0.0, "blocks.0.attn.out#1": lambda out: out + 1}).after
    both = patch(trace, {"blocks.0.attn.out#1": 1.5, "final_norm.bias": 2.0, "blocks.1.mlp.output": 0.0}).after
    assert torch.equal(twice["logits"].value, both["logits"].value)


# ---- weights and inputs


@pytest.mark.parametrize("path", ["blocks.0.attn_norm.weight", "token_embedding.weight", "blocks.1.mlp.up_proj.bias"])
def test_a_weight_is_patched_in_a_copy(model: nn.Module, trace: Trace, path: str) -> None:
    same = unchanged(model)
    patched = patch(trace, {path: lambda weight: weight * 2})
    assert same()
    assert check(patched.after, cells=1000).failures == []
    changed = copy.deepcopy(model)
    with torch.no_grad(), glassformer.use("readable", attention="naive"):
        changed.get_parameter(path).mul_(2)
        assert torch.equal(patched.after["logits"].value, changed(TOKENS))


def test_a_weight_seen_transposed_is_patched_on_its_way(model: nn.Module, trace: Trace) -> None:
    same = unchanged(model)
    patched = patch(trace, {"blocks.0.mlp.up_proj.y.transpose": 0.0})
    assert same()
    assert torch.equal(patched.after["blocks.0.mlp.up_proj.weight"].value, trace["blocks.0.mlp.up_proj.weight"].value)
    assert not patched.after["blocks.0.mlp.up_proj.y#1"].value.any()


def test_a_token_is_patched_in_a_copy_of_the_inputs(trace: Trace, model: nn.Module) -> None:
    before = TOKENS.clone()
    patched = patch(trace, {trace["tokens"][0, 2]: 6})
    assert torch.equal(TOKENS, before)
    changed = TOKENS.clone()
    changed[0, 2] = 6
    with torch.no_grad(), glassformer.use("readable", attention="naive"):
        assert torch.equal(patched.after["logits"].value, model(changed))


def test_inputs_by_keyword_and_in_containers_are_patched() -> None:
    class Sum(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor], *, more: dict[str, Tensor]) -> Tensor:
            total = pair[0] + pair[1] + more["bias"]
            return total

    trace = record(Sum(), (torch.ones(2), torch.ones(2)), more={"bias": torch.ones(2)})
    patched = patch(trace, {"pair.1": 10.0, trace["more.bias"][0]: 100.0})
    assert patched.after["total"].value.tolist() == [111.0, 12.0]


# ---- the second run begins as the first one did


def test_the_rerun_makes_the_same_choices_as_the_recorded_run(trace: Trace) -> None:
    with glassformer.use("fast", attention="sdpa"):
        patched = patch(trace, {"blocks.0.attn.scores": 0.0})
    assert [operation.name for operation in patched.after.operations] == [each.name for each in trace.operations]


def test_a_cache_is_as_it_was_before_the_recorded_run(model: nn.Module) -> None:
    state = model.begin(None, full(5))
    with glassformer.use("readable", attention="naive"), torch.no_grad():
        model(TOKENS[:, :3], state)
        trace = record(model, TOKENS[:, 3:], state)
    assert patch(trace, {}).changed() == {}
    assert patch(trace, {}).changed() == {}


def test_random_draws_are_repeated() -> None:
    state = torch.get_rng_state()
    trace = record(nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3)).train(), torch.rand(2, 4))
    torch.rand(7)
    after = torch.get_rng_state()
    assert patch(trace, {}).changed() == {}
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(state, after)


def test_the_recorders_settings_are_repeated() -> None:
    trace = record(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)).eval(), torch.rand(2, 4), decompose=True)
    patched = patch(trace, {"1.bias": 0.0})
    assert [each.name for each in patched.after.operations] == [each.name for each in trace.operations]


# ---- operations in place


class InPlace(nn.Module):
    """Writes into a result, and into a window of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.weight
        other = y
        y += 1
        y.mul_(2)
        y[:, 0] = 7
        z = other * 1
        return z


def test_the_result_of_an_operation_in_place_is_written_into() -> None:
    x = torch.ones(2, 3)
    trace = record(InPlace(), x)
    names = [f"y#{k}" for k in range(1, len(trace.names["y"]) + 1)]
    assert trace["z"].value.tolist() == [[7, 6, 8], [7, 12, 14]]
    first, plus, doubled = names[:3]
    assert patch(trace, {first: 0.0}).after["z"].value.tolist() == [[7, 2, 2], [7, 2, 2]]
    assert patch(trace, {plus: 10.0}).after["z"].value.tolist() == [[7, 20, 20], [7, 20, 20]]
    assert patch(trace, {trace[doubled][1, 1]: -1.0}).after["z"].value.tolist() == [[7, 6, 8], [7, -1, 14]]
    for place in names:
        assert check(patch(trace, {place: 3.0}).after).failures == []
    assert torch.equal(x, torch.ones(2, 3))


def test_bytes_written_through_a_window_are_patched_as_the_whole_tensor_shows_them() -> None:
    trace = record(InPlace(), torch.ones(2, 3))
    (seen,) = [ref for ref in operands(trace.operations[-1].arguments) if trace.tensors[ref].shape == (2, 3)]
    whole = type(trace["z"])(trace, seen)
    assert patch(trace, {whole: 4.0}).after["z"].value.tolist() == [[4, 4, 4], [4, 4, 4]]


# ---- other people's models


def test_a_model_of_transformers_is_patched_and_read_through_the_lens() -> None:
    pytest.importorskip("transformers")
    theirs, (tokens,), _ = FOREIGN["transformers GPT-2"]()
    theirs.set_attn_implementation("eager")
    trace = record(theirs, input_ids=tokens, use_cache=False)
    lens = logit_lens(trace, layers="transformer.h.*")
    assert lens.shape == (2, 1, 7, 50)
    with torch.no_grad():
        out = theirs(tokens, output_hidden_states=True)
        assert_close(lens[0], theirs.lm_head(theirs.transformer.ln_f(out.hidden_states[1])))
        assert_close(lens[-1], out.logits)
    patterns = attention_patterns(trace, "attn_weights")
    assert list(patterns) == ["transformer.h.0.attn", "transformer.h.1.attn"]
    assert_close(patterns["transformer.h.0.attn"].sum(-1), torch.ones(1, 2, 7))
    patched = patch(trace, {"transformer.h.1.mlp.output": 0.0})
    assert check(patched.after, cells=2000).failures == []
    assert "lm_head.output" in patched.changed()


# ---- ready-made interventions


def test_activation_patching_of_everything_restores_everything(trace: Trace) -> None:
    tokens = TOKENS.clone()
    tokens[:, 2] = 4
    with glassformer.use("readable", attention="naive"):
        corrupted = record(trace.replay.module, tokens)

    def metric(run: Trace) -> float:
        return run["logits"].value[0, -1, 3].item()

    found = activation_patching(trace, corrupted, ["x#1", "blocks.0.attn.y", "blocks.0.output", "logits"], metric)
    assert list(found) == ["x#1", "blocks.0.attn.y", "blocks.0.output", "logits"]
    assert found["x#1"] == found["blocks.0.output"] == found["logits"] == metric(trace)
    assert metric(corrupted) != found["blocks.0.attn.y"] != metric(trace)


def test_the_last_layer_of_the_logit_lens_is_the_models_answer(trace: Trace) -> None:
    lens = logit_lens(trace)
    assert lens.shape == (2, *trace["logits"].shape)
    assert torch.equal(lens[-1], trace["logits"].value)


HAVE_LAYERS = [name for name in TINY if name not in ("rnn", "seq2seq")]
HEADS = {  # beside those of tiny.py
    "bert": {"head": "classes"},
    "t5": {"tied_head": False},
    "gemma2": {"logit_softcap": 0.5},
    "transformer": {"norm_placement": "pre"},
    "gpt_neox": {"tied_head": True},
}


@pytest.mark.parametrize(("name", "own"), [*((name, {}) for name in HAVE_LAYERS), *HEADS.items()])
def test_the_logit_lens_is_the_answer_of_the_model_without_its_later_layers(name: str, own: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stack = "n_decoder_layers" if "n_decoder_layers" in TINY[name] else "n_layers"
    long, short = (glassformer.build(name, **{**TINY[name], **own, **sizes}) for sizes in sizes_by_depth(name, stack))
    for weight in long.module.parameters():
        torch.nn.init.normal_(weight)
    weights = long.module.state_dict()
    short.module.load_state_dict({weight: weights[weight] for weight in short.module.state_dict()})
    reads = inputs(long)
    lens = logit_lens(glassformer.trace(long, *reads))
    assert_close(lens[0], short(*reads))
    assert_close(lens[1], long(*reads))
    assert not torch.allclose(lens[0], lens[1])


def sizes_by_depth(name: str, stack: str) -> list[dict[str, Any]]:
    """Of two layers, and of one."""
    turning = [{"rotary_layers": (True, False)[:n]} if name == "smollm3" else {} for n in (2, 1)]
    return [{stack: n, **rotary} for n, rotary in zip((2, 1), turning, strict=True)]


def test_the_logit_lens_sees_the_changes_of_a_patched_trace(trace: Trace) -> None:
    patched = patch(trace, {"logits": lambda logits: 2 * logits}).after
    assert torch.equal(logit_lens(patched), 2 * logit_lens(trace))


def test_ablating_a_head_leaves_the_others(trace: Trace) -> None:
    patched = ablate_head(trace, "blocks.0.attn", 1)
    difference = patched.difference("blocks.0.attn.out#1")
    assert not difference[:, 0].any()
    assert not patched.after["blocks.0.attn.out#1"].value[:, 1].any()
    mean = ablate_head(trace, "blocks.0.attn", 1, "mean").after["blocks.0.attn.out#1"].value[:, 1]
    assert_close(mean, trace["blocks.0.attn.out#1"].value[:, 1].mean((0, 1)).expand_as(mean))


# ---- what cannot be done


def test_errors_say_what_was_wrong(trace: Trace, model: nn.Module) -> None:
    other = record(model, TOKENS)
    for changes, message in [
        ({"blocks.0.attn.score": 0.0}, "blocks.0.attn.scores"),
        ({other["logits"]: 0.0}, "another trace"),
        ({other["logits"][0, 0, 0]: 0.0}, "another trace"),
        ({"logits": torch.zeros(3)}, r"has the shape \(3,\)"),
        ({trace["tokens"][0, 0]: 0.5}, "holds torch.int64"),
        ({"logits": lambda logits: None}, "must be a number or a tensor"),
    ]:
        with pytest.raises(TraceError, match=message):
            patch(trace, changes)
    with pytest.raises(TraceError, match="2 heads"):
        ablate_head(trace, "blocks.0.attn", 2)
    with pytest.raises(TraceError, match="axis for heads"):
        ablate_head(trace, "blocks.0.mlp", 0)
    with pytest.raises(TraceError, match="no modules layers"):
        logit_lens(trace, layers="layers.*")
    with pytest.raises(TraceError, match="no tensor answer"):
        logit_lens(trace, logits="answer")
    trace.replay = None
    with pytest.raises(TraceError, match="cannot be run again"):
        patch(trace, {})


def test_a_trace_of_older_weights_is_not_run_again(trace: Trace, model: nn.Module) -> None:
    with torch.no_grad():
        model.final_norm.bias += 1
    with pytest.raises(TraceError, match="trace the model again"):
        patch(trace, {})


def test_what_a_part_was_given_from_outside_the_recording_is_not_patched(model: nn.Module) -> None:
    trace = record(model, TOKENS, modules="blocks.1*")
    with pytest.raises(TraceError, match="trace the whole model"):
        patch(trace, {"blocks.1.x#1": 0.0})
    assert patch(trace, {"blocks.1.attn.y": 0.0}).difference("blocks.1.output").any()


def test_a_model_that_takes_other_steps_is_not_patched_in_the_wrong_place() -> None:
    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            z = y.exp() if y.sum() > 0 else y.sin()
            return z + 1

    trace = record(Fork(), torch.ones(3))
    assert patch(trace, {"z": 0.0}).after["output"].value.tolist() == [1, 1, 1]
    with pytest.raises(TraceError, match="other steps"):
        patch(trace, {"y": -1.0, "z": 0.0})
