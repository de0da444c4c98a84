"""Logits under a cache's policy are those of its definition, by the module and by the compiled step.

Policies, chunks, padding, batches of 1 to 8, heads that share keys, kinds of rotary and learned positions, float32 and
quantized: all drawn at random. The definition is in `support/cache_definition.py`, in float64.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import glassformer as gf
from glassformer.inference.decode_plan import DecodePlan, plan_for
from glassformer.inference.quantize import quantize
from glassformer.models import specs
from glassformer.nn.kv_cache import KVCache, Policy, parse_policy
from glassformer.nn.quantized import is_quantized, replaceable
from glassformer.nn.rope import KINDS
from support.cache_definition import Kept, by_definition
from support.counts import count
from support.scalings import random_scaling

VOCAB, CONTEXT, LONGEST = 37, 20, 30
IN_FLOAT32 = 1e-4  # of the greatest logit, where that is above 1
ROUNDED = 3e-2  # the same where vectors become 8 bits, and a last bit has decided to which number: seldom
Step = Callable[[Tensor, KVCache, Tensor | None], Tensor]


@dataclass(frozen=True)
class Case:
    """A model, a policy, and texts in chunks."""

    module: Any
    exact: Any  # the model in float32 whose weights are those that the module's stand for
    held: Kept
    tokens: Tensor
    valid: Tensor  # False at padding
    chunks: list[tuple[int, bool]]  # tokens, and whether `valid` is passed

    def logits(self, step: Step) -> tuple[Tensor, Tensor]:
        """Of all tokens, read in these chunks; and how long their rows' texts were then, as far as they are kept."""
        state, sizes = self.module.begin(None, policy_of(self.held)), [n for n, _ in self.chunks]
        logits, lengths = [], []
        pieces = zip(self.tokens.split(sizes, 1), self.valid.split(sizes, 1), self.chunks, strict=True)
        for tokens, valid, (_, is_passed) in pieces:
            logits.append(step(tokens, state, valid if is_passed else None))
            lengths.append(state.lengths.clamp(max=state.policy.capacity)[:, None].expand(tokens.shape))
        return torch.cat(logits, 1), torch.cat(lengths, 1)

    def definition(self, lengths: Tensor, *, rounded: bool) -> Tensor:
        """The same by the definition; zeros at padding."""
        logits = torch.zeros(*self.tokens.shape, VOCAB, dtype=torch.float64)
        by_length = goes_by_length(self.exact)
        for row, valid in enumerate(self.valid):
            text, turning = self.tokens[row, valid].tolist(), lengths[row, valid].tolist() if by_length else None
            expected = by_definition(self.exact, text, self.held, turning=turning, rounded=rounded)
            logits[row, valid] = torch.from_numpy(expected)
        return logits


def case_of(seed: int) -> Case:
    """A case that is drawn at random; two of five are quantized."""
    choose, form = random.Random(seed), (None, "int8", None, "int4", None)[seed % 5]
    torch.manual_seed(seed)
    exact, held = random_model(choose), random_policy(choose)
    module = exact
    if form is not None:
        module = quantize(copy.deepcopy(exact), form)
        for name, layer in replaceable(exact):
            layer.weight.copy_(module.get_submodule(f"{name}.weight").dequantized())
    n_rows, length = choose.randint(1, 8), choose.randint(2, CONTEXT if held == ("full",) else LONGEST)
    valid, chunks = random_texts(choose, n_rows, length, policy_of(held), goes_by_length(exact))
    return Case(module, exact, held, torch.randint(VOCAB, valid.shape), valid, chunks)


def policy_of(held: Kept) -> Policy:
    """The policy that keeps this."""
    sizes = "+".join(map(str, held[1:]))
    return parse_policy(f"{held[0]}:{sizes}" if sizes else "full", CONTEXT)


def goes_by_length(module: Any) -> bool:
    """Whether its frequencies do."""
    scaling = getattr(module.config, "rope_scaling", None)
    return scaling is not None and bool(scaling.by_length)


