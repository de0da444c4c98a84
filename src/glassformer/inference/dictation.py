"""One window of sound written down: greedily, and where that goes wrong, by lot at rising temperatures.

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

from glassformer.inference.logits import check_finite
from glassformer.inference.timestamps import allow_times
from glassformer.models.whisper import Whisper
from glassformer.nn.kv_cache import full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers.speech_tokens import SpeechTokens

EVIDENCE_TOKENS = 32  # in a row: of a text that begins or ends in a loop, the rest may have been said


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """When a text is tried again, and when a window counts as silent; the published values, and two of our own."""

    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int = 5  # texts drawn at once where the temperature is not 0; the likeliest stays
    max_compression: float = 2.4  # bytes of text per byte of its zip
    min_logprob: float = -1.0  # mean log-probability of a token, in nats
    max_no_speech: float = 0.6  # probability
    doubt: float = 0.1  # probability of <|nospeech|> from which on a text needs evidence; plain speech stays below
    min_evidence: float = 1.5  # nats a token: tiny.en has above 2.7 where words were said, below 1.1 on noise and music


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written of a window, and how sure it is."""

    tokens: list[int]
    mean_logprob: float
    no_speech: float
    compression: float
    temperature: float
    evidence: float = math.inf  # see `evidence`; infinite where nobody doubted the text

    def unsure(self, gates: Gates) -> bool:
        """The tokens are unlikely."""
        return self.mean_logprob < gates.min_logprob

    def unheard(self, gates: Gates) -> bool:
        """The text does not come from the sound."""
        return self.evidence < gates.min_evidence

    def confident(self, gates: Gates) -> bool:
        """The text may repeat itself, but is likely and comes from the sound."""
        return not self.unsure(gates) and not self.unheard(gates)

    def silent(self, gates: Gates) -> bool:
        """Nothing was said."""
        return self.unheard(gates) or (
            self.no_speech > gates.max_no_speech and not self.mean_logprob > gates.min_logprob
        )

    def acceptable(self, gates: Gates) -> bool:
        """No reason to try again."""
        if self.no_speech > gates.max_no_speech and self.silent(gates):
            return True
        return self.confident(gates) and self.compression <= gates.max_compression


def write_down(
    module: Whisper,
    sound: DecoderState,
    silence: Callable[[], DecoderState],
    speech: SpeechTokens,
    gates: Gates,
    *,
    previous: Sequence[int],
    opening: Sequence[int],
    times: bool,
    seed: int,
) -> Written:
    """The first acceptable text; if none is, the least repetitive of the confident ones, an unheard one, or the last.

    `previous` is shown to the decoder before the `opening` of the transcript. `silence` is asked for only in doubt.
    """
    prompt = [*previous, *opening] if times else [*previous, *opening, speech.no_times]
    random = torch.Generator().manual_seed(seed)
    tried: list[Written] = []
    for temperature in gates.temperatures:
        n = 1 if temperature == 0 else gates.best_of
        written = draw_texts(
            module,
            sound,
            prompt,
            speech,
            temperature=temperature,
            n=n,
            times=times,
            random=random,
            max_compression=gates.max_compression,
        )
        if written.no_speech > gates.doubt:
            text = [token for token in written.tokens if token < speech.end_of_text]
            start = [*opening, speech.no_times]
            written = replace(written, evidence=evidence(module, sound, silence(), text, start, speech))
        tried.append(written)
        if written.acceptable(gates):
            break
    confident = [written for written in tried if written.confident(gates)]
    unheard = [written for written in tried if written.unheard(gates)]
    return min(confident, key=lambda written: written.compression, default=(unheard or tried)[-1])


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


@torch.inference_mode()
def draw_texts(
    module: Whisper,
    heard: DecoderState,
    prompt: Sequence[int],
    speech: SpeechTokens,
    *,
    temperature: float,
    n: int,
    times: bool,
    random: torch.Generator,
    max_compression: float = math.inf,
) -> Written:
    """The `likeliest` of n texts drawn at a temperature; at temperature 0 the greedy text."""
    context_length = module.config.context_length
    n_new = min(context_length // 2, context_length + 1 - len(prompt))
    state = heard.again(n, full(min(len(prompt) + n_new, context_length)))
    blank = [*speech.encode(" "), speech.end_of_text]
    never = torch.tensor(speech.never_text)
    texts: list[list[int]] = [[] for _ in range(n)]
    logprobs = [0.0] * n
    ended = [False] * n
    tokens = torch.tensor([list(prompt)] * n, device=heard.memory.device)
    no_speech = 0.0
    for step in range(n_new):
        logits = module(tokens, state)
        if step == 0:
            at_start = logits[0, list(prompt).index(speech.start)]
            no_speech = float(at_start.softmax(-1)[speech.no_speech])
        following = logits[:, -1].float().cpu()
        following[:, never] = -torch.inf
        if step == 0:
            following[:, blank] = -torch.inf
        for row, text in zip(following, texts, strict=True):
            if times:
                allow_times(row, text, speech)
        chosen = choose(following, temperature, random)
        found = following.gather(1, chosen[:, None])[:, 0] - following.logsumexp(-1)
        for i, (token, logprob) in enumerate(zip(chosen.tolist(), found.tolist(), strict=True)):
            if not ended[i]:
                logprobs[i] += logprob
                ended[i] = token == speech.end_of_text
                if not ended[i]:
                    texts[i].append(token)
        if all(ended):
            break
        tokens = chosen[:, None].to(tokens.device)
    means = [logprob / max(len(text), 1) for logprob, text in zip(logprobs, texts, strict=True)]
    compressions = [compression_ratio(speech.decode(text).strip()) for text in texts]
    best = likeliest(means, compressions, max_compression)
    return Written(
        tokens=texts[best],
        mean_logprob=logprobs[best] / (len(texts[best]) + 1),
        no_speech=no_speech,
        compression=compressions[best],
        temperature=temperature,
    )


def likeliest(mean_logprobs: Sequence[float], compressions: Sequence[float], max_compression: float) -> int:
    """Which text is likeliest a token, of those that do not repeat themselves if there are any.

    A loop is likelier a token than what was said, so by likelihood alone one text in a loop would win over all others.
    """
    return max(range(len(mean_logprobs)), key=lambda i: (compressions[i] <= max_compression, mean_logprobs[i]))


def choose(logits: Float[Tensor, "B V"], temperature: float, random: torch.Generator) -> Tensor:
    """A token for each row."""
    check_finite(logits)
    if temperature == 0:
        return logits.argmax(-1)
    probs = (logits / temperature).softmax(-1)
    return torch.multinomial(probs, 1, generator=random)[:, 0]


def compression_ratio(text: str) -> float:
    """How many times smaller a text becomes by zip; speech has about 1.5, loops have far more."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


@torch.inference_mode()
def detect_language(module: Whisper, heard: DecoderState, speech: SpeechTokens) -> dict[str, float]:
    """How likely each language is, by the token after <|startoftranscript|>; the likeliest first."""
    start = torch.tensor([[speech.start]], device=heard.memory.device)
    logits = module(start, heard.again(1, full(1)))[0, -1]
    codes = speech.languages
    probs = logits[list(codes.values())].softmax(-1).tolist()
    return dict(sorted(zip(codes, probs, strict=True), key=lambda pair: -pair[1]))
