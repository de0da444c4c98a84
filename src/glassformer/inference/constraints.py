"""Which tokens may come, and when one must: the rules of a generation_config.json, as filters of logits.

They hold wherever tokens are chosen, by sampling or by a search. How one is chosen among those that may come is said in
`logits.py`; who chooses are `engine.py` and `beam.py`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.logits import LogitFilter, Suppress, SuppressPhrases, without
from glassformer.nn import functional as F

logger = logging.getLogger(__name__)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Which tokens may come, by the names that generation_config.json has for it.

    `min_length` and `max_length` count the prompt; `min_new_tokens`, which goes before `min_length`, counts of it only
    a first token that is always the same.
    """

    no_repeat_ngram_size: int = 0  # no n tokens come in the same order twice; 0: they may
    min_length: int = 0
    min_new_tokens: int = 0
    max_length: int = 0  # of an encoder-decoder's target where nobody says how many tokens may come; 0: no limit
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()  # which do not come first
    bad_phrases: tuple[tuple[int, ...], ...] = ()
    forced_eos_token_id: tuple[int, ...] = ()  # one of which comes last, where a text would be cut
    renormalize_logits: bool = False  # beams compare probabilities among the tokens that may come

    def __post_init__(self) -> None:
        for each in fields(self):
            value: Any = getattr(self, each.name)
            if isinstance(each.default, bool):
                fine, what = isinstance(value, bool), "true or false"
            elif isinstance(each.default, int):
                fine, what = _is_whole(value) and value >= 0, "a whole number, at least 0"
            elif each.name != "bad_phrases":
                value = tuple(value) if isinstance(value, list | tuple) else (value,)
                fine, what = all(map(_is_whole, value)), "a token's id or a list of them"
                object.__setattr__(self, each.name, value)
            if not fine:
                raise GenerationError(f"must be {what}, not {getattr(self, each.name)!r}.", setting=each.name)

    def rules(
        self, n_prompt: int, max_new_tokens: int, stop_tokens: frozenset[int], n_fixed: int = 0
    ) -> tuple[LogitFilter, ...]:
        """The filters for a prompt of so many tokens and what continues it: those that are equal do the same.

        `n_fixed` tokens at the end of the prompt are the first new ones, though nobody chooses them. Only a search has
        a use for `renormalize_logits`, and goes on from these rules with `Renormalise`: what is sampled, or likeliest,
        is the same without it.
        """
        shortest = n_prompt - n_fixed + self.min_new_tokens if self.min_new_tokens else self.min_length
        last = n_prompt + max_new_tokens - 1
        rules: list[tuple[Any, LogitFilter]] = [
            (self.no_repeat_ngram_size, NoRepeat(self.no_repeat_ngram_size)),
            (self.bad_phrases, SuppressPhrases(self.bad_phrases)),
            (shortest > n_prompt and stop_tokens, AtLengths(range(shortest), Suppress(stop_tokens))),
            (self.suppress_tokens, Suppress(frozenset(self.suppress_tokens))),
            (
                self.begin_suppress_tokens,
                AtLengths(range(n_prompt, n_prompt + 1), Suppress(frozenset(self.begin_suppress_tokens))),
            ),
            (self.forced_eos_token_id, AtLengths(range(last, last + 1), Only(self.forced_eos_token_id))),
        ]
        return tuple(rule for needed, rule in rules if needed)


UNCONSTRAINED = Constraints()
OF_CALLS = ("no_repeat_ngram_size", "min_length", "min_new_tokens")  # that a call may set; the others are of files


