"""Beam search: of all continuations of the best few texts keep the best few, until none of them can win any more.

As in Sutskever et al. 2014, §3.2 (arXiv:1409.3215), with the scores and the stopping of `transformers`, so that its
results are theirs. The decode engine runs it: the beams of a prompt are rows of its batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.constraints import UNCONSTRAINED, Constraints, Renormalise
from glassformer.inference.engine import Engine
from glassformer.inference.generate import limits_of, policy_for, sources_of
from glassformer.inference.guided import Guide
from glassformer.inference.logits import LogitFilter, finite_rows
from glassformer.inference.request import Request, check_prompts
from glassformer.inference.stopping import Finish
from glassformer.models.spec import CausalModel
from glassformer.nn import functional as F

EarlyStopping = Literal[True, False, "never"]
MAX_LENGTH_PENALTY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Beams:
    """How a search goes on and when it ends.

    The score of a text of n new tokens, its last one counted, is Σ log p / n^length_penalty: above 0 the penalty
    favours long texts (the sum is negative), at 0 the score is the sum itself.

    A search ends when `n_beams` texts have ended and, with `early_stopping`
        True      nothing else: what still runs is dropped
        False     the best running text, divided by today's length, is no better than the worst that has ended
        "never"   the same, divided by the length that a text can still reach where that favours it: nothing is missed
    """

    n_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        if not isinstance(self.n_beams, Integral) or not 1 <= self.n_beams <= 1024:
            raise GenerationError(f"must be from 1 to 1024, not {self.n_beams}.", setting="n_beams")
        if not isinstance(self.length_penalty, Real) or not abs(self.length_penalty) <= MAX_LENGTH_PENALTY:
            raise GenerationError(f"must be from −10 to 10, not {self.length_penalty}.", setting="length_penalty")
        if self.early_stopping not in (True, False, "never"):
            raise GenerationError(f'early_stopping must be True, False or "never", not {self.early_stopping!r}.')


NAMES = {"num_beams": "n_beams", "length_penalty": "length_penalty", "early_stopping": "early_stopping"}


def beams_of(generation: Mapping[str, Any]) -> Beams:
    """How a generation_config.json says that a search goes on and ends; what it does not say is as usual."""
    settings = {ours: generation[theirs] for theirs, ours in NAMES.items() if generation.get(theirs) is not None}
    try:
        return Beams(**settings)
    except GenerationError as error:
        raise ConfigError(f"generation_config.json: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A text that has ended: its new tokens, the one that ended it included, its score, and why it ended."""

    tokens: list[int]
    score: float
    finish: Finish


def beam_search(
    module: CausalModel,
    prompts: Sequence[Sequence[int]],
    *,
    beams: Beams,
    max_new_tokens: int | Sequence[int],
    stop_tokens: frozenset[int] = frozenset(),
    n_best: int = 1,
    cache: str = "full",
    n_tokens: int | None = None,
    constraints: Constraints = UNCONSTRAINED,
    source: Tensor | None = None,
    source_valid: Bool[Tensor, "B S"] | None = None,
    n_fixed: int = 0,
    filters: Sequence[LogitFilter] = (),
    guide: Guide | None = None,
) -> list[list[Hypothesis]]:
    """The best `n_best` continuations of each prompt, the best first.

    `n_fixed` tokens at the end of each prompt belong to the text and count in its length. The other arguments are those
    of `generate`.
    """
    if not 1 <= n_best <= beams.n_beams:
        raise GenerationError(f"must be from 1 to the {beams.n_beams} beams, not {n_best}.", setting="n_best")
    check_prompts(prompts, module.config.vocab_size)
    limits = limits_of(max_new_tokens, len(prompts))
    engine = Engine(module, policy_for(module.config, prompts, limits, cache), n_tokens=n_tokens, recent_bytes=0)
    last = (Renormalise(),) if constraints.renormalize_logits else ()
    searches = [
        BeamSearch(
            beams,
            limit,
            stop_tokens,
            prompt,
            (
                *constraints.rules(len(prompt), limit, stop_tokens, n_fixed),
                *filters,
                *(() if guide is None else (guide.after(len(prompt)),)),
                *last,
            ),
            n_fixed=n_fixed,
        )
        for prompt, limit in zip(prompts, limits, strict=True)
    ]
    sources = sources_of(source, source_valid, len(prompts))
    for prompt, search, of_prompt in zip(prompts, searches, sources, strict=True):
        engine.admit(Request(tokens=tuple(prompt), search=search, source=of_prompt))
    for _ in engine.run():
        pass
    return [search.ended[:n_best] for search in searches]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """A text that goes on: its new tokens, Σ log p of them, and which beam of the step before it continues."""

    tokens: list[int]
    total: float
    parent: int


