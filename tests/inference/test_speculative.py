"""Drafted tokens change how fast a text comes, and nothing else: the same text when greedy, the same distribution."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch
from torch import Tensor, nn

from glassformer import build
from glassformer.errors import GenerationError
from glassformer.inference.draft_model import DraftModel
from glassformer.inference.engine import Engine
from glassformer.inference.logits import Sampling, Suppress, distribution
from glassformer.inference.request import Request
from glassformer.inference.speculative import Draft, Drafter, Lookup, Speculation, Unfinished
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.rnn import RNN, RNNConfig
from glassformer.nn.kv_cache import KVCache, full, parse_policy, window
from support.counts import count

VOCAB, CONTEXT = 11, 48
SIZES = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 12, "n_heads": 2}
MODELS = {
    "gpt2": lambda: GPT2(GPT2Config(**SIZES, n_layers=2)),
    "llama": lambda: Llama(LlamaConfig(**SIZES, n_layers=2, n_kv_heads=1, d_ff=10)),
    "gemma3": lambda: build("gemma3", **SIZES, n_layers=2, n_kv_heads=1, d_ff=10, sliding_windows=(9, 0)).module,
}


def module_of(name: str, *, noise: float = 0.0) -> nn.Module:
    """In float64 and with enlarged weights, so that choices are no ties; with some noise a draft for it."""
    torch.manual_seed(0)
    module = MODELS[name]().double().eval().requires_grad_(False)
    for parameter in module.parameters():
        if parameter.dim() == 2:
            parameter.mul_(3)
        parameter.add_(noise * torch.randn_like(parameter))
    return module


class Guesses:
    """Drafts anything: long, wrong, empty."""

    def __init__(self, random: Random) -> None:
        self.random, self.speculation = random, Speculation()

    def propose(self, texts: list[Unfinished]) -> list[Draft]:
        sizes = [self.random.randint(0, min(6, text.at_most)) for text in texts]
        return [Draft([self.random.randrange(VOCAB) for _ in range(n)]) for n in sizes]


def drafter_of(kind: str, name: str, random: Random) -> Drafter:
    if kind == "lookup":
        return Lookup(random.randint(1, 9), shortest=random.choice([1, 2]))
    if kind == "guesses":
        return Guesses(random)
    return DraftModel(module_of(name, noise=0.05), random.randint(1, 5))


def greedy_request(random: Random) -> Request:
    piece = [random.randrange(VOCAB) for _ in range(random.randint(1, 7))]
    return Request(
        tokens=tuple(piece * random.randint(1, 3)),
        sampling=Sampling(temperature=0.0, repetition_penalty=random.choice([1.0, 1.0, 1.2])),
        max_new_tokens=random.choice([1, 2, 20, 60]),
        stop_tokens=frozenset(random.sample(range(VOCAB), random.choice([0, 0, 1]))),
        filters=(Suppress(frozenset({3})),) if random.random() < 0.3 else (),
        logprobs=True,
    )


def served(engine: Engine, requests: list[Request], random: Random) -> list[tuple[list[int], list[float], str | None]]:
    """The tokens of each request, their log-probabilities and why it ended; some come later than others."""
    texts: list[tuple[list[int], list[float], str | None]] = [([], [], None) for _ in requests]
    waiting = list(requests)
    while waiting or engine.running:
        while waiting and random.random() < 0.6:
            engine.admit(waiting.pop(0))
        for new in engine.step():
            assert new.error is None
            tokens, logprobs, _ = texts[new.sequence]
            texts[new.sequence] = [*tokens, new.token], [*logprobs, new.logprob], new.finish
    return texts


@pytest.mark.parametrize("cache", ["full", "window:11", "sinks:2+9"])
@pytest.mark.parametrize("kind", ["lookup", "guesses", "model"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_greedy_text_is_the_same_with_drafts_and_without(name: str, kind: str, cache: str) -> None:
    module, policy = module_of(name), parse_policy(cache, CONTEXT)
    for seed in range(count("speculative schedules")):
        random = Random(f"{name} {kind} {cache} {seed}")
        requests = [greedy_request(random) for _ in range(random.randint(1, 5))]
        drafter = drafter_of(kind, name, random)
        texts = served(Engine(module, policy, drafter=drafter), requests, random)
        for (tokens, logprobs, finish), request in zip(texts, requests, strict=True):
            ((alone, of_alone, ended),) = served(Engine(module, policy), [request], random)
            assert (tokens, finish) == (alone, ended)
            assert logprobs == pytest.approx(of_alone, abs=1e-6)


class Right:
    """Drafts a text that is known already."""

    def __init__(self, text: list[int]) -> None:
        self.text, self.speculation = text, Speculation()

    def propose(self, texts: list[Unfinished]) -> list[Draft]:
        return [Draft(self.text[len(text.tokens) :][: text.at_most]) for text in texts]


def test_logits_that_are_no_numbers_behind_a_drafted_token_end_the_sequence_as_they_do_without_drafts() -> None:
    module, prompt = module_of("llama"), (1, 2, 3)
    request = Request(tokens=prompt, sampling=Sampling(temperature=0.0), max_new_tokens=12)
    ((text, _, _),) = served(Engine(module, full(CONTEXT)), [request], Random(0))
    broken = next(token for token in text[2:] if token not in prompt)
    module.register_forward_hook(
        lambda _, inputs, logits: logits.masked_fill((inputs[0] == broken)[..., None], float("nan"))
    )
    ends = []
    for drafter in (None, Right([*prompt, *text])):
        engine = Engine(module, full(CONTEXT), drafter=drafter)
        engine.admit(request)
        news = []
        while engine.running:
            news += engine.step()
        ends.append([(new.token, new.finish, str(new.error)) for new in news])
        assert list(engine._recent) == [], "what is broken is not kept"
    assert ends[0] == ends[1]
    assert [token for token, _, _ in ends[0]] == [*text[: text.index(broken) + 1], -1]
    assert drafter is not None
    assert drafter.speculation.accepted > 0


class Weak:
    """Drafts from a distribution of its own, far from the model's."""

    def __init__(self, probs: Tensor) -> None:
        self.probs, self.speculation = probs, Speculation()
        self.generator = torch.Generator().manual_seed(5)

    def propose(self, texts: list[Unfinished]) -> list[Draft]:
        n = [min(2, text.at_most) for text in texts]
        drawn = torch.multinomial(self.probs, 2 * len(texts) + 2, replacement=True, generator=self.generator)
        rows = drawn.view(-1, 2).tolist()
        return [Draft(row[:k], self.probs.expand(k, -1)) for row, k in zip(rows, n, strict=False)]


