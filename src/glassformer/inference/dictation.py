"""One window of sound written down: greedily, and where that goes wrong, by lot at rising temperatures.

Radford et al. 2022, §4.5 (arXiv:2212.04356): a text that compresses too well repeats itself, and one that is too
unlikely is a guess; both are tried again. Where <|nospeech|> is likely and the text is not, nothing was said.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.inference.logits import check_finite
from glassformer.inference.timestamps import allow_times
from glassformer.models.whisper import Whisper
from glassformer.nn.kv_cache import full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers.speech_tokens import SpeechTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """When a text is tried again, and when a window counts as silent; the published values."""

    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int = 5  # texts drawn at once where the temperature is not 0; the likeliest stays
    max_compression: float = 2.4  # bytes of text per byte of its zip
    min_logprob: float = -1.0  # mean log-probability of a token, in nats
    max_no_speech: float = 0.6  # probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written of a window, and how sure it is."""

    tokens: list[int]
    mean_logprob: float
    no_speech: float
    compression: float
    temperature: float

    def unsure(self, gates: Gates) -> bool:
        """The tokens are unlikely."""
        return self.mean_logprob < gates.min_logprob

    def silent(self, gates: Gates) -> bool:
        """Nothing was said."""
        return self.no_speech > gates.max_no_speech and not self.mean_logprob > gates.min_logprob

    def acceptable(self, gates: Gates) -> bool:
        """No reason to try again."""
        return self.silent(gates) or not (self.unsure(gates) or self.compression > gates.max_compression)


def write_down(
    module: Whisper,
    heard: DecoderState,
    prompt: Sequence[int],
    speech: SpeechTokens,
    gates: Gates,
    *,
    times: bool,
    seed: int,
) -> Written:
    """The first acceptable text, or the last one tried. `prompt` ends with the opening of a transcript."""
    random = torch.Generator().manual_seed(seed)
    for temperature in gates.temperatures:
        n = 1 if temperature == 0 else gates.best_of
        written = draw_texts(module, heard, prompt, speech, temperature=temperature, n=n, times=times, random=random)
        if written.acceptable(gates):
            break
    return written


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
) -> Written:
    """The likeliest a token of n texts drawn at a temperature; at temperature 0 the greedy text."""
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
    best = max(range(n), key=lambda i: logprobs[i] / max(len(texts[i]), 1))
    return Written(
        tokens=texts[best],
        mean_logprob=logprobs[best] / (len(texts[best]) + 1),
        no_speech=no_speech,
        compression=compression_ratio(speech.decode(texts[best]).strip()),
        temperature=temperature,
    )


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
