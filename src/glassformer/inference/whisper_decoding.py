"""One window of sound decoded: greedily, and where that fails, by sampling at rising temperatures.

Radford et al. 2022, §4.5 (arXiv:2212.04356): a text that compresses too well repeats itself, and one that is too
unlikely is a guess; both are tried again. Where <|nospeech|> is likely and the text is not, nothing was said.

Three departures. Of the texts drawn at one temperature the likeliest is kept that does not repeat itself; OpenAI's
program keeps the likeliest of all, which is a loop if one of them is. Where every text fails, it keeps the last, drawn
at the highest temperature; here a confident one is kept if there is any, since real speech may repeat itself (a list of
numbers). And a text that silence makes as likely as the sound does comes from habit, as for applause, ringing and
music: then nothing was said either.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import punctuation, whitespace

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.inference.engine import Engine
from glassformer.inference.logits import LogitFilter, Sampling, Suppress, derived_seed, without
from glassformer.inference.request import Request
from glassformer.inference.timestamps import TimestampRules
from glassformer.models.whisper import Whisper
from glassformer.nn.kv_cache import full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers.speech_tokens import SpeechTokens

EVIDENCE_TOKENS = 32  # in a row: of a text that begins or ends in a loop, the rest may have been said


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackThresholds:
    """When a text is tried again, and when a window counts as silent; the published values, and two of our own."""

    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int = 5  # texts drawn at once where the temperature is not 0; the likeliest stays
    max_compression: float = 2.4  # bytes of text per byte of its zip
    min_logprob: float = -1.0  # mean log-probability of a token, in nats
    max_no_speech: float = 0.6  # probability
    doubt: float = 0.1  # probability of <|nospeech|> from which on a text needs evidence; plain speech stays below
    min_evidence: float = 1.5  # nats a token: tiny.en has above 2.7 where words were said, below 1.1 on noise and music


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingResult:
    """What was decoded of a window, and how sure that is."""

    tokens: list[int]
    mean_logprob: float
    no_speech: float
    compression: float
    temperature: float
    evidence: float = math.inf  # see `evidence`; infinite where nobody doubted the text

    def unsure(self, thresholds: FallbackThresholds) -> bool:
        """The tokens are unlikely."""
        return self.mean_logprob < thresholds.min_logprob

    def unheard(self, thresholds: FallbackThresholds) -> bool:
        """The text does not come from the sound."""
        return self.evidence < thresholds.min_evidence

    def confident(self, thresholds: FallbackThresholds) -> bool:
        """The text may repeat itself, but is likely and comes from the sound."""
        return not self.unsure(thresholds) and not self.unheard(thresholds)

    def silent(self, thresholds: FallbackThresholds) -> bool:
        """Nothing was said."""
        return self.unheard(thresholds) or (
            self.no_speech > thresholds.max_no_speech and not self.mean_logprob > thresholds.min_logprob
        )

    def acceptable(self, thresholds: FallbackThresholds) -> bool:
        """No reason to try again."""
        if self.no_speech > thresholds.max_no_speech and self.silent(thresholds):
            return True
        return self.confident(thresholds) and self.compression <= thresholds.max_compression


def decode_with_fallback(
    module: Whisper,
    sound: DecoderState,
    silence: Callable[[], DecoderState],
    speech: SpeechTokens,
    thresholds: FallbackThresholds,
    *,
    previous: Sequence[int],
    opening: Sequence[int],
    times: bool,
    seed: int,
) -> DecodingResult:
    """The first acceptable text; if none is, the least repetitive of the confident ones, an unheard one, or the last.

    `previous` is shown to the decoder before the `opening` of the transcript. `silence` is asked for only in doubt.
    """
    prompt = [*previous, *opening] if times else [*previous, *opening, speech.no_times]
    window = SpeechWindow(module, sound, speech, prompt, times=times)
    tried: list[DecodingResult] = []
    for temperature in thresholds.temperatures:
        n = 1 if temperature == 0 else thresholds.best_of
        new_seed = derived_seed(seed, len(tried) * thresholds.best_of)
        result = window.sample(temperature, n, seed=new_seed, max_compression=thresholds.max_compression)
        if result.no_speech > thresholds.doubt:
            text = [token for token in result.tokens if token < speech.end_of_text]
            start = [*opening, speech.no_times]
            result = replace(result, evidence=evidence(module, sound, silence(), text, start, speech))
        tried.append(result)
        if result.acceptable(thresholds):
            break
    confident = [result for result in tried if result.confident(thresholds)]
    unheard = [result for result in tried if result.unheard(thresholds)]
    return min(confident, key=lambda result: result.compression, default=(unheard or tried)[-1])


class SpeechWindow:
    """A window of sound and the prompt of its transcript, from which texts are sampled.

    The sound is encoded and the prompt read once, whatever is sampled. `no_speech` is the probability of <|nospeech|>.
    """

    def __init__(
        self, module: Whisper, sound: DecoderState, speech: SpeechTokens, prompt: Sequence[int], *, times: bool
    ) -> None:
        self.speech = speech
        self.prompt = tuple(prompt)
        context_length = module.config.context_length
        self.max_new_tokens = min(context_length // 2, context_length + 1 - len(self.prompt))
        begin = len(self.prompt)
        blank = (*speech.encode(" "), speech.end_of_text)
        self.filters: tuple[LogitFilter, ...] = (SuppressBlank(begin, blank), Suppress(frozenset(speech.never_text)))
        if times:
            self.filters = (*self.filters, TimestampRules(begin, speech))
        policy = full(min(begin + self.max_new_tokens, context_length))
        self.engine = Engine(module, policy, begin=lambda n: sound.again(n, policy))
        at_start = self.engine.remember(self.prompt)[0, self.prompt.index(speech.start)]
        self.no_speech = float(at_start.softmax(-1)[speech.no_speech])

    def sample(self, temperature: float, n: int, *, seed: int = 0, max_compression: float = math.inf) -> DecodingResult:
        """The `likeliest` of n texts drawn at a temperature; at temperature 0 the greedy text."""
        rows: dict[int, int] = {}  # of the engine's sequences
        for i in range(n):
            sampling = Sampling(temperature=temperature, top_p=1.0, seed=derived_seed(seed, i))
            request = Request(
                tokens=self.prompt,
                sampling=sampling,
                max_new_tokens=self.max_new_tokens,
                stop_tokens=frozenset({self.speech.end_of_text}),
                filters=self.filters,
                logprobs=True,
            )
            rows[self.engine.admit(request)] = i
        texts: list[list[int]] = [[] for _ in range(n)]
        logprobs = [0.0] * n
        for new in self.engine.run():
            row = rows[new.sequence]
            logprobs[row] += new.logprob
            if new.finish != "stop":
                texts[row].append(new.token)
        means = [logprob / max(len(text), 1) for logprob, text in zip(logprobs, texts, strict=True)]
        compressions = [compression_ratio(self.speech.decode(text).strip()) for text in texts]
        best = likeliest(means, compressions, max_compression)
        return DecodingResult(
            tokens=texts[best],
            mean_logprob=logprobs[best] / (len(texts[best]) + 1),
            no_speech=self.no_speech,
            compression=compressions[best],
            temperature=temperature,
        )


@dataclass(frozen=True, slots=True)
class SuppressBlank:
    """A filter: the first token after `begin` ones is neither a space alone nor the end."""

    begin: int
    blank: tuple[int, ...]

    def __call__(self, logits: Float[Tensor, "B V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """The logits with −∞ for those tokens, where a text is about to begin."""
        if all(len(text) > self.begin for text in texts):
            return logits
        starts = torch.tensor([len(text) == self.begin for text in texts])
        return torch.where(starts[:, None], without(logits, self.blank), logits)


@torch.inference_mode()
def evidence(
    module: Whisper,
    sound: DecoderState,
    silence: DecoderState,
    text: Sequence[int],
    opening: Sequence[int],
    speech: SpeechTokens,
) -> float:
    """By how much the sound makes a text likelier than silence does, in nats a token, where it does so most.

    The mean of log p(token | sound, tokens before) − log p(token | silence, tokens before): what the text tells of the
    sound, as pointwise mutual information. Words that were said have some 5 nats; words that come from a Whisper's
    habits when it hears none have about 0, and so has every loop (`benchmarks/hearing.py`). Punctuation is not heard
    and does not count; a text without words needs no evidence.
    """
    words = [i for i, token in enumerate(text) if not set(speech.decode([token])) <= {*punctuation, *whitespace}]
    if not words:
        return math.inf
    tokens = [*opening, *text]

    def logprobs(state: DecoderState) -> Float[Tensor, " T"]:
        inputs = torch.tensor([tokens[:-1]], device=state.memory.device)
        logits: Tensor = module(inputs, state.again(1, full(len(tokens))))[0, len(opening) - 1 :].float().cpu()
        return logits.log_softmax(-1).gather(-1, torch.tensor(text)[:, None])[:, 0]

    nats = (logprobs(sound) - logprobs(silence))[words]
    return float(nats.unfold(0, min(EVIDENCE_TOKENS, len(words)), 1).mean(-1).amax())


def likeliest(mean_logprobs: Sequence[float], compressions: Sequence[float], max_compression: float) -> int:
    """Which text is likeliest a token, of those that do not repeat themselves if there are any.

    A loop is likelier a token than what was said, so by likelihood alone one text in a loop would win over all others.
    """
    return max(range(len(mean_logprobs)), key=lambda i: (compressions[i] <= max_compression, mean_logprobs[i]))


def compression_ratio(text: str) -> float:
    """How many times smaller a text becomes by zip; speech has about 1.5, loops have far more."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


@torch.inference_mode()
def detect_language(module: Whisper, sound: DecoderState, speech: SpeechTokens) -> dict[str, float]:
    """How likely each language is, by the token after <|startoftranscript|>; the likeliest first."""
    start = torch.tensor([[speech.start]], device=sound.memory.device)
    logits = module(start, sound.again(1, full(1)))[0, -1]
    codes = speech.languages
    probs = logits[list(codes.values())].softmax(-1).tolist()
    return dict(sorted(zip(codes, probs, strict=True), key=lambda pair: -pair[1]))