@dataclass(frozen=True, slots=True)
class NoRepeat:
    """A filter of logits: no n tokens come in the same order twice. Paulus et al. 2017, §2.5 (arXiv:1705.04304)."""

    n: int

    def __call__(self, logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
        """The logits with −∞ for the tokens that would repeat, each in its row."""
        return torch.stack([without(row, self.repeating(text)) for row, text in zip(logits, texts, strict=True)])

    def repeating(self, text: Sequence[int]) -> set[int]:
        """The tokens with which the text would end as it has gone on before.

        >>> NoRepeat(3).repeating([5, 6, 7, 5, 6])
        {7}
        """
        before = self.n - 1
        latest = text[len(text) - before :]
        return {text[i + before] for i in range(len(text) - before) if text[i : i + before] == latest}


@dataclass(frozen=True, slots=True)
class Only:
    """A filter of logits: one of these tokens comes, each as likely as the others."""

    tokens: tuple[int, ...]

    def __call__(self, logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
        """0 for those tokens and −∞ for all others; the logits as they were where the vocabulary has none of them."""
        ids = [token for token in self.tokens if 0 <= token < logits.shape[-1]]
        return torch.full_like(logits, -torch.inf).index_fill(-1, torch.tensor(ids), 0.0) if ids else logits


@dataclass(frozen=True, slots=True)
class Renormalise:
    """A filter of logits, which become the logarithms of probabilities."""

    def __call__(self, logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
        """log p of the tokens that may come."""
        return F.log_softmax(logits)


@dataclass(frozen=True, slots=True)
class AtLengths:
    """A filter of logits that holds for the texts which have so many tokens, and lets others be."""

    lengths: range
    rule: LogitFilter

    def __call__(self, logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
        """The logits, in some rows as the other filter leaves them."""
        rows = [row for row, text in enumerate(texts) if len(text) in self.lengths]
        if not rows:
            return logits
        logits = logits.clone()
        logits[rows] = self.rule(logits[rows], [texts[row] for row in rows])
        return logits


# ---- generation_config.json

TOKENS = ("suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id")
NOT_FOLLOWED: dict[str, Any] = {  # and the values with which they do nothing
    "constraints": None,
    "diversity_penalty": 0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_decoder_ids": None,
    "guidance_scale": 1,
    "max_new_tokens": None,
    "max_time": None,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0,
    "sequence_bias": None,
    "stop_strings": None,
    "top_h": None,
    "typical_p": 1,
    "watermarking_config": None,
}
OF_SEARCH: dict[str, Any] = {"max_length": None, "num_beams": 1}  # which language models do not follow
OF_SAMPLING: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1}  # which translations do not follow


def constraints_of(generation: Mapping[str, Any], **more: Any) -> Constraints:
    """The rules in a generation_config.json, with `more` of them; None stands for what is not said, −1 for no token."""
    settings: dict[str, Any] = {}
    for name in (each.name for each in fields(Constraints) if each.name != "bad_phrases"):
        value = generation.get(name)
        if name in TOKENS and value is not None:
            listed = value if isinstance(value, list) else [value]
            value = tuple(token for token in listed if not (type(token) is int and token < 0))
        if value is not None:
            settings[name] = value
    if "suppress_tokens" in more:
        settings["suppress_tokens"] = (*settings.get("suppress_tokens", ()), *more["suppress_tokens"])
    try:
        return Constraints(**{**more, **settings})
    except GenerationError as error:
        raise ConfigError(f"generation_config.json: {error}") from None


def say_what_is_not_followed(generation: Mapping[str, Any], *, searches: bool, forces_first: bool) -> None:
    """Warn, once, of what a generation_config.json asks for that is not done here.

    `searches`: the model's texts are written by beams. `forces_first`: its first token is in its configuration.
    """
    neutral = NOT_FOLLOWED | (OF_SAMPLING if searches else OF_SEARCH)
    if forces_first:
        del neutral["forced_bos_token_id"]
    names = [name for name, value in sorted(neutral.items()) if generation.get(name) not in (None, value, [], {})]
    if names:
        _warn_once(", ".join(names))


@cache
def _warn_once(names: str) -> None:
    logger.warning(
        "generation_config.json asks for %s, which glassformer does not follow: transformers may write other texts.",
        names,
    )
