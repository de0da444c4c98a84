"""Cached logits equal the definition of the policy.

The definition is in `support/cache_definition.py`; that the compiled step and quantized models equal it, too, is in
`inference/test_policies.py`.
"""

import re
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassformer.errors import ConfigError, GenerationError
from glassformer.models.cs336 import CS336, CS336Config
from glassformer.models.decoder import Decoder
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.smollm3 import SmolLM3, SmolLM3Config
from glassformer.nn import kv_cache, mask
from glassformer.nn.attention import Attention
from glassformer.nn.kv_cache import KVCache, Policy, Step, count_positions, parse_policy, uncached
from glassformer.nn.rope import RoPE, RopeScaling
from glassformer.twins import Mode, use
from support.cache_definition import Kept, by_definition
from support.counts import count
from support.oracles import kept
from support.tolerances import ENLARGED, assert_close

SCALING = RopeScaling(original_context_length=32)


def policy_of(held: Kept, context_length: int) -> Policy:
    match held:
        case ("window", int(n)):
            return kv_cache.window(n)
        case ("sinks", int(first), int(recent)):
            return kv_cache.sinks(first, recent)
    return kv_cache.full(context_length)


# Random problems


def spread(model: nn.Module, seed: int) -> None:
    """Weights so large that attention is far from uniform and logits are of the order of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=2 / parameter.shape[-1] ** 0.5, generator=generator)
            elif "norm" not in name:
                parameter.normal_(std=0.5, generator=generator)


CONTEXT = 20


@dataclass(frozen=True)
class Problem:
    llama: bool
    sizes: dict[str, Any]
    seed: int
    held: Kept
    valid: Tensor  # (B, T), False at padding
    omitted: bool  # whether a batch without padding comes without `valid`
    attention: str
    mode: Mode
    choose: Random  # how to cut the text into chunks

    def model(self) -> GPT2 | Decoder | CS336:
        built: GPT2 | Decoder | CS336
        if not self.llama:
            built = GPT2(GPT2Config(**self.sizes))
        elif self.sizes["position"] == "none":
            built = CS336(CS336Config(**self.sizes))
        else:
            sizes = {name: size for name, size in self.sizes.items() if name != "position"}
            built = SmolLM3(SmolLM3Config(**sizes)) if "rotary_layers" in sizes else Llama(LlamaConfig(**sizes))
        spread(built, self.seed)
        return built.double().eval().requires_grad_(False)

    def tokens(self) -> Tensor:
        return torch.randint(13, self.valid.shape, generator=torch.Generator().manual_seed(self.seed))

    def cached(self, model: GPT2 | Decoder | CS336) -> Tensor:
        """Logits by way of the cache, in chunks of random sizes as far as there is room."""
        state = model.begin(None, policy_of(self.held, CONTEXT))
        pieces, done, length = [], 0, self.valid.shape[1]
        while done < length:
            size = self.choose.randint(1, min(state.room, length - done))
            piece = slice(done, done + size)
            valid = None if self.omitted else self.valid[:, piece]
            if valid is not None and valid.all() and done > 0 and self.choose.random() < 0.5:
                valid = None
            with use(self.mode, attention=self.attention):
                pieces.append(model(self.tokens()[:, piece], state, valid))
            done += size
        return torch.cat(pieces, 1)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A model, a policy, texts with padding in the prompts or anywhere, and a way through them."""
    held: Kept = draw(
        st.just(("full",))
        | st.tuples(st.just("window"), st.integers(1, 10))
        | st.tuples(st.just("sinks"), st.integers(1, 4), st.integers(1, 8))
    )
    n_kv_heads, group, n_layers = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    n_heads = n_kv_heads * group
    sizes: dict[str, Any] = {"vocab_size": 13, "context_length": CONTEXT, "n_layers": n_layers, "n_heads": n_heads}
    llama = draw(st.sampled_from([True, True, False]))
    if llama:
        sizes |= {"d_model": 12, "n_kv_heads": n_kv_heads, "d_head": draw(st.sampled_from([2, 4, 6])), "d_ff": 10}
        sizes["rope_style"] = draw(st.sampled_from(["half", "interleaved"]))
        sizes["rope_scaling"] = draw(st.sampled_from([None, SCALING]))
        sizes["position"] = draw(st.sampled_from(["rope", "rope", "rope", "none", "in some layers"]))
        if sizes["position"] == "in some layers":
            sizes["rotary_layers"] = tuple(draw(st.lists(st.booleans(), min_size=1, max_size=3)))
    else:
        sizes["d_model"] = 3 * n_heads
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, CONTEXT if held == ("full",) else 30))
    prompt = draw(st.integers(1, min(length, 8)))
    side = draw(st.sampled_from(["none", "left", "right", "anywhere"]))
    valid = torch.ones(rows, length, dtype=torch.bool)
    for row in valid:
        n_pad = draw(st.integers(0, prompt))
        if side == "left":
            row[:n_pad] = False
        elif side == "right":  # what follows the padded prompts is read by all rows
            row[prompt - n_pad : prompt] = False
        elif side == "anywhere":
            row[torch.tensor(draw(st.lists(st.integers(0, length - 1), max_size=5)), dtype=torch.long)] = False
    return Problem(
        llama=llama,
        sizes=sizes,
        seed=draw(st.integers(0, 2**31)),
        held=held,
        valid=valid,
        omitted=side == "none" and draw(st.booleans()),
        attention=draw(st.sampled_from(["naive", "tiled", "sdpa"])),
        mode=draw(st.sampled_from(["readable", "fast"])),
        choose=draw(st.randoms(use_true_random=False)),
    )