def random_model(choose: random.Random) -> Any:
    """A small one with learned positions, none, or rotary ones of any kind, with weights that all matter."""
    family = choose.choice(["gpt2", "llama", "llama", "llama", "smollm3", "cs336"])
    n_kv_heads, per_group, d_head = choose.choice([(1, 2, 16), (1, 4, 16), (2, 1, 16), (2, 2, 8), (1, 1, 32)])
    n_heads = n_kv_heads * per_group
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "context_length": CONTEXT, "n_layers": choose.choice([1, 2])}
    sizes |= {"n_heads": n_heads, "d_model": n_heads * d_head, "d_ff": 32, "tied_head": choose.random() < 0.5}
    if family != "gpt2":
        sizes |= {"n_kv_heads": n_kv_heads, "d_head": d_head, "rope_style": choose.choice(["half", "interleaved"])}
        sizes["d_model"] = choose.choice([32, 64])
    if family == "cs336":
        sizes["position"] = choose.choice(["rope", "none"])
    if family == "smollm3":
        sizes["rotary_layers"] = choose.choice([(True, False), (False, True)])
    if family == "llama":
        sizes["d_rotary"] = choose.choice([0, 0, 4])
        n_pairs = (sizes["d_rotary"] or d_head) // 2
        kind = choose.choice(["plain", *KINDS])
        if kind != "plain":
            sizes["rope_scaling"], _ = random_scaling(kind, choose, n_pairs, 10_000.0, originals=(8, 16, 64))
    spec = specs()[family]
    module = spec.build(spec.config(**sizes)).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(parameter * 3 + 0.1 * torch.randn(parameter.shape))
    return module


def random_policy(choose: random.Random) -> Kept:
    """What is kept of a text."""
    kind = choose.choice(["full", "window", "sinks"])
    if kind == "full":
        return ("full",)
    return (kind, choose.randint(1, 10)) if kind == "window" else (kind, choose.randint(1, 4), choose.randint(1, 8))


def random_texts(
    choose: random.Random, n_rows: int, length: int, policy: Policy, by_length: bool
) -> tuple[Tensor, list[tuple[int, bool]]]:
    """Where texts are padded, on one side or anywhere, and in which chunks they are read.

    Frequencies that go by length come with a first chunk that fills an endless cache: tokens that come one by one turn
    with the frequencies of their own time, and keep them when others leave.
    """
    side, first = (
        choose.choice(["none", "left", "right", "anywhere"]),
        min(choose.randint(1, 8), policy.room(0), length),
    )
    if by_length and policy.endless:
        side, first = "none", min(policy.capacity, length)
    valid = torch.ones(n_rows, length, dtype=torch.bool)
    for row in valid:
        n_padding = min(choose.randint(0, first), length - 1)  # a text has a token
        if side == "left":
            row[:n_padding] = False
        elif side == "right":
            row[first - n_padding : first] = False
        elif side == "anywhere":
            row[choose.sample(range(length), min(4, length - 1))] = False
    chunks, n_read = [], 0
    while n_read < length:
        most = min(policy.room(n_read), length - n_read)
        n = choose.choice([1, 1, choose.randint(1, most)]) if n_read else first
        is_whole = bool(valid[:, n_read : n_read + n].all())
        chunks.append((n, not is_whole or choose.random() < 0.3))
        n_read += n
    return valid, chunks


@dataclass
class Planned:
    """The plan's step where one token comes, and where it takes several; the module's otherwise."""

    plan: DecodePlan
    module: Any
    n_steps: int = 0  # of the plan, with one token

    def __call__(self, tokens: Tensor, state: KVCache, valid: Tensor | None) -> Tensor:
        logits = self.plan.step(tokens, state, valid)
        self.n_steps += logits is not None and tokens.shape[-1] == 1
        return self.module(tokens, state, valid) if logits is None else logits


def apart(one: Tensor, other: Tensor, valid: Tensor) -> float:
    """The greatest difference, of logits above 1 relative to the greatest of them."""
    one, other = one[valid].double(), other[valid].double()
    return float((one - other).abs().max()) / max(1.0, float(other.abs().max()))


@pytest.mark.usefixtures("unchecked")
@torch.inference_mode()
def test_module_and_compiled_step_give_the_logits_of_the_definition_under_every_policy() -> None:
    n_cases, n_rounded_otherwise = count("policies by definition"), 0
    for seed in range(n_cases):
        case = case_of(seed)
        plan = plan_for(case.module)
        assert plan is not None, seed
        planned = Planned(plan, case.module)
        (by_module, lengths), (by_plan, _) = case.logits(case.module), case.logits(planned)
        assert planned.n_steps == sum(n == 1 for n, _ in case.chunks[1:]), seed
        expected, tolerance = case.definition(lengths, rounded=False), IN_FLOAT32
        if is_quantized(case.module):
            with gf.use("readable"):
                assert apart(case.logits(case.module)[0], expected, case.valid) < IN_FLOAT32, seed
            expected, tolerance = case.definition(lengths, rounded=True), ROUNDED
        differences = apart(by_module, expected, case.valid), apart(by_plan, expected, case.valid)
        assert max(differences) < tolerance, (seed, differences)
        n_rounded_otherwise += max(differences) > IN_FLOAT32
    assert n_rounded_otherwise <= n_cases / 10
