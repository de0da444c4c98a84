"""What TransformerLens caches, patches and ablates in random models, our traces of the same weights have too.

TransformerLens from version 4 on wraps the model of `transformers`; here the wrapped one is saved first and loaded as
ours. Its name for a tensor also finds it in a trace, with the axes in its order.
"""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import glassformer
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.tracing import transformer_lens as names
from glassformer.tracing.attribute import attribute
from glassformer.tracing.intervene import ablate_head, activation_patching, attention_patterns, logit_lens, patch
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Trace
from support.foreign import FOREIGN
from support.tolerances import assert_close

N_LAYERS, N_HEADS = 2, 3
HOOKS = [
    *names.LENS,
    *(f"blocks.{layer}.{hook}" for layer in range(N_LAYERS) for hook in names.LENS_IN_BLOCK),
]

PATCHED = [hook for hook in HOOKS if hook != "hook_pos_embed"]  # which has no axis for the batch here


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same weights, there and here."""

    theirs: Any
    ours: torch.nn.Module
    tokens: Tensor
    corrupted_tokens: Tensor

    def trace(self, tokens: Tensor) -> Trace:
        with glassformer.use("readable", attention="naive"):
            return record(self.ours, tokens)

    def logits(self, tokens: Tensor, hook: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Theirs, when a hook changes an activation."""
        hooks = [(hook, lambda activation, hook: change(activation))]
        if hook.endswith("hook_resid_mid"):  # it only changes what ln2 is given, not what is added to the MLP's output
            block = hook.removesuffix("hook_resid_mid")
            before: list[Tensor] = []
            hooks = [
                (f"{block}hook_resid_pre", lambda residual, hook: before.append(residual)),
                (f"{block}hook_attn_out", lambda out, hook: change(before[0] + out) - before[0]),
            ]
        with torch.no_grad():
            found: Tensor = self.theirs.run_with_hooks(tokens, fwd_hooks=hooks)
        return found