@settings(max_examples=count("cached equals the policy's definition"))
@given(problems())
def test_cached_logits_equal_the_policys_definition(problem: Problem) -> None:
    """In float64, since some random models enlarge the rounding of float32 beyond what a wrong slot would change."""
    model, tokens = problem.model(), problem.tokens()
    logits = problem.cached(model)
    for row, valid in enumerate(problem.valid):
        assert_close(logits[row][valid], by_definition(model, tokens[row][valid].tolist(), problem.held), ENLARGED)


@torch.no_grad()
def test_sinks_are_not_rotated_again_in_layers_without_rotation() -> None:
    sizes = {"vocab_size": 13, "context_length": CONTEXT, "d_model": 12, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1}
    model = SmolLM3(SmolLM3Config(**sizes, d_ff=10, rotary_layers=(True, False))).double().eval()
    spread(model, 0)
    tokens = torch.randint(13, (1, 12), generator=torch.Generator().manual_seed(0))
    state = model.begin(None, kv_cache.sinks(2, 3))
    logits = torch.cat([model(tokens[:, t : t + 1], state) for t in range(12)], 1)
    assert_close(logits[0], by_definition(model, tokens[0].tolist(), ("sinks", 2, 3)), ENLARGED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_a_cache_keeps_the_models_dtype(mode: Mode, dtype: torch.dtype) -> None:
    model = small().to(dtype)
    state = model.begin(None, kv_cache.full(CONTEXT))
    with use(mode):
        logits = [model(torch.tensor([[t]]), state) for t in (3, 1, 4)]
    assert {x.dtype for x in logits} == {dtype}


@pytest.mark.parametrize("policy", [kv_cache.full(CONTEXT), kv_cache.window(4), kv_cache.sinks(2, 3)], ids=str)
@pytest.mark.parametrize("attention", ["naive", "tiled", "sdpa"])
def test_rows_that_begin_with_nothing_but_padding_are_read_on(attention: str, policy: Policy) -> None:
    model, tokens = small(), torch.tensor([[5, 7, 2]])
    state = model.begin(None, policy)
    with use("readable", attention=attention):
        model(torch.tensor([[0, 0]]), state, torch.tensor([[False, False]]))
        assert_close(model(tokens, state)[0, -1], model(tokens)[0, -1])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_full_policy_equals_no_cache(kind: str) -> None:
    model = small(kind)
    tokens = torch.randint(13, (2, CONTEXT))
    state = model.begin(None, kv_cache.full(CONTEXT))
    pieces = [model(tokens[:, :7], state), model(tokens[:, 7:12], state)]
    pieces += [model(tokens[:, t : t + 1], state) for t in range(12, CONTEXT)]
    assert_close(torch.cat(pieces, 1), model(tokens))


def small(kind: str = "llama") -> GPT2 | Llama:
    model: GPT2 | Llama
    if kind == "llama":
        model = Llama(LlamaConfig(vocab_size=13, context_length=CONTEXT, d_model=12, n_layers=2, n_heads=2, d_ff=10))
    else:
        model = GPT2(GPT2Config(vocab_size=13, context_length=CONTEXT, d_model=12, n_layers=2, n_heads=2))
    spread(model, 0)
    return model.double().eval().requires_grad_(False)


@pytest.mark.parametrize("held", [("window", 6), ("sinks", 2, 4)], ids=str)
def test_a_text_far_longer_than_the_cache_stays_at_the_definition(held: Kept) -> None:
    """Angles in the cache are absolute; after a long way their differences must still be those of the slots."""
    model, policy = small(), policy_of(held, CONTEXT)
    tokens = torch.randint(13, (1, 200))
    state = model.begin(None, policy)
    logits = [model(tokens[:, :6], state), *(model(tokens[:, t : t + 1], state) for t in range(6, 200))]
    assert_close(torch.cat(logits, 1)[0], by_definition(model, tokens[0].tolist(), held), ENLARGED)


@pytest.mark.parametrize("held", [("window", 6), ("sinks", 2, 4)], ids=str)
@pytest.mark.parametrize("original", [3, 8])
@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
@torch.no_grad()
def test_frequencies_that_go_by_length_go_by_that_of_the_cache_where_the_text_is_endless(
    kind: Literal["dynamic", "longrope"], original: int, held: Kept
) -> None:
    """One layer knows nothing of what has left: its last logits are those of a text of what is kept."""
    factors = {"short_factors": (1.0, 2.0), "long_factors": (3.0, 5.0)} if kind == "longrope" else {}
    scaling = RopeScaling(kind=kind, factor=4.0, original_context_length=original, **factors)
    sizes = {"vocab_size": 13, "context_length": CONTEXT, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 10}
    model = Llama(LlamaConfig(**sizes, rope_scaling=scaling)).double().eval()
    spread(model, 0)
    tokens = torch.randint(13, (1, 30), generator=torch.Generator().manual_seed(0))
    state = model.begin(None, policy_of(held, CONTEXT))
    model(tokens[:, :6], state)
    for t in range(6, 30):
        logits = model(tokens[:, t : t + 1], state)
        assert_close(logits[:, -1], model(tokens[:, kept(held, t)])[:, -1], ENLARGED)


@pytest.mark.parametrize("sizes", [[200], [7, 100, 1, 92], [1, 5, 194]], ids=str)
@pytest.mark.parametrize("attention", ["naive", "tiled", "sdpa"])
def test_a_window_takes_many_tokens_at_once_however_narrow_it_is(attention: str, sizes: list[int]) -> None:
    model, tokens = small(), torch.randint(13, (1, 200))
    state = model.begin(None, kv_cache.window(6))
    with use("readable", attention=attention):
        logits = torch.cat([model(piece, state) for piece in tokens.split(sizes, dim=1)], 1)
    assert_close(logits[0], by_definition(model, tokens[0].tolist(), ("window", 6)), ENLARGED)
    assert state.layers[0].buffers[0].shape[2] == 6 + 1
    assert state.room == kv_cache.BESIDE
    with pytest.raises(GenerationError, match="has taken 200 and cannot take 513 at once: feed at most 512"):
        model(torch.zeros(1, kv_cache.BESIDE + 1, dtype=torch.long), state)


# What stays, and where


@pytest.mark.parametrize("held", [("window", 3), ("window", 1), ("sinks", 2, 3), ("sinks", 1, 1)], ids=str)
def test_the_tokens_in_the_slots_are_those_that_the_policy_keeps(held: Kept) -> None:
    policy = policy_of(held, 0)
    slots: dict[int, int] = {}
    for t in range(40):
        slots[int(policy.slot(torch.tensor(t)))] = t
        assert sorted(slots.values()) == kept(held, t)
        assert all(0 <= slot < policy.capacity for slot in slots)
    assert len(slots) == policy.capacity


def test_sinks_stay_in_their_slots_and_the_others_take_turns() -> None:
    policy = kv_cache.sinks(2, 3)
    assert policy.slot(torch.arange(12)).tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 2]


