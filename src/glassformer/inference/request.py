"""What is asked of the decode engine: a text to continue, how, and where to stop; and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.constraints import UNCONSTRAINED, Constraints
from glassformer.inference.logits import LogitFilter, Sampling
from glassformer.inference.stopping import Finish
from glassformer.models import spec_of
from glassformer.models.spec import ENCODER_DECODERS, ModelConfig
from glassformer.nn.kv_cache import Policy


@runtime_checkable
class Search(Protocol):
    """Continues a prompt by rows of its own, chosen together: beam search is one."""

    def advance(self, logits: Float[Tensor, "N V"], *, context_over: bool) -> tuple[list[int], list[int]]:
        """From the logits of its rows to the rows that go on and their next tokens; none when the search is over.

        A row may go on several times, with different tokens. `context_over` says that no token can be read any more.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A prompt and how to continue it.

    `constraints` say which tokens may come, and `filters` change the logits after them. An encoder-decoder continues
    the target's beginning and has a `source`: tokens (S,), or whatever its `begin` takes a batch of. A `search` chooses
    in place of `sampling`, and ends by itself: constraints, filters, stop tokens and `max_new_tokens` are its affair.
    `n_fixed` tokens at the end of `tokens` belong to the text, and the constraints count them as new.
    """

    tokens: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 256
    stop_tokens: frozenset[int] = frozenset()
    constraints: Constraints = UNCONSTRAINED
    n_fixed: int = 0
    filters: tuple[LogitFilter, ...] = ()
    source: Tensor | None = None
    search: Search | None = None
    logprobs: bool = False  # whether to compute `NewToken.logprob`
    n_likeliest: int = 0  # how many tokens `NewToken.likeliest` has; with any, `logprob` is computed too
    with_probs: bool = False  # whether to keep `NewToken.probs`

    def __post_init__(self) -> None:
        whole = [*self.tokens, *self.stop_tokens, self.max_new_tokens]
        others = [value for value in whole if type(value) is not int]  # numpy's, or no whole numbers at all
        if wrong := [value for value in others if isinstance(value, bool) or not isinstance(value, Integral)]:
            raise GenerationError(f"Tokens, and how many may come, are whole numbers, not {wrong[0]!r}.")
        object.__setattr__(self, "tokens", tuple(map(int, self.tokens)))
        object.__setattr__(self, "stop_tokens", frozenset(map(int, self.stop_tokens)))
        if self.search is not None and (
            (self.filters, self.stop_tokens, self.constraints) != ((), frozenset(), UNCONSTRAINED)
            or self.logprobs
            or self.n_likeliest
            or self.with_probs
        ):
            raise GenerationError("A search chooses by itself: its request has no filters, stop tokens or logprobs.")

    def check(self, config: Any, policy: Policy) -> None:
        """Raise unless a model of this configuration can serve it under the policy."""
        check_prompts([self.tokens], config.vocab_size)
        if self.max_new_tokens < 1:
            raise GenerationError(f"must be at least 1, not {self.max_new_tokens}.", setting="max_new_tokens")
        if not 0 <= self.n_likeliest <= config.vocab_size:
            raise GenerationError(f"must be from 0 to {config.vocab_size}, not {self.n_likeliest}.", setting="logprobs")
        is_scaled = getattr(config, "rope_scaling", None) is not None  # perhaps for more than its files say
        if not policy.endless and len(self.tokens) > policy.capacity:
            raise GenerationError(
                f"The prompt has {len(self.tokens)} tokens, but this model's context is {policy.capacity}: shorten it, "
                f"or let old tokens leave with a cache such as sinks:4+{max(policy.capacity - 4, 1)}.",
                python="load(…, context_length=N) reads more." if is_scaled else "",
                command="--context-length N reads more." if is_scaled else "",
            )
        if self.source is not None:
            if not is_encoder_decoder(config):
                raise GenerationError("The model is no encoder-decoder: a request has no source.")
            check_source(self.source, config)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """One more token of one sequence; `finish` says why, if it is the last one.

    "stop": the token is one to stop at. "length": `max_new_tokens` are there. "context": the model knows no position
    after this token and the cache policy lets none leave. "error": the sequence could not go on, `error` says why, and
    the token is −1. `logprob` is log p of the token, in nats, after the filters and before the temperature; NaN where
    the request does not ask for it. Likewise `probs` is the distribution that it was drawn from, and `likeliest` are
    the tokens that were most likely to come, the likeliest first, with log p of each.
    """

    sequence: int
    token: int
    finish: Finish | None
    logprob: float = float("nan")
    probs: Float[Tensor, " V"] | None = None
    likeliest: tuple[tuple[int, float], ...] = ()
    error: Exception | None = None


def is_encoder_decoder(config: Any) -> bool:
    """Whether the model of this configuration writes about a source."""
    return isinstance(config, ModelConfig) and spec_of(config).kind in ENCODER_DECODERS


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


def check_source(source: Tensor, config: Any) -> None:
    """Raise unless the tokens of source texts are in their vocabulary; sound and images have none."""
    if source.is_floating_point():
        return
    if source.dim() == 0:
        raise GenerationError("A source is a text's tokens, not one number.")
    vocab_size = getattr(config, "source_vocab_size", None) or config.vocab_size
    strange = source[(source < 0) | (source >= vocab_size)]
    if source.shape[-1] == 0 or strange.numel():
        what = f"Token {int(strange[0])} is not" if strange.numel() else "An empty source has no token that is"
        raise GenerationError(f"{what} in the model's source vocabulary of {vocab_size}.")
