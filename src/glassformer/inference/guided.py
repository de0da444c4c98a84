"""Guided choice: every text is one that a regular expression matches, or that a JSON schema describes.

After each token the tokens that can still lead to such a text are those that may come, and the text may end where it is
one. Which they are says the library `llguidance` (extra `guided`), whose own limits bound what a pattern may cost.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassformer.errors import GenerationError, MissingExtra
from glassformer.tokenizers import Tokenizer

MAX_CHARACTERS = 1 << 20  # of a pattern or a schema
MAX_STATES = 1024  # of texts that are begun: one that has left is matched again from its beginning
JSON_LAYOUT: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}  # as `json.dumps` has it


class Guide:
    """What may come in a text of these tokens that ends with one of `end_ids`; raises where no text can be written."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        *,
        regex: str | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> None:
        if (regex is None) == (json_schema is None):
            raise GenerationError("A text is guided by a regular expression or by a JSON schema: give one of them.")
        if not any(id in tokenizer.vocab for id in end_ids):
            raise GenerationError("The model has no token that ends a text, so that no guided text could end.")
        self._tokenizer, self._end_ids = tokenizer, [id for id in sorted(end_ids) if id in tokenizer.vocab]
        self._what = "regular expression" if json_schema is None else "JSON schema"
        try:
            from llguidance import LLMatcher
        except ImportError:
            raise MissingExtra("llguidance", "guided", f"A {self._what}") from None
        try:
            source = json.dumps(json_schema) if regex is None else regex
        except (TypeError, ValueError, RecursionError) as error:
            raise GenerationError(f"The JSON schema is no JSON: {error}.") from None
        if len(source) > MAX_CHARACTERS:
            raise GenerationError(
                f"The {self._what} has {len(source):,} characters; at most {MAX_CHARACTERS:,} are read."
            )
        try:
            grammar = (
                LLMatcher.grammar_from_json_schema(source, overrides=JSON_LAYOUT)
                if regex is None
                else LLMatcher.grammar_from_regex(source)
            )
        except ValueError as error:
            raise GenerationError(f"The {self._what} cannot be followed: {error}.") from None
        self._begun = LLMatcher(self._library_tokenizer(), grammar, log_level=0)
        self._states: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._after_prompts: dict[int, Guided] = {}
        self._raise_of(self._begun)
        if not self.allowed(()).any():
            raise GenerationError(f"No text of the model's tokens fits the {self._what}.")

    def after(self, n_prompt: int) -> "Guided":
        """The filter for a prompt of so many tokens; the same one each time, so that rows are filtered together."""
        return self._after_prompts.setdefault(n_prompt, Guided(self, n_prompt))

    def allowed(self, written: tuple[int, ...]) -> Bool[Tensor, " V"]:
        """Which tokens may follow those that have been written since the prompt."""
        state = self._state(written)
        bits = np.frombuffer(state.compute_bitmask(), np.uint8)
        self._raise_of(state)
        return torch.from_numpy(np.unpackbits(bits, bitorder="little")[: self._tokenizer.vocab_size].astype(bool))

    def begins_otherwise(self, previous: int) -> list[int]:
        """The tokens that stand for other bytes right behind this one, such as pieces that lose their space there."""
        if previous not in self._special:
            return []
        within, bytes_after = self._bytes_within, self._tokenizer.bytes_after
        return [id for id in self._tokenizer.vocab if bytes_after(previous, id) != within[id]]

    def _state(self, written: tuple[int, ...]) -> Any:
        if written in self._states:
            self._states.move_to_end(written)
            return self._states[written]
        state = self._states.pop(written[:-1], None) if written else None
        if state is None:
            state = self._begun.deep_copy()
            state.consume_tokens(list(written))
        else:
            state.consume_token(written[-1])
        self._raise_of(state)
        self._states[written] = state
        while len(self._states) > MAX_STATES:
            self._states.popitem(last=False)
        return state

    def _raise_of(self, state: Any) -> None:
        if state.is_error():
            reason = state.get_error().split("\n<state>")[0].split("\n")
            lines = [line for line in reason if line.strip() and "|" not in line]
            raise GenerationError(f"The {self._what} cannot be followed: {' '.join(' '.join(lines).split())[:300]}.")

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self._tokenizer.special_tokens.values())

    @cached_property
    def _bytes_within(self) -> dict[int, bytes]:
        """What each token stands for behind an ordinary one."""
        tokenizer = self._tokenizer
        ordinary = next((id for id in reversed(tokenizer.vocab) if id not in self._special), None)
        return {id: tokenizer.bytes_after(ordinary, id) for id in tokenizer.vocab}

    def _library_tokenizer(self) -> Any:
        from llguidance import LLTokenizer, TokenizerWrapper

        vocabulary = GuidedVocabulary(
            tokens=[self._bytes_within.get(id, b"") for id in range(self._tokenizer.vocab_size)],
            special_token_ids=sorted(self._special | set(self._end_ids)),
            eos_token_id=self._end_ids[0],
        )
        return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=self._end_ids, slices=[])


@dataclass(frozen=True, kw_only=True)
class GuidedVocabulary:
    """A vocabulary as `llguidance` asks for it."""

    tokens: list[bytes]
    special_token_ids: list[int]
    eos_token_id: int
    bos_token_id: int | None = None

    def __call__(self, text: bytes) -> list[int]:
        """The text cut greedily, as far as there are tokens for it: where only one text can follow, that is asked."""
        ids: list[int] = []
        while text:
            token = next((text[:n] for n in range(self._longest, 0, -1) if text[:n] in self._ids), None)
            if token is None:
                break
            ids.append(self._ids[token])
            text = text[len(token) :]
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        special = set(self.special_token_ids)
        return {token: id for id, token in enumerate(self.tokens) if token and id not in special}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Guided:
    """A filter of logits: of texts behind prompts of so many tokens, what the guide lets come."""

    guide: Guide
    n_prompt: int

    def __call__(self, logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
        """The logits with −∞ for the tokens that lead to no text of this kind."""
        allowed = torch.zeros(logits.shape, dtype=torch.bool)
        for row, text in zip(allowed, texts, strict=True):
            may_come = self.guide.allowed(tuple(text[self.n_prompt :]))[: len(row)]
            row[: len(may_come)] = may_come
            if len(text) == self.n_prompt:
                row[[id for id in self.guide.begins_otherwise(text[-1]) if id < len(row)]] = False
        return logits.masked_fill(~allowed, -torch.inf)
