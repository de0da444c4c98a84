"""From the logits of the next token to a choice: what each setting does to the distribution, in the order applied."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.nn import functional as F

# (logits (N, V), the tokens of each of the N texts so far, prompts included) -> logits (N, V)
LogitFilter = Callable[[Float[Tensor, "N V"], Sequence[Sequence[int]]], Float[Tensor, "N V"]]

SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")  # as generation_config.json calls them


WHOLE = ("top_k", "seed")  # the settings that are whole numbers
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda value: 0 <= value < math.inf, "at least 0"),
    "top_k": (lambda value: value >= 0, "at least 0 (0 keeps all tokens)"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "repetition_penalty": (lambda value: 0 < value < math.inf, "above 0"),
    "seed": (lambda value: 0 <= value < 2**63, "from 0 to 2⁶³ − 1"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. The defaults take a token with the very probability that the model gives it.

    `temperature` divides the logits: below 1 the likely gets likelier, and 0 takes the most likely token. `top_k` keeps
    that many of the most likely tokens, `top_p` the fewest whose probabilities come to it, `min_p` those at least that
    many times as likely as the most likely one. They apply in this order, after `repetition_penalty`, which divides the
    logits of tokens that the text already has.

    >>> logits = torch.tensor([[3.0, 2.0, 1.0]])
    >>> distribution(logits, None, Sampling(top_k=2)).round(decimals=2)
    tensor([[0.7300, 0.2700, 0.0000]], dtype=torch.float64)
    >>> distribution(logits, None, Sampling(top_k=2, temperature=0.5)).round(decimals=2)
    tensor([[0.8800, 0.1200, 0.0000]], dtype=torch.float64)
    """

    temperature: float = 1.0  # 0 takes the most likely token
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (fine, bounds) in BOUNDS.items():
            value: Any = getattr(self, name)
            if type(value) is not int and (type(value) is not float or name in WHOLE):  # numpy's, or no number at all
                if isinstance(value, bool) or not isinstance(value, Integral if name in WHOLE else Real):
                    kind = "a whole number" if name in WHOLE else "a number"
                    raise GenerationError(f"must be {kind}, not {value!r}.", setting=name)
                value = int(getattr(self, name)) if name in WHOLE else float(value)
                object.__setattr__(self, name, value)
            if not fine(value):
                raise GenerationError(f"must be {bounds}, not {value}.", setting=name)

    @property
    def unseeded(self) -> tuple[float | int, ...]:
        """All settings but the seed: texts that share them are chosen for in one."""
        return self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty


def derived_seed(seed: int, i: int) -> int:
    """The seed of the i-th of several texts that one seed stands for; the first has the seed itself.

    A hash, not a sum: with `seed + i` the texts of neighbouring seeds would be the same ones, but for one.
    """
    return seed if i == 0 else int(np.random.SeedSequence((seed, i)).generate_state(1, np.uint64)[0] >> np.uint64(1))


USUAL = Sampling(temperature=0.8, top_p=0.95)  # where neither a user nor the model's files say how to choose

# An answer is asked to be right rather than varied, and the likeliest token is also what `generate` of transformers
# takes where generation_config.json is silent.
USUAL_OF_ANSWERS = Sampling(temperature=0.0)
DRAWING = ("do_sample", "temperature", "top_k", "top_p", "min_p")  # the settings that say how to draw, or whether


def usual_of_answers(*settings: Mapping[str, Any]) -> Sampling:
    """How an answer in a chat is chosen: greedily, where none of these settings says how to draw it."""
    says = any(each.get(name) is not None for each in settings for name in DRAWING)
    return USUAL if says else USUAL_OF_ANSWERS


def sampling_of(generation: Mapping[str, Any], *, usual: Sampling = USUAL) -> Sampling:
    """How a generation_config.json says that tokens are chosen; what it does not say is as usual.

    Where it says `do_sample: false`, the most likely token is taken, as `transformers` does.
    """
    settings = {name: generation[name] for name in SETTINGS if generation.get(name) is not None}
    if generation.get("do_sample") is False:
        settings["temperature"] = 0.0
    try:
        return replace(usual, **settings)
    except GenerationError as error:
        raise ConfigError(f"generation_config.json: {error}") from None


NOT_FINITE = (
    "The model's logits are no finite numbers, so there is no likeliest token: its weights are broken, or too "
    "large for float16, where bfloat16 and float32 hold them."
)


