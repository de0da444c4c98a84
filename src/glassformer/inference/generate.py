"""The loop of generation: prefill the prompts, then decode one token after the other.

It asks of a model only `begin`, and `forward` with the state that `begin` returns, and of a state only how much `room`
it has (`models/spec.py`): any autoregressive model has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.logits import Sampling, check_finite, distribution, draw, without
from glassformer.models.spec import CausalModel, ReadsTexts, State
from glassformer.nn.kv_cache import Policy, full, parse_policy

Finish = Literal["stop", "length", "context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """One more token of one sequence; `finish` says why, if it is the last one.

    "stop": the token is one to stop at. "length": `max_new_tokens` are there. "context": the model knows no position
    after this token and the cache policy lets none leave.
    """

    sequence: int
    token: int
    finish: Finish | None


def generate(
    module: CausalModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    sampling: Sampling,
    cache: str = "full",
    stop_tokens: frozenset[int] = frozenset(),
    n_tokens: int | None = None,
    suppressed: frozenset[int] = frozenset(),
    source: Tensor | None = None,
    source_valid: Bool[Tensor, "B S"] | None = None,
) -> Iterator[NewToken]:
    """Continue all prompts at once; new tokens come as soon as they are chosen, sequence by sequence.

    Sequence i draws its random numbers from seed + i, so what it becomes does not depend on its neighbours. With
    `n_tokens`, ids from there on never come: some models have more rows than their tokenizer has tokens. Nor do those
    that are `suppressed`.
    An encoder-decoder has a `source` for each prompt, which begins its target; `source_valid` is False at padding.
    `max_new_tokens` is one number, or one for each prompt. What cannot be served raises here, before the first token is
    asked for.
    """
    limits = limits_of(max_new_tokens, len(prompts))
    policy = policy_for(module.config, prompts, limits, cache)
    check_source(source, len(prompts), module.config)
    return _run(module, source, source_valid, prompts, policy, limits, sampling, stop_tokens, n_tokens, suppressed)


def _run(
    module: CausalModel,
    source: Tensor | None,
    source_valid: Tensor | None,
    prompts: Sequence[Sequence[int]],
    policy: Policy,
    limits: list[int],
    sampling: Sampling,
    stop_tokens: frozenset[int],
    n_tokens: int | None,
    suppressed: frozenset[int],
) -> Iterator[NewToken]:
    """Prefill, then choose and decode in turn."""
    vocab_size = module.config.vocab_size
    state = begin(module, policy, source, source_valid)
    tokens, valid = left_padded(prompts)
    logits = prefill(module, tokens, state, valid)
    seen = None
    if sampling.repetition_penalty != 1:
        seen = seen_tokens(tokens, valid, vocab_size)[:, :n_tokens]
    randoms = [torch.Generator().manual_seed((sampling.seed + i) % 2**63) for i in range(len(prompts))]
    running = torch.ones(len(prompts), dtype=torch.bool)
    for count in range(1, max(limits) + 1):
        probs = distribution(without(logits[:, :n_tokens], suppressed), seen, sampling)
        uniform = torch.stack([torch.rand((), generator=random, dtype=torch.float64) for random in randoms])
        chosen = draw(probs, uniform)
        context_over = state.room == 0
        for i in running.nonzero().flatten().tolist():
            token = int(chosen[i])
            finish: Finish | None = None
            if token in stop_tokens:
                finish = "stop"
            elif count >= limits[i]:
                finish = "length"
            elif context_over:
                finish = "context"
            running[i] = finish is None
            yield NewToken(sequence=i, token=token, finish=finish)
        if not running.any():
            return
        if seen is not None:
            seen[torch.arange(len(prompts)), chosen] = True
        logits = decode(module, chosen, state)


@torch.inference_mode()
def begin(
    module: CausalModel, policy: Policy, source: Tensor | None = None, source_valid: Bool[Tensor, "B S"] | None = None
) -> State:
    """The state before the first token; an encoder-decoder reads its source here."""
    device = next(iter(module.parameters())).device
    source = source if source is None else source.to(device)
    if source_valid is None:
        return module.begin(source, policy)
    return cast(ReadsTexts, module).begin(source, policy, source_valid.to(device))


@torch.inference_mode()
def prefill(
    module: CausalModel, tokens: Int[Tensor, "B T"], state: State, valid: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B V"]:
    """Read the prompts into the state and return the logits after their last tokens.

    As many tokens at once as the cache has room for, then one by one, since old tokens leave in between.
    """
    device = next(iter(module.parameters())).device
    tokens = tokens.to(device)
    valid = valid if valid is None else valid.to(device)
    start = 0
    while True:
        piece = slice(start, start + max(state.room, 1))
        logits = module(tokens[:, piece], state, valid if valid is None else valid[:, piece])
        start = piece.stop
        if start >= tokens.shape[-1]:
            return _last(logits)


@torch.inference_mode()
def decode(module: CausalModel, tokens: Int[Tensor, " B"], state: State) -> Float[Tensor, "B V"]:
    """Read one more token of each sequence and return the logits after it."""
    device = next(iter(module.parameters())).device
    return _last(module(tokens[:, None].to(device), state))


def _last(logits: Float[Tensor, "B T V"]) -> Float[Tensor, "B V"]:
    last = logits[:, -1].cpu()
    check_finite(last)
    return last


def limits_of(max_new_tokens: int | Sequence[int], n_prompts: int) -> list[int]:
    """How many new tokens each prompt may get."""
    limits: list[Any] = (
        list(max_new_tokens) if isinstance(max_new_tokens, list | tuple) else [max_new_tokens] * n_prompts
    )
    if len(limits) != n_prompts:
        raise GenerationError(f"max_new_tokens has {len(limits)} numbers for {n_prompts} prompts.")
    for limit in limits:
        if not isinstance(limit, Integral):  # numpy's are
            raise GenerationError(f"must be a whole number, not {limit!r}.", setting="max_new_tokens")
        if limit < 1:
            raise GenerationError(f"must be at least 1, not {limit}.", setting="max_new_tokens")
    return [int(limit) for limit in limits]


def policy_for(config: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], cache: str) -> Policy:
    """The policy of that name, no larger than these prompts need; raises what cannot be served."""
    check_prompts(prompts, config.vocab_size)
    longest = max(map(len, prompts))
    policy = parse_policy(cache, config.context_length)
    if policy.endless:
        return policy
    if longest > config.context_length:
        raise GenerationError(
            f"The prompt has {longest} tokens, but this model's context is {config.context_length}: shorten it, or "
            f"let old tokens leave with a cache such as sinks:4+{max(config.context_length - 4, 1)}."
        )
    return full(min(config.context_length, longest + max(limits)))


def check_source(source: Tensor | None, n_prompts: int, config: Any) -> None:
    """Raise unless there are as many sources as prompts and the tokens of source texts are in their vocabulary."""
    if source is None:
        return
    if len(source) != n_prompts:
        raise GenerationError(f"There are {len(source)} sources for {n_prompts} prompts: each needs one of its own.")
    if source.is_floating_point():  # sound or an image
        return
    vocab_size = getattr(config, "source_vocab_size", None) or config.vocab_size
    strange = source[(source < 0) | (source >= vocab_size)]
    if source.shape[-1] == 0 or strange.numel():
        what = f"Token {int(strange[0])} is not" if strange.numel() else "An empty source has no token that is"
        raise GenerationError(f"{what} in the model's source vocabulary of {vocab_size}.")


def check_prompts(prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Raise unless every prompt has a token and every token is in the vocabulary."""
    if not prompts or not all(prompts):
        raise GenerationError(
            "The prompt is empty, and this model has no token that begins a text: give it something to continue."
        )
    for prompt in prompts:
        strange = [token for token in prompt if not 0 <= token < vocab_size]
        if strange:
            raise GenerationError(f"Token {strange[0]} is not in the model's vocabulary of {vocab_size}.")


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"] | None]:
    """The prompts as one array that ends with their last tokens, and where it holds tokens (None: everywhere)."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    if all(len(prompt) == longest for prompt in prompts):
        return tokens, None
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return tokens, torch.arange(longest) >= longest - lengths[:, None]


def seen_tokens(tokens: Int[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None, vocab_size: int) -> Bool[Tensor, "B V"]:
    """Which tokens of the vocabulary each prompt has."""
    seen = torch.zeros(len(tokens), vocab_size, dtype=torch.bool)
    for row, prompt in enumerate(tokens):
        seen[row, prompt if valid is None else prompt[valid[row]]] = True
    return seen