class BeamSearch:
    """The search for the continuation of one prompt, as the decode engine runs it (`request.py`)."""

    def __init__(
        self,
        beams: Beams,
        max_new_tokens: int,
        stop_tokens: frozenset[int],
        prompt: Sequence[int],
        filters: Sequence[LogitFilter] = (),
        *,
        n_fixed: int = 0,
    ) -> None:
        self.beams, self.max_new_tokens, self.stop_tokens = beams, max_new_tokens, stop_tokens
        self.prompt, self.filters, self.n_fixed = prompt, filters, n_fixed
        self.running = [Beam(tokens=[], total=0.0, parent=0)]
        self.ended: list[Hypothesis] = []  # the best first
        self.over = False

    def advance(self, logits: Float[Tensor, "beams V"], *, context_over: bool) -> tuple[list[int], list[int]]:
        """One more token of every beam: which beams go on, and with what; none when the search is over."""
        log_probs = F.log_softmax(logits.double())
        texts = [[*self.prompt, *beam.tokens] for beam in self.running]
        for change in self.filters:
            log_probs = change(log_probs, texts)
        log_probs = log_probs.nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # of a beam that no token may continue
        if not finite_rows(log_probs).any():
            raise GenerationError("The rules for what may come leave no token that could come next.")
        self.step(log_probs, context_over=context_over)
        if self.over:
            return [], []
        return [beam.parent for beam in self.running], [beam.tokens[-1] for beam in self.running]

    def step(self, log_probs: Float[Tensor, "beams V"], *, context_over: bool) -> None:
        """Continue every beam by every token. So many candidates are looked at that `n_beams` of them go on."""
        n_beams = self.beams.n_beams
        length = len(self.running[0].tokens) + 1
        at_end: Finish | None = "length" if length == self.max_new_tokens else "context" if context_over else None
        totals = torch.tensor([beam.total for beam in self.running], dtype=torch.float64)[:, None] + log_probs
        n_candidates = min(max(2, 1 + len(self.stop_tokens)) * n_beams, totals.numel())
        best, places = totals.flatten().topk(n_candidates)
        running: list[Beam] = []
        for rank, (total, place) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
            if total == -math.inf:
                break  # neither this token nor one after it may come
            parent, token = divmod(place, log_probs.shape[-1])
            tokens = [*self.running[parent].tokens, token]
            finish = "stop" if token in self.stop_tokens else at_end
            if finish is None:
                running.append(Beam(tokens=tokens, total=total, parent=parent))
            elif rank < n_beams:  # a text that ends must be among the best, as one that goes on must
                self.ended.append(Hypothesis(tokens=tokens, score=self.score(total, length), finish=finish))
        self.running = running[:n_beams]
        self.ended = sorted(self.ended, key=lambda text: text.score, reverse=True)[:n_beams]
        self.over = self._is_over(length)

    def score(self, total: float, length: int) -> float:
        """Σ log p / length^penalty; a token that is no choice has log p = 0."""
        return total / math.pow(self.n_fixed + length, self.beams.length_penalty)

    def _is_over(self, length: int) -> bool:
        """Whether no running text can come in among the best that have ended."""
        beams = self.beams
        if not self.running:
            return True
        if len(self.ended) < beams.n_beams:
            return False
        if beams.early_stopping is True:
            return True
        hopeful = beams.early_stopping == "never" and beams.length_penalty > 0
        best_possible = self.score(self.running[0].total, self.max_new_tokens if hopeful else length)
        return best_possible <= self.ended[-1].score