def finite_rows(logits: Float[Tensor, "*B V"]) -> Bool[Tensor, "*B"]:
    """Which rows can be chosen from: no NaN, none that is infinitely likely, and one that is possible."""
    return torch.as_tensor(np.isfinite(as_array(logits).max(-1)))  # of a row with NaN that is NaN


def as_array(logits: Tensor) -> NDArray[np.floating]:
    """Numbers for numpy, which needs no second thread to look through a vocabulary.

    torch wakes one for so many, and it looks for more work for some milliseconds: the next step wants its processor.
    """
    return (logits.float() if logits.dtype == torch.bfloat16 else logits).detach().cpu().numpy()


def check_finite(logits: Float[Tensor, "*B V"]) -> None:
    """Raise unless every row can be chosen from."""
    if not finite_rows(logits).all():
        raise GenerationError(NOT_FINITE)


def choose(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None, sampling: Sampling, uniform: Sequence[Tensor]
) -> Int[Tensor, " B"]:
    """A token for each row: the likeliest at temperature 0, else the one that its number from [0, 1) draws.

    `seen` marks the tokens that the text already has, for a repetition penalty.
    """
    if sampling.temperature == 0 and seen is None:
        return torch.as_tensor(as_array(logits).argmax(-1))
    probs = distribution(logits, seen, sampling)
    return probs.argmax(-1) if sampling.temperature == 0 else draw(probs, torch.stack(list(uniform)))


def distribution(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None, sampling: Sampling
) -> Float[Tensor, "B V"]:
    """The probabilities that a token is drawn with; `seen` marks the tokens that the text already has."""
    logits = logits.double()  # a small temperature would overflow float32
    if sampling.repetition_penalty != 1 and seen is not None:
        logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = keep_min_p(logits, sampling.min_p)
    return F.softmax(logits)


def without(logits: Float[Tensor, "*B V"], tokens: Collection[int]) -> Float[Tensor, "*B V"]:
    """The logits, or log-probabilities, with −∞ for tokens that shall never come."""
    ids = [token for token in tokens if token < logits.shape[-1]]
    return logits.index_fill(-1, torch.tensor(ids), -torch.inf) if ids else logits


@dataclass(frozen=True, slots=True)
class Suppress:
    """A filter of logits: these tokens never come."""

    tokens: frozenset[int]

    def __call__(self, logits: Float[Tensor, "B V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """The logits with −∞ for those tokens."""
        return without(logits, self.tokens)


@dataclass(frozen=True, slots=True)
class SuppressPhrases:
    """A filter of logits: the last token of each of these phrases never comes behind its others."""

    phrases: tuple[tuple[int, ...], ...]

    def __call__(self, logits: Float[Tensor, "B V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """The logits with −∞ for the tokens that would complete a phrase, each in its row."""
        logits = logits.clone()
        for row, text in enumerate(texts):
            for *before, last in self.phrases:
                if list(text[-len(before) :]) == before and 0 <= last < logits.shape[-1]:
                    logits[row, last] = -math.inf
        return logits


def penalise_repetition(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float
) -> Float[Tensor, "B V"]:
    """Divide the positive logits of seen tokens by the penalty and multiply the negative ones.

    Keskar et al. 2019, §4.1 (arXiv:1909.05858), with the sign handled as published code does.
    """
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def keep_top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """The k most likely tokens, and what is as likely as the last of them."""
    least = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """The smallest set of most likely tokens whose mass reaches p. Holtzman et al. 2019, §3.1 (arXiv:1904.09751)."""
    ordered, order = logits.sort(descending=True, stable=True)
    probs = F.softmax(ordered)
    mass_before = probs.cumsum(-1) - probs
    ordered = ordered.masked_fill(mass_before >= p, -torch.inf)
    return torch.empty_like(logits).scatter_(-1, order, ordered)


def keep_min_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Tokens at least p times as likely as the most likely one. Nguyen et al. 2024, §3 (arXiv:2407.01082)."""
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -torch.inf)


def draw(probs: Float[Tensor, "B V"], uniform: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The token in whose span of the cumulative distribution a number from [0, 1) falls."""
    cumulative = probs.cumsum(-1)
    chosen = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1)
    last_possible = probs.shape[-1] - 1 - (probs.flip(-1) > 0).int().argmax(-1)  # rounding must not pick beyond it
    return torch.minimum(chosen, last_possible)
