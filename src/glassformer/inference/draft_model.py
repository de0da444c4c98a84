"""Drafts of a small model for a large one: an engine of its own follows the texts that the large one writes."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import torch

from glassformer.inference.engine import Engine
from glassformer.inference.request import NewToken, Request
from glassformer.inference.speculative import Draft, Speculation, Unfinished, check_n_drafted
from glassformer.models.spec import CausalModel, longest_text
from glassformer.nn.kv_cache import full


class DraftModel:
    """Drafts what another model of the same vocabulary would write, chosen as the text's own tokens are."""

    def __init__(self, module: CausalModel, n_drafted: int = 4, *, n_tokens: int | None = None) -> None:
        check_n_drafted(n_drafted)
        self.n_drafted, self.speculation = n_drafted, Speculation()
        self._engine = Engine(module, full(longest_text(module.config)), n_tokens=n_tokens)
        self._longest = self._engine.most_forgotten() - n_drafted  # of the texts that it can draft for
        self._followers: dict[int, int] = {}  # the engine's own sequence for each text

    def propose(self, texts: Sequence[Unfinished]) -> list[Draft]:
        """So many tokens for each text; none where this model's context, or a window of its, ends."""
        texts_within = [text for text in texts if len(text.tokens) <= self._longest]
        wanted = {text.sequence for text in texts_within}
        for sequence in self._followers.keys() - wanted:
            self._engine.cancel(self._followers.pop(sequence))
        for text in texts_within:
            follower = self._followers.get(text.sequence)
            if follower is None or not self._engine.follow(follower, text.tokens):
                self._followers[text.sequence] = self._engine.admit(self._request(text))
        drafted: dict[int, list[NewToken]] = {follower: [] for follower in self._followers.values()}
        for _ in range(min(self.n_drafted, max((text.at_most for text in texts_within), default=0))):
            for new in self._engine.step():
                if new.error is not None:
                    raise new.error
                drafted[new.sequence].append(new)
        return [_draft(drafted.get(self._followers.get(text.sequence, -1), [])[: text.at_most]) for text in texts]

    def _request(self, text: Unfinished) -> Request:
        # Numbers that have nothing to do with those that decide about the draft; of seeds that are alike they would.
        seed = Random(f"draft {text.sampling.seed} {len(text.tokens)}").getrandbits(63)
        return Request(
            tokens=tuple(text.tokens),
            sampling=replace(text.sampling, seed=seed),
            max_new_tokens=longest_text(self._engine.module.config),
            with_probs=text.sampling.temperature > 0,
        )


def _draft(news: Sequence[NewToken]) -> Draft:
    probs = [new.probs for new in news if new.probs is not None]
    return Draft([new.token for new in news], torch.stack(probs) if probs else None)