def test_positions_count_the_valid_tokens_wherever_the_padding_stands() -> None:
    valid = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    assert count_positions(valid).tolist() == [[-1, -1, 0, 1], [0, 1, -1, -1], [0, -1, -1, 1]]
    assert count_positions(valid, torch.tensor([5, 7, 0])).tolist() == [[-1, -1, 5, 6], [7, 8, -1, -1], [0, -1, -1, 1]]


# Limits


@pytest.mark.parametrize("held", [("full",), ("sinks", 2, 4)], ids=str)
def test_a_chunk_larger_than_the_room_is_refused_and_leaves_the_state_as_it_was(held: Kept) -> None:
    model, policy = small(), policy_of(held, 6)
    tokens = torch.randint(13, (1, 9))
    state = model.begin(None, policy)
    assert state.room == 6
    with pytest.raises(GenerationError, match=rf"{re.escape(policy.name)} of 6 tokens .* cannot take 7"):
        model(tokens[:, :7], state)
    first = model(tokens[:, :4], state)
    assert state.room == 2
    with pytest.raises(GenerationError, match="4 and cannot take 3"):
        model(tokens[:, 4:7], state)
    second = model(tokens[:, 4:6], state)
    fresh = model.begin(None, policy)
    assert_close(torch.cat([first, second], 1), model(tokens[:, :6], fresh))
    assert state.room == (0 if held == ("full",) else 1)
    with pytest.raises(GenerationError, match="the context is full" if held == ("full",) else "feed at most 1 at once"):
        model(tokens[:, 6:8], state)