def pair_of(model: Any, folder: Path) -> Pair:
    try:
        from transformer_lens.model_bridge.sources import build_bridge_from_module
    except ImportError:
        reason = "comparison with TransformerLens: transformer-lens 4 is not installed"
        if os.environ.get("GLASSFORMER_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        is_scale = weight.ndim == 1 and name.endswith("weight")
        torch.nn.init.normal_(weight, mean=1.0 if is_scale else 0.0, std=0.2)
    model.eval().save_pretrained(folder)
    theirs = build_bridge_from_module(copy.deepcopy(model), type(model).__name__, hf_config=model.config)
    theirs.enable_compatibility_mode(no_processing=True)  # the older names of its hooks, the weights as they are
    return Pair(
        theirs=theirs,
        ours=glassformer.load(folder).module,
        tokens=torch.tensor([[3, 14, 15, 9, 26, 5, 3], [2, 7, 18, 28, 1, 8, 2]]),
        corrupted_tokens=torch.tensor([[3, 14, 11, 9, 26, 5, 3], [2, 7, 20, 28, 1, 8, 2]]),
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=29,
        n_positions=12,
        n_embd=24,
        n_layer=N_LAYERS,
        n_head=N_HEADS,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    return pair_of(transformers.GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def cache(pair: Pair) -> Any:
    with torch.no_grad():
        return pair.theirs.run_with_cache(pair.tokens)[1]


@pytest.fixture(scope="module")
def trace(pair: Pair) -> Trace:
    return pair.trace(pair.tokens)


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_point_is_found_under_its_name_with_its_axes(trace: Trace, cache: Any, hook: str) -> None:
    ours, theirs = trace[hook].value, cache[hook]
    assert_close(ours.expand_as(theirs) if hook == "hook_pos_embed" else ours, theirs)


def test_a_hook_point_that_a_model_lacks_is_not_found(trace: Trace) -> None:
    assert not [hook for hook in ("attn.hook_rot_q", "mlp.hook_pre_linear") if f"blocks.0.{hook}" in trace]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_what_is_rotated_is_named_so_whether_or_not_it_was_normalised_before(qk_norm: bool) -> None:
    sizes = {"vocab_size": 11, "context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 12}
    module = Llama(LlamaConfig(**sizes, qk_norm=qk_norm)).eval()
    with glassformer.use("readable", attention="naive"):
        trace = record(module, torch.tensor([[1, 2, 3]]))
    attn = module.blocks[0].attn
    q, k = (trace[f"blocks.0.attn.hook_rot_{name}"].value.transpose(1, 2) for name in "qk")
    scores = trace["blocks.0.attn.hook_attn_scores"].value
    allowed = torch.ones(3, 3, dtype=torch.bool).tril()
    assert_close((q @ k.mT / math.sqrt(attn.d_head))[..., allowed], scores[..., allowed])


def test_a_cell_picked_by_their_axes_is_the_cell_of_ours(trace: Trace) -> None:
    theirs, ours = trace["blocks.1.attn.hook_q"], trace["blocks.1.attn.q"]
    assert theirs.axes == ("B", "T", "H", "D")
    assert theirs[1, 6, 2, 3] == ours[1, 2, 6, 3]
    assert [cell.value for cell in theirs.cells()] == theirs.value.flatten().tolist()


def test_logit_lens_is_their_final_norm_and_unembedding_of_each_residual_stream(
    pair: Pair, trace: Trace, cache: Any
) -> None:
    with torch.no_grad():
        residuals = [cache[f"blocks.{layer}.hook_resid_post"] for layer in range(N_LAYERS)]
        theirs = torch.stack([pair.theirs.unembed(pair.theirs.ln_final(residual)) for residual in residuals])
        final = pair.theirs(pair.tokens)
    found = logit_lens(trace)
    assert_close(found, theirs)
    assert_close(found[-1], final)


def test_attention_patterns_are_their_patterns(trace: Trace, cache: Any) -> None:
    patterns = attention_patterns(trace)
    assert list(patterns) == [f"blocks.{layer}.attn" for layer in range(N_LAYERS)]
    for layer in range(N_LAYERS):
        assert_close(patterns[f"blocks.{layer}.attn"], cache[f"blocks.{layer}.attn.hook_pattern"])


@pytest.mark.parametrize("hook", [hook for hook in PATCHED if not hook.endswith("scores")])
def test_a_patch_at_each_hook_point_gives_their_logits(pair: Pair, trace: Trace, hook: str) -> None:
    def change(activation: Tensor) -> Tensor:
        activation = activation.clone()
        activation[0, 1] = activation[0, 1].flip(-1) * 0.5 + 0.1
        return activation

    assert_close(patch(trace, {hook: change}).after["logits"].value, pair.logits(pair.tokens, hook, change))


def test_patching_scores_and_one_position_of_the_residual_stream_gives_their_logits(pair: Pair, trace: Trace) -> None:
    def double(scores: Tensor) -> Tensor:
        return scores * 2

    def overwrite(residual: Tensor) -> Tensor:
        residual = residual.clone()
        residual[:, 4] = 0.25
        return residual

    for hook, change in [("blocks.0.attn.hook_attn_scores", double), ("blocks.1.hook_resid_pre", overwrite)]:
        assert_close(patch(trace, {hook: change}).after["logits"].value, pair.logits(pair.tokens, hook, change))


def test_activation_patching_restores_as_much_as_theirs(pair: Pair, trace: Trace, cache: Any) -> None:
    def metric(logits: Tensor) -> float:
        return (logits[:, -1, 4] - logits[:, -1, 17]).sum().item()

    ends = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_z", "hook_pattern")
    hooks = [hook for hook in HOOKS if hook.endswith(ends)]
    found = activation_patching(
        trace, pair.trace(pair.corrupted_tokens), hooks, lambda patched: metric(patched["logits"].value)
    )
    assert list(found) == hooks
    for hook in hooks:
        theirs = metric(pair.logits(pair.corrupted_tokens, hook, lambda _, hook=hook: cache[hook]))
        assert found[hook] == pytest.approx(theirs, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("layer", range(N_LAYERS))
@pytest.mark.parametrize("head", range(N_HEADS))
@pytest.mark.parametrize("value", [0.0, "mean"])
def test_ablating_a_head_gives_their_logits(pair: Pair, trace: Trace, layer: int, head: int, value: Any) -> None:
    def ablate(z: Tensor) -> Tensor:
        z = z.clone()
        z[:, :, head] = z[:, :, head].mean((0, 1)) if value == "mean" else value
        return z

    theirs = pair.logits(pair.tokens, f"blocks.{layer}.attn.hook_z", ablate)
    assert_close(ablate_head(trace, f"blocks.{layer}.attn", head, value).after["logits"].value, theirs)


def test_a_llama_has_their_names_too(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    theirs, _, _ = FOREIGN["transformers Llama"]()
    theirs.set_attn_implementation("eager")
    llama = pair_of(theirs, tmp_path)
    trace = llama.trace(llama.tokens)
    with torch.no_grad():
        cache = llama.theirs.run_with_cache(llama.tokens)[1]
    hooks = {
        *names.LENS,
        *(f"blocks.0.{hook}" for hook in names.LENS_IN_BLOCK | names.LENS_IN_LLAMA_BLOCK),
    }
    for hook in hooks - {"hook_pos_embed"}:
        assert_close(trace[hook].value, cache[hook])
    assert "hook_pos_embed" not in trace


def test_the_parts_of_a_logit_are_those_of_logit_attrs(pair, cache):
    ours = copy.deepcopy(pair.ours)
    torch.nn.init.ones_(ours.final_norm.weight)  # which logit_attrs leaves out where it is not folded into the head
    parts = attribute(glassformer.trace(ours, pair.tokens), "logits[0,-1,7]").terms
    heads = cache.stack_head_results(pos_slice=-1)
    expected = cache.logit_attrs(heads, tokens=7, pos_slice=-1, batch_slice=0)
    values = torch.tensor([part.value for part in parts if part.kind == "head"])
    torch.testing.assert_close(values, expected.detach(), atol=1e-5, rtol=1e-4)
    embeddings = cache.logit_attrs(cache.decompose_resid(mode="all"), tokens=7, pos_slice=-1, batch_slice=0)[:2, -1]
    values = torch.tensor([part.value for part in parts if part.kind in ("embedding", "position")])
    torch.testing.assert_close(values, embeddings.detach(), atol=1e-5, rtol=1e-4)
