"""Several prompts continued at once, each as soon as its next token is chosen; the loop is the decode engine's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.constraints import UNCONSTRAINED, Constraints
from glassformer.inference.engine import Engine
from glassformer.inference.guided import Guide
from glassformer.inference.logits import LogitFilter, Sampling, derived_seed
from glassformer.inference.request import NewToken, Request, check_prompts
from glassformer.inference.speculative import Drafter
from glassformer.models.spec import CausalModel, longest_text
from glassformer.nn.kv_cache import Policy, full, parse_policy


class Generation(Iterator[NewToken]):
    """The new tokens of all sequences, as they are chosen; what is cancelled costs nothing from then on."""

    def __init__(self, engine: Engine) -> None:
        self._tokens = engine.run()
        self.cancel = engine.cancel

    def __next__(self) -> NewToken:
        """The next token of some sequence."""
        return next(self._tokens)


def generate(
    module: CausalModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    sampling: Sampling,
    cache: str = "full",
    stop_tokens: frozenset[int] = frozenset(),
    n_tokens: int | None = None,
    constraints: Constraints = UNCONSTRAINED,
    filters: Sequence[LogitFilter] = (),
    source: Tensor | None = None,
    source_valid: Bool[Tensor, "B S"] | None = None,
    n_fixed: int = 0,
    drafter: Drafter | None = None,
    guide: Guide | None = None,
    logprobs: int | None = None,
) -> Generation:
    """Continue all prompts at once; new tokens come as soon as they are chosen, sequence by sequence.

    Sequence i draws its random numbers from a seed of its own (`derived_seed`), so what it becomes does not depend on
    its neighbours. With `n_tokens`, ids from there on never come: some models embed more tokens than their tokenizer
    has. `constraints` say which others may come. `filters` change the logits before a token is chosen, in their order.
    An encoder-decoder has a `source` for each prompt, which begins its target; `source_valid` is False at padding.
    `n_fixed` tokens at the end of each prompt belong to the text: the constraints count them as new.
    `max_new_tokens` is one number, or one for each prompt. What cannot be served raises here, before the first token is
    asked for. A `drafter` guesses several tokens at once, which come sooner where it is right. A
    `guide` says, after all filters, which tokens lead to a text of its kind. With `logprobs` each
    token comes with its log-probability, and with those of so many of the likeliest.
    """
    check_prompts(prompts, module.config.vocab_size)
    limits = limits_of(max_new_tokens, len(prompts))
    policy = policy_for(module.config, prompts, limits, cache)
    engine = Engine(module, policy, n_tokens=n_tokens, drafter=drafter, recent_bytes=0)
    sources = sources_of(source, source_valid, len(prompts))
    for i, (prompt, limit, of_prompt) in enumerate(zip(prompts, limits, sources, strict=True)):
        engine.admit(
            Request(
                tokens=tuple(prompt),
                sampling=replace(sampling, seed=derived_seed(sampling.seed, i)),
                max_new_tokens=limit,
                stop_tokens=stop_tokens,
                constraints=constraints,
                n_fixed=n_fixed,
                filters=(*filters, *(() if guide is None else (guide.after(len(prompt)),))),
                source=of_prompt,
                logprobs=logprobs is not None,
                n_likeliest=logprobs or 0,
            )
        )
    return Generation(engine)


def sources_of(source: Tensor | None, valid: Bool[Tensor, "B S"] | None, n_prompts: int) -> list[Tensor | None]:
    """Each prompt's source without its padding."""
    if source is None:
        return [None] * n_prompts
    if len(source) != n_prompts:
        raise GenerationError(f"There are {len(source)} sources for {n_prompts} prompts: each needs one of its own.")
    return list(source) if valid is None else [row[there] for row, there in zip(source, valid, strict=True)]


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
    """The policy of that name, no larger than these prompts need."""
    longest = longest_text(config)
    policy = parse_policy(cache, longest)
    if policy.endless:
        return policy
    return full(min(longest, max((len(p) + n for p, n in zip(prompts, limits, strict=True)))))