def test_a_full_cache_ends_with_a_sentence_that_says_so() -> None:
    model, tokens = small(), torch.randint(13, (1, 6))
    state = model.begin(None, kv_cache.full(6))
    model(tokens, state)
    with pytest.raises(GenerationError, match="the context is full"):
        model(tokens[:, :1], state)


@pytest.mark.parametrize(
    ("text", "name", "capacity"),
    [
        ("full", "full", 256),
        ("window:1", "window:1", 1),
        ("window:256", "window:256", 256),
        ("sinks:4+252", "sinks:4+252", 256),
    ],
)
def test_a_policy_is_parsed_from_its_name(text: str, name: str, capacity: int) -> None:
    policy = parse_policy(text, 256)
    assert (policy.name, policy.capacity) == (name, capacity)


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "Full", "full:3", "window", "window:", "window:0", "window:-1", "window:4+4", "window:x"),
        *("window: 4", "window:04", "window:²", "window:1.5", "window:9999999999999999999999", "sinks", "sinks:4"),
        *("sinks:4+", "sinks:0+4", "sinks:4+0", "sinks:+4", "sinks:4+4+4", "sinks:a+b", "sinks:4-4"),
    ],
)
def test_a_name_that_is_no_policy_is_an_error_that_names_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r'"full", "window:N" and "sinks:K\+N"'):
        parse_policy(text, 256)


@pytest.mark.parametrize("text", ["window:257", "sinks:4+253", "window:999999999"])
def test_a_policy_larger_than_the_context_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"keeps \d+ tokens, but this model .* 256 positions"):
        parse_policy(text, 256)


