"""Times in a transcript: the rules by which a Whisper writes them, and what they cut a window into.

A transcript of thirty seconds is  <|0.00|> text <|5.12|> <|5.60|> text <|11.00|>  and so on: times stand in pairs, an
end and the next beginning, and never fall. Radford et al. 2022, §2.3 and §4.5 (arXiv:2212.04356).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.features.log_mel import FRAMES_PER_SECOND
from glassformer.tokenizers.speech_tokens import SECONDS_PER_TIME, SpeechTokens

FRAMES_PER_TIME = round(FRAMES_PER_SECOND * SECONDS_PER_TIME)
LATEST_BEGINNING = 1.0  # seconds within which the first text of a window must begin


@dataclass(frozen=True, slots=True)
class TimestampRules:
    """A filter of logits: which times and texts may come next, after the tokens written behind the `begin` ones."""

    begin: int
    speech: SpeechTokens

    def __call__(self, logits: Float[Tensor, "B V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """The logits with −∞ for what may not come."""
        logits = logits.clone()
        for row, text in zip(logits, texts, strict=True):
            self.forbid(row, text[self.begin :])
        return logits

    def forbid(self, logits: Float[Tensor, " V"], written: Sequence[int]) -> None:
        """The same of one text, in place."""
        first, forbidden = self.speech.first_time, -torch.inf
        logits[self.speech.no_times] = forbidden
        last_is_time = len(written) >= 1 and written[-1] >= first
        before_is_time = len(written) < 2 or written[-2] >= first
        if last_is_time and before_is_time:  # a pair is complete: text
            logits[first:] = forbidden
        elif last_is_time:  # text has ended: the next beginning, or the end of all
            logits[: self.speech.end_of_text] = forbidden
        times = [token for token in written if token >= first]
        if times:  # a text lasts some time; the next may begin where one ends
            earliest = times[-1] if last_is_time and not before_is_time else times[-1] + 1
            logits[first:earliest] = forbidden
        if not written:
            logits[:first] = forbidden
            logits[first + round(LATEST_BEGINNING / SECONDS_PER_TIME) + 1 :] = forbidden
        if logits[first:].logsumexp(-1) > logits[:first].amax():  # some time is likelier than any one text
            logits[:first] = forbidden


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """Text within a window, from `start` to `end`; seconds from the window's beginning."""

    start: float
    end: float
    tokens: list[int]


def spans_of(tokens: Sequence[int], n_frames: int, speech: SpeechTokens) -> tuple[list[TimeSpan], int]:
    """What a window's tokens say from when to when, and how many of its frames need not be heard again.

    Text after the last pair of times may be cut off by the window's end: it is left to the next window, which begins
    there.
    """
    is_time = [token >= speech.first_time for token in tokens]
    over = nothing_follows(tokens, speech)
    cuts = [i + 1 for i, both in enumerate(pairwise(is_time)) if all(both)]
    if not cuts:
        times = [token for token in tokens if token > speech.first_time]
        end = _seconds(times[-1], speech) if times else n_frames / FRAMES_PER_SECOND
        return [TimeSpan(start=0.0, end=end, tokens=list(tokens))], n_frames
    if over:
        cuts.append(len(tokens))
    parts = [list(tokens[a:b]) for a, b in pairwise([0, *cuts])]
    spans = [TimeSpan(start=_seconds(part[0], speech), end=_seconds(part[-1], speech), tokens=part) for part in parts]
    return spans, n_frames if over else (parts[-1][-1] - speech.first_time) * FRAMES_PER_TIME


def nothing_follows(tokens: Sequence[int], speech: SpeechTokens) -> bool:
    """A single time at the very end of a window says that nothing more was said in it."""
    return [token >= speech.first_time for token in tokens[-2:]] == [False, True]


def _seconds(token: int, speech: SpeechTokens) -> float:
    return (token - speech.first_time) * SECONDS_PER_TIME