@pytest.mark.parametrize("kind", ["weak", "lookup", "model"])
@pytest.mark.usefixtures("unchecked")
def test_what_is_sampled_has_the_distribution_of_the_model(kind: str) -> None:
    """χ² of three tokens in a row against their exact probabilities; 63 or 26 degrees of freedom, seeds are fixed."""
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=4, context_length=16, d_model=8, n_layers=1, n_heads=2, n_kv_heads=2, d_ff=8)
    module, other = (Llama(config).double().eval().requires_grad_(False) for _ in range(2))
    for each in (module, other):
        for parameter in each.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    prompt = (1, 2, 1, 2, 1)
    drafters: dict[str, Drafter] = {
        "weak": Weak(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)),
        "lookup": Lookup(2),
        "model": DraftModel(other, 2),
    }
    sampling = Sampling(temperature=2.0, top_k=3 if kind == "weak" else 0)
    n = count("sampled texts with drafts")
    engine = Engine(module, full(16), drafter=drafters[kind])
    seeds = Random(1)
    for _ in range(n):
        request = Request(tokens=prompt, sampling=replace(sampling, seed=seeds.getrandbits(62)), max_new_tokens=4)
        engine.admit(request)
    texts: list[list[int]] = [[] for _ in range(n)]
    for new in engine.run():
        texts[new.sequence].append(new.token)
    came = Counter(tuple(text[:3]) for text in texts)
    assert drafters[kind].speculation.accepted > n / 10
    assert drafters[kind].speculation.accepted < 0.95 * drafters[kind].speculation.drafted

    expected: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        longer = {}
        for text, p in expected.items():
            probs = distribution(module(torch.tensor([[*prompt, *text]]))[:, -1], None, sampling)[0]
            longer |= {(*text, token): p * float(q) for token, q in enumerate(probs)}
        expected = longer
    possible = {text: p for text, p in expected.items() if p > 0}
    assert came.keys() <= possible.keys()
    statistic = sum((came[text] - n * p) ** 2 / (n * p) for text, p in possible.items())
    freedom = len(possible) - 1
    assert statistic < freedom + 3.1 * (2 * freedom) ** 0.5, "this far out by chance once in 1,000 times"


