"""When each word was said: some heads of the decoder look at the moment of the word that they write.

Their weights over the sound, one row a token, are a matrix with a path of high weights from one corner to the other;
dynamic time warping finds the path along which the weights are highest (as in OpenAI's `whisper/timing.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.inference.timestamps import TimeSpan
from glassformer.models.whisper import Whisper
from glassformer.nn.attention import split_heads
from glassformer.nn.kv_cache import full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers.speech_tokens import SECONDS_PER_TIME, SpeechTokens

MEDIAN_WIDTH = 7  # positions, 0.14 seconds
# Whisper's prepend_punctuations and append_punctuations: what belongs to the next word, and to the one before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"
SHORTEST = SECONDS_PER_TIME  # a word lasts at least as long as one position of the sound
LONGEST_MEDIAN = 0.7  # seconds: a median word that is longer is none


@dataclass(slots=True, kw_only=True)
class WordTiming:
    """A word and when it was said, in seconds; `tokens` are its tokens."""

    text: str
    tokens: list[int] = field(default_factory=list)
    start: float
    end: float
    probability: float


@torch.inference_mode()
def align(
    module: Whisper,
    sound: DecoderState,
    opening: Sequence[int],
    text: Sequence[int],
    n_frames: int,
    speech: SpeechTokens,
) -> list[WordTiming]:
    """The words of a window's text tokens; seconds from its beginning. `n_frames` of the window are sound."""
    n_positions = n_frames // 2
    if not text or n_positions == 0:
        return []
    tokens = [*opening, speech.no_times, *text, speech.end_of_text]
    weights, logits = weights_of_heads(module, sound, tokens, n_positions)
    alignment = median_filter(standardised(weights), MEDIAN_WIDTH).mean(0)
    rows, columns = warp(-alignment[len(opening) : -1].double().cpu().numpy())
    begins = np.concatenate([[True], np.diff(rows) > 0])
    seconds = columns[begins] * SECONDS_PER_TIME  # when each token begins, and when the last one ends
    probs = logits[len(opening) : -2, : speech.end_of_text].softmax(-1).cpu()
    of_text = probs[torch.arange(len(text)), torch.tensor(text)]

    words, first = [], 0
    for word in speech.words(text, language_of(opening, speech)):
        last = first + len(word)
        words.append(
            WordTiming(
                text=speech.decode(word),
                tokens=word,
                start=float(seconds[first]),
                end=float(seconds[last]),
                probability=float(of_text[first:last].mean()),
            )
        )
        first = last
    return words


def language_of(opening: Sequence[int], speech: SpeechTokens) -> str:
    """The language that an opening names; English models name none."""
    return next((code for code, token in speech.languages.items() if token in opening), "en")