# Layers that differ


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_layer_with_a_window_of_its_own_sees_what_it_sees_without_a_cache_and_keeps_no_more(padded: bool) -> None:
    attentions = [Attention(8, 2).double() for _ in range(3)]
    rope, local = RoPE(d_head=4), {1: kv_cache.window(3)}

    def run(x: Tensor, step: Step) -> Tensor:
        rotation = rope(step.positions.unsqueeze(-2))
        for attn, (over, cache) in zip(attentions, step.layers, strict=True):
            x = x + attn(x, over, rotation=rotation, cache=cache)
        return x

    x, tokens = torch.randn(2, 9, 8, dtype=torch.float64), torch.zeros(2, 9, dtype=torch.long)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[1, :2] = not padded
    whole = run(x, uncached(tokens, 3, valid if padded else None, local={1: mask.Window(3)}))
    state = KVCache(3, kv_cache.full(9), rope, local=local)
    assert state.room == 9
    pieces = []
    for span in (slice(0, 2), slice(2, 7), slice(7, 8), slice(8, 9)):
        step = state.step(tokens[:, span], valid[:, span] if padded else None)
        pieces.append(run(x[:, span], step))
    stepped = torch.cat(pieces, 1)
    assert_close(stepped[valid], whole[valid])
    assert not torch.allclose(run(x, uncached(tokens, 3))[0], whole[0])
    assert state.layers[1].buffers[0].shape[2] == 3 + 1
    assert state.layers[0].buffers[0].shape[2] > 3 + 1
    branch = state.branch(torch.tensor([0]))
    with pytest.raises(GenerationError, match="full of 9 tokens has taken 9"):
        branch.step(tokens[:1, :1])


# Memory


def buffers(state: KVCache) -> list[Tensor]:
    """Every tensor that the state holds, in its layers too."""
    return [state.lengths, *(buffer for layer in state.layers for buffer in layer.buffers)]


@pytest.mark.parametrize(("held", "padded"), [(("window", 8), False), (("sinks", 2, 6), True)], ids=["window", "sinks"])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_over_5000_steps_no_buffer_grows_or_moves(held: Kept, padded: bool) -> None:
    state = KVCache(1, policy_of(held, 0), RoPE(d_head=4))
    k = torch.ones(2, 1, 1, 4)
    sizes: set[int] = set()
    places: set[tuple[int, ...]] = set()
    for t in range(5000):
        valid = torch.tensor([[True], [t > 3]]) if padded and t < 8 else None
        step = state.step(torch.zeros(2, 1, dtype=torch.long), valid)
        ((_, cache),) = step.layers
        keys, _ = cache.update(k, k)
        if t >= 10:
            layer = state.layers[0]
            sizes.add(sum(tensor.untyped_storage().nbytes() for tensor in buffers(state)))
            places.add((*(buffer.data_ptr() for buffer in layer.buffers), keys.data_ptr()))
    assert len(sizes) == len(places) == 1
    assert keys.shape[2] == 8


@pytest.mark.parametrize("policy", [kv_cache.full(10**9), kv_cache.window(10**9), kv_cache.sinks(4, 10**9)])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_cache_costs_what_the_text_needs_however_many_positions_a_file_promises(policy: Policy, padded: bool) -> None:
    config = LlamaConfig(vocab_size=5, context_length=2**31 - 1, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    model = Llama(config).eval()
    valid = torch.tensor([[False, True, True], [True, True, True]]) if padded else None
    state = model.begin(None, policy)
    model(torch.zeros(2, 3, dtype=torch.long), state, valid)
    sizes = []
    for _ in range(60):
        model(torch.zeros(2, 1, dtype=torch.long), state)
        (layer,) = state.layers
        slots = {buffer.shape[2] for buffer in layer.buffers[:2]}
        longest = max(state.lengths.tolist())
        assert longest < max(slots) <= 2 * longest + 2
        sizes.append(slots.pop())
        assert not slots
    assert len(set(sizes)) <= 6  # each copied into one of twice its size