def test_a_cache_that_has_forgotten_goes_on_as_if_it_had_never_read() -> None:
    module = module_of("llama")
    state = module.begin(None, full(CONTEXT))
    tokens = torch.randint(VOCAB, (2, 9))
    module(tokens, state)
    state.rewind(torch.tensor([3, 5]))
    assert state.spares == [CONTEXT - 6, CONTEXT - 4]
    valid = torch.tensor([[True, True], [True, False]])
    logits = module(torch.tensor([[1, 2], [3, 0]]), state, valid)
    for row, text in enumerate(([*tokens[0, :6].tolist(), 1, 2], [*tokens[1, :4].tolist(), 3])):
        torch.testing.assert_close(logits[row, len(text) - (6, 4)[row] - 1], module(torch.tensor([text]))[0, -1])


def test_what_has_left_a_cache_cannot_be_brought_back() -> None:
    module = module_of("llama")
    state = module.begin(None, window(6))
    assert isinstance(state, KVCache)
    module(torch.randint(VOCAB, (1, 7)), state)
    assert state.spares == [0]
    with pytest.raises(GenerationError, match="cannot forget the latest 1: others have left"):
        state.rewind(torch.tensor([1]))


def test_a_model_that_drafts_for_itself_is_always_right_and_reads_every_token_once() -> None:
    module = module_of("gpt2")
    draft = DraftModel(module_of("gpt2"), 3)
    engine = Engine(module, full(CONTEXT), drafter=draft)
    engine.admit(Request(tokens=(1, 2, 3), sampling=Sampling(temperature=0.0), max_new_tokens=13))
    steps = 0
    while engine.running:
        engine.step()
        steps += 1
    assert (draft.speculation.drafted, draft.speculation.accepted, draft.speculation.passes) == (9, 9, 3)
    assert steps == 4, "one for the prompt, and three of four tokens"


def test_a_repetition_is_looked_up_where_it_matches_longest() -> None:
    lookup = Lookup(2)
    assert lookup.continuation([1, 2, 3, 9, 9, 7, 2, 3, 5, 5, 1, 2, 3]) == [9, 9]
    assert lookup.continuation([2, 3, 9, 2, 3, 8, 1, 2, 3]) == [8, 1], "of two as long the latest"
    assert lookup.continuation([4, 3]) == lookup.continuation([4]) == lookup.continuation([5, 4, 6, 4]) == []


def test_who_cannot_draft_or_be_drafted_for_is_refused_with_a_sentence() -> None:
    recurrent = RNN(RNNConfig(vocab_size=VOCAB, context_length=CONTEXT, d_model=12))
    with pytest.raises(GenerationError, match="A RNN cannot forget what it has read"):
        DraftModel(recurrent)
    with pytest.raises(GenerationError, match="A RNN cannot forget what it has read"):
        Engine(recurrent, full(CONTEXT), drafter=Lookup())
    with pytest.raises(GenerationError, match="rows that are not static"):
        Engine(module_of("gpt2"), full(CONTEXT), drafter=Lookup(), n_rows=2)
    with pytest.raises(GenerationError, match="n_drafted must be from 1 to 64, not 0"):
        Lookup(0)
    model, other = build("llama", **SIZES, n_layers=1, n_kv_heads=1, d_ff=8), build("nano-sort")
    with pytest.raises(GenerationError, match="another vocabulary"):
        model.drafter(other)
    with pytest.raises(GenerationError, match="choose one"):
        model.drafter(model, lookup=True)
    with pytest.raises(GenerationError, match="n_drafted is for draft and lookup"):
        model.drafter(n_drafted=3)