def weights_of_heads(
    module: Whisper, sound: DecoderState, tokens: Sequence[int], n_positions: int
) -> tuple[Float[Tensor, "heads T S"], Float[Tensor, "T V"]]:
    """The weights of the alignment heads over the first positions of the sound, and the logits.

    Nothing in the model keeps its weights: a hook hands out what comes into cross-attention, and the weights are
    computed once more, for these heads alone.
    """
    config, decoder = module.config, module.decoder
    upper = range(config.n_decoder_layers // 2, config.n_decoder_layers)
    heads = config.alignment_heads or [(block, head) for block in upper for head in range(config.n_heads)]
    inputs: dict[int, Tensor] = {}
    attentions = {i: decoder.get_submodule(f"blocks.{i}.cross_attn") for i in sorted({block for block, _ in heads})}
    hooks = [
        attention.register_forward_pre_hook(lambda _, arguments, i=i: inputs.__setitem__(i, arguments[0]))
        for i, attention in attentions.items()
    ]
    try:
        state = sound.again(1, full(len(tokens)))
        logits = module(torch.tensor([list(tokens)], device=sound.memory.device), state)
    finally:
        for hook in hooks:
            hook.remove()
    projections = {i: attention.get_submodule("q_proj") for i, attention in attentions.items()}
    queries = {i: split_heads(q_proj(inputs[i]), config.n_heads)[0] for i, q_proj in projections.items()}
    q = torch.stack([queries[block][head] for block, head in heads])
    kept = {block: memory.kept for block, memory in enumerate(state.memories) if memory.kept is not None}
    k = torch.stack([kept[block][0][0, head] for block, head in heads])
    scores = q @ k[:, :n_positions].mT / math.sqrt(config.d_head)
    return scores.softmax(-1), logits[0]


def standardised(weights: Float[Tensor, "heads T S"]) -> Float[Tensor, "heads T S"]:
    """Less what every token gives to a moment, in units of how much tokens differ there."""
    mean = weights.mean(-2, keepdim=True)
    deviation = (weights - mean).square().mean(-2, keepdim=True).sqrt()
    return (weights - mean) / deviation.clamp(min=1e-12)


def median_filter(x: Float[Tensor, "*B S"], width: int) -> Float[Tensor, "*B S"]:
    """Each number becomes the median of the `width` around it; beyond the ends, numbers are mirrored."""
    half = width // 2
    if x.shape[-1] <= half:
        return x
    mirrored = torch.cat([x[..., 1 : half + 1].flip(-1), x, x[..., -half - 1 : -1].flip(-1)], dim=-1)
    ordered, _ = mirrored.unfold(-1, width, 1).sort(-1)
    median: Tensor = ordered[..., half]
    return median


def warp(cost: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The cheapest way through a matrix from its first to its last cell, by steps down, right, or both at once.

    total[i, j] = cost[i, j] + min(total[i − 1, j − 1], total[i − 1, j], total[i, j − 1]): dynamic time warping (Sakoe &
    Chiba 1978). Cells of an anti-diagonal need the two before it alone, so each is worked out at once.
    """
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    both, down, right = range(3)
    came = np.full((n + 1, m + 1), right, dtype=np.int8)
    came[:, 0] = down
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        before = np.stack([total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]])
        by_both = (before[both] < before[down]) & (before[both] < before[right])
        by_down = (before[down] < before[both]) & (before[down] < before[right])
        came[i, j] = np.where(by_both, both, np.where(by_down, down, right))
        total[i, j] = cost[i - 1, j - 1] + before.min(0)

    path = []
    i, j = n, m
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        step = right if i == 0 else came[i, j]
        i, j = i - (step != right), j - (step != down)
    rows, columns = np.array(path[::-1]).T
    return rows, columns


def merge_punctuation(words: list[WordTiming]) -> float:
    """Shorten words at the ends of sentences, give punctuation to its word, and return the median length in seconds.

    A word next to a full stop takes in the pause there: it may last twice the median. Changes the list's words; a mark
    that has gone to its word is left with no text.
    """
    lengths = [word.end - word.start for word in words if word.end > word.start]
    median = min(LONGEST_MEDIAN, float(np.median(lengths))) if lengths else 0.0
    for before, word in pairwise(words):
        if lengths and word.end - word.start > 2 * median:
            if word.text in SENTENCE_ENDS:
                word.end = word.start + 2 * median
            elif before.text in SENTENCE_ENDS:
                word.start = word.end - 2 * median
    _prepend(words)
    _append(words)
    return median


def _prepend(words: list[WordTiming]) -> None:
    following = len(words) - 1
    for i in range(len(words) - 2, -1, -1):
        mark, word = words[i], words[following]
        if mark.text.startswith(" ") and mark.text.strip() in PREPENDED:
            word.text, word.tokens = mark.text + word.text, mark.tokens + word.tokens
            mark.text, mark.tokens = "", []
        else:
            following = i


def _append(words: list[WordTiming]) -> None:
    previous = 0
    for i in range(1, len(words)):
        word, mark = words[previous], words[i]
        if not word.text.endswith(" ") and mark.text in APPENDED:
            word.text, word.tokens = word.text + mark.text, word.tokens + mark.tokens
            mark.text, mark.tokens = "", []
        else:
            previous = i


def shift(words: Sequence[WordTiming], offset: float) -> None:
    """From seconds of a window to seconds of the recording, in hundredths."""
    for word in words:
        word.start, word.end = round(offset + word.start, 2), round(offset + word.end, 2)


def words_of_spans(
    words: Sequence[WordTiming], spans: Sequence[TimeSpan], median: float, latest: float, speech: SpeechTokens
) -> Iterator[tuple[TimeSpan, list[WordTiming]]]:
    """Each span with its words, their times reconciled; all in seconds of the recording.

    A first word that follows a pause (`latest` is when the last word before ended) takes in the pause: it may last
    twice the median. Where word and span are half a second apart, the span's time holds, else the word's.
    """
    waiting = iter(words)
    for span in spans:
        n_tokens = sum(token < speech.end_of_text for token in span.tokens)
        of_span: list[WordTiming] = []
        while n_tokens > 0 and (word := next(waiting, None)) is not None:
            n_tokens -= len(word.tokens)
            if word.text:
                of_span.append(word)
        if of_span:
            _shorten_after_pause(of_span, median, latest)
            first, last, start, end = of_span[0], of_span[-1], span.start, span.end
            if first.start + 0.5 < start < first.end:
                first.start = max(0.0, min(first.end - median, start))
            else:
                start = first.start
            if last.start < end < last.end - 0.5:
                last.end = max(last.start + median, end)
            else:
                end = last.end
            latest = end
            span = TimeSpan(start=start, end=end, tokens=span.tokens)  # noqa: PLW2901
        yield span, of_span


def _shorten_after_pause(words: Sequence[WordTiming], median: float, latest: float) -> None:
    first, longest = words[0], 2 * median
    both_long = len(words) > 1 and words[1].end - first.start > 2 * longest
    if first.end - latest > 4 * median and (first.end - first.start > longest or both_long):
        if len(words) > 1 and words[1].end - words[1].start > longest:
            first.end = words[1].start = max(words[1].end / 2, words[1].end - longest)
        first.start = max(0.0, first.end - longest)


def fit(words: Sequence[WordTiming], start: float, end: float) -> None:
    """Let words follow one another between two times, each for some time; in thousandths of a second.

    The path by which words are aligned may pass several tokens at one moment, and leave a word no time: it takes what
    it needs from the word after it, or at the end of the one before.
    """
    shortest = min(SHORTEST, (end - start) / max(len(words), 1))
    earliest, latest = start, end - shortest * len(words)
    for word in words:
        latest += shortest
        word.start = min(max(word.start, earliest), latest - shortest)
        word.end = min(max(word.end, word.start + shortest), latest)
        earliest = word.end
    for word in words:
        word.start, word.end = round(word.start, 3), round(word.end, 3)
