"""Rows that come, go and branch beside others get what they get alone: every model, every policy of its cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer import build
from glassformer.errors import GenerationError
from glassformer.inference import engine as engine_module
from glassformer.inference.constraints import Constraints
from glassformer.inference.engine import Engine
from glassformer.inference.generate import generate
from glassformer.inference.logits import LogitFilter, Sampling, Suppress
from glassformer.inference.quantize import quantize
from glassformer.inference.request import NewToken, Request
from glassformer.models import spec_of
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.rnn import RNN, RNNConfig
from glassformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.models.whisper import Whisper, WhisperConfig
from glassformer.nn import kv_cache
from glassformer.nn.embedding import Embedding
from glassformer.nn.kv_cache import Policy, full, parse_policy, sinks
from glassformer.nn.rope import RopeScaling
from glassformer.twins import use
from support.counts import count
from support.tolerances import assert_close

VOCAB, CONTEXT = 11, 48


def text_source(random: Random) -> Tensor:
    return torch.tensor([random.randrange(2, VOCAB) for _ in range(random.randint(1, 9))])


def sound_source(random: Random) -> Tensor:
    return torch.randn(8, 12, generator=torch.Generator().manual_seed(random.randrange(99)), dtype=torch.float64)


@dataclass(frozen=True)
class Kind:
    """A model to decode with, and how its sources are drawn."""

    build: Callable[[], nn.Module]
    source: Callable[[Random], Tensor] | None = None
    caches: tuple[str, ...] = ("full",)

    def module(self) -> nn.Module:
        """In float64 and with enlarged weights, so that choices are no ties."""
        torch.manual_seed(0)
        module = self.build().double().eval().requires_grad_(False)
        for parameter in module.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
        return module


CACHES = ("full", "window:7", "sinks:2+6")
SIZES = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 12}
LAYERS = {"n_layers": 2, "n_heads": 2}
HALVES = {"n_encoder_layers": 1, "n_decoder_layers": 2, "n_heads": 2, "d_ff": 10}
KINDS = {
    "gpt2": Kind(lambda: GPT2(GPT2Config(**SIZES, **LAYERS)), caches=CACHES),
    "llama": Kind(lambda: Llama(LlamaConfig(**SIZES, **LAYERS, n_kv_heads=1, d_ff=10)), caches=CACHES),
    "transformer": Kind(lambda: Transformer(TransformerConfig(**SIZES, **HALVES)), text_source, CACHES),
    "whisper": Kind(
        lambda: Whisper(WhisperConfig(**SIZES, **HALVES, n_mels=8, audio_context_length=6)), sound_source, CACHES
    ),
    "rnn": Kind(lambda: RNN(RNNConfig(**SIZES, kind="gru"))),
    "lstm": Kind(lambda: RNN(RNNConfig(**SIZES, kind="lstm"))),
    "seq2seq": Kind(lambda: Seq2Seq(Seq2SeqConfig(**SIZES, source_vocab_size=VOCAB)), text_source),
    "luong": Kind(
        lambda: Seq2Seq(Seq2SeqConfig(**SIZES, source_vocab_size=VOCAB, attention="general", input_feeding=True)),
        text_source,
    ),
}
ALL = [(kind, cache) for kind, of_kind in KINDS.items() for cache in of_kind.caches]


@dataclass
class Schedule:
    """When requests come and when they are cancelled: moments counted in steps."""

    requests: list[Request]
    admitted: list[int]
    cancelled: dict[int, int] = field(default_factory=dict)  # number of the request: moment

    def run(self, engine: Engine) -> list[list[int]]:
        """The tokens of each request."""
        texts: list[list[int]] = [[] for _ in self.requests]
        for moment in range(200):
            for number, when in enumerate(self.admitted):
                if when == moment:
                    assert engine.admit(self.requests[number]) == number
            for number, when in self.cancelled.items():
                if when == moment:
                    engine.cancel(number)
            for new in engine.step():
                texts[new.sequence].append(new.token)
            if not engine.running and moment >= max(self.admitted):
                return texts
        raise AssertionError("it does not end")


def request(random: Random, kind: Kind) -> Request:
    """Of 1 to 40 tokens, greedy or drawn, with or without a penalty, a filter, an end."""
    n = random.choice([1, random.randint(1, 8), random.randint(1, 40)])
    sampling = Sampling(temperature=0.0)
    if random.random() < 0.6:
        sampling = Sampling(
            temperature=random.choice([0.7, 1.0, 1.4]),
            top_k=random.choice([0, 0, 5]),
            top_p=random.choice([1.0, 0.9]),
            repetition_penalty=random.choice([1.0, 1.0, 1.3]),
            seed=random.randrange(1000),
        )
    return Request(
        tokens=tuple(random.randrange(VOCAB) for _ in range(n)),
        sampling=sampling,
        max_new_tokens=random.randint(1, 14),
        stop_tokens=frozenset(random.sample(range(VOCAB), random.choice([0, 0, 1]))),
        filters=(Suppress(frozenset({3, 4})),) if random.random() < 0.3 else (),
        source=kind.source(random) if kind.source else None,
    )


def schedule(random: Random, kind: Kind) -> Schedule:
    requests = [request(random, kind) for _ in range(random.randint(1, 6))]
    # numbers are given in the order of admission
    admitted = sorted(random.choice([0, random.randint(0, 12)]) for _ in requests)
    cancelled = {n: random.randint(admitted[n], 16) for n in range(len(requests)) if random.random() < 0.25}
    return Schedule(requests, admitted, cancelled)


def alone(module: nn.Module, policy: Policy, request: Request) -> list[int]:
    """What a request becomes without neighbours, with the logits of a pass that is not batched."""
    engine = Engine(module, policy)
    engine.admit(request)
    return [new.token for new in engine.run()]


@pytest.mark.parametrize(("name", "cache"), ALL)
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_rows_admitted_and_cancelled_at_random_moments_get_what_they_get_alone(name: str, cache: str) -> None:
    kind = KINDS[name]
    module, policy = kind.module(), parse_policy(cache, CONTEXT)
    for seed in range(count("schedules of the decode engine")):
        random = Random(f"{name} {cache} {seed}")
        plan = schedule(random, kind)
        texts = plan.run(Engine(module, policy))
        for number, (text, wanted) in enumerate(zip(texts, plan.requests, strict=True)):
            expected = alone(module, policy, wanted)
            if number in plan.cancelled:
                expected = expected[: len(text)]
                at_most = max(0, plan.cancelled[number] - plan.admitted[number])
                assert len(text) <= at_most
            assert text == expected, (seed, number)


@pytest.mark.parametrize(("name", "cache"), [pair for pair in ALL if pair[0] in ("gpt2", "llama")])
@pytest.mark.usefixtures("unchecked")
def test_static_rows_give_the_same_in_buffers_and_shapes_that_never_change(name: str, cache: str) -> None:
    kind = KINDS[name]
    module, policy = kind.module(), parse_policy(cache, CONTEXT)
    for seed in range(max(1, count("schedules of the decode engine") // 2)):
        plan = schedule(Random(f"static {seed}"), kind)
        plan.cancelled = {n: plan.cancelled[n] for n in plan.cancelled if n % 2}  # some wait for a row in vain
        engine = Engine(module, policy, n_rows=2)
        seen: set[object] = set()
        decode = engine.decode

        def watched(
            tokens: Tensor,
            state,
            valid: Tensor | None,
            decode=decode,
            seen: set[object] = seen,
        ) -> Tensor:
            logits = decode(tokens, state, valid)
            buffers = [buffer for layer in state.layers for buffer in layer.buffers]
            where = [state.lengths.data_ptr(), *(buffer.data_ptr() for buffer in buffers)]
            seen.add((tokens.shape, logits.shape, *where, *(buffer.shape for buffer in buffers)))
            return logits

        engine.decode = watched  # type: ignore[method-assign]
        texts = plan.run(engine)
        for number, (text, wanted) in enumerate(zip(texts, plan.requests, strict=True)):
            expected = alone(module, policy, wanted)
            assert text == (expected[: len(text)] if number in plan.cancelled else expected)
        assert len(seen) <= 1


def test_a_short_prompt_is_not_shortened_by_a_long_neighbour() -> None:
    """Padding takes no room: each prompt may fill the context."""
    module = KINDS["gpt2"].module()
    together: list[list[int]] = [[], []]
    for new in generate(module, [[0], list(range(6))], max_new_tokens=100, sampling=Sampling(temperature=0.0)):
        together[new.sequence].append(new.token)
        finish = new.finish
    assert [len(text) for text in together] == [CONTEXT, CONTEXT - 5]
    assert finish == "context"


def test_finished_rows_cost_nothing() -> None:
    module = KINDS["llama"].module()
    engine = Engine(module, full(CONTEXT))
    rows: list[int] = []
    decode = engine.decode

    def counted(tokens: Tensor, state, valid: Tensor | None) -> Tensor:
        rows.append(len(tokens))
        return decode(tokens, state, valid)

    engine.decode = counted  # type: ignore[method-assign]
    for limit in (2, 5, 3):
        engine.admit(Request(tokens=(1, 2), max_new_tokens=limit))
    list(engine.run())
    assert rows == [3, 2, 1, 1], "the last token of a text is not read"


@pytest.mark.parametrize("cache", [full(CONTEXT), sinks(2, 6)], ids=str)
def test_a_remembered_beginning_is_read_once(cache: Policy) -> None:
    module = KINDS["llama"].module()
    beginning, rest = [5, 1, 8, 2, 9], [[], [4], [7, 7, 1]]
    wanted = [Request(tokens=(*beginning, *more), sampling=Sampling(seed=i)) for i, more in enumerate(rest)]
    wanted = [replace(each, max_new_tokens=9) for each in [*wanted, Request(tokens=(1, 2))]]
    expected = [alone(module, cache, each) for each in wanted]
    engine = Engine(module, cache)
    logits = engine.remember(beginning)
    torch.testing.assert_close(logits, module(torch.tensor([beginning])))
    read: list[int] = []
    module.register_forward_hook(lambda _, inputs, output: read.append(inputs[0].numel()))
    for each in wanted:
        engine.admit(each)
    texts: list[list[int]] = [[] for _ in wanted]
    for new in engine.step():
        texts[new.sequence].append(new.token)
    assert sorted(read) == [2, 2 * 3], "one prompt of two tokens, and two rests, the longer of three"
    for new in engine.run():
        texts[new.sequence].append(new.token)
    assert texts == expected


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
@torch.no_grad()
def test_a_prompt_that_is_read_in_pieces_turns_as_one_that_is_read_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frequencies go by its whole length, beside others of other lengths and behind a beginning too."""
    monkeypatch.setattr(kv_cache, "BESIDE", 5)
    torch.manual_seed(0)
    scaling = {"kind": kind, "factor": 4.0, "original_context_length": 12}
    if kind == "longrope":
        scaling |= {"short_factors": [1.0] * 4, "long_factors": [3.0, 5.0, 7.0, 9.0]}
    sizes = {"vocab_size": 30, "d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "d_ff": 24}
    model = build("phi3", **sizes, context_length=64, sliding_windows=[6, 0], rope_scaling=scaling)
    for parameter in model.module.parameters():
        nn.init.normal_(parameter, std=0.5)
    module = model.module.double()
    prompts = [torch.randint(30, (1, n)) for n in (9, 17, 30, 40)]
    engine = Engine(module, full(64))
    engine.remember(prompts[3][0, :20].tolist())
    remembered = engine.remember(prompts[3][0].tolist())[:, -1]
    assert_close(remembered, module(prompts[3])[:, -1])
    for prompt in prompts:
        engine.admit(greedy(*prompt[0].tolist(), n=1, logprobs=True))
    for new, prompt in zip(engine.step(), prompts, strict=True):
        logprobs = module(prompt)[0, -1].log_softmax(-1)
        assert new.token == int(logprobs.argmax())
        assert new.logprob == pytest.approx(float(logprobs.max()), abs=1e-6)


def test_log_probabilities_are_those_of_the_filtered_logits() -> None:
    module = KINDS["gpt2"].module()
    engine = Engine(module, full(CONTEXT))
    banned = frozenset({1, 2})
    filters = (Suppress(banned),)
    engine.admit(Request(tokens=(3, 4), filters=filters, logprobs=True, max_new_tokens=5, sampling=Sampling(seed=4)))
    text = [3, 4]
    for new in engine.run():
        logits = module(torch.tensor([text]))[0, -1].float()
        logits[list(banned)] = -torch.inf
        assert new.token not in banned
        assert new.logprob == pytest.approx(float(logits.log_softmax(-1)[new.token]), abs=1e-5)
        text.append(new.token)


def test_a_filter_of_ones_own_sees_each_text_so_far() -> None:
    """Written as a user would: nothing but a function."""
    seen: list[Sequence[int]] = []

    def never_twice(logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        seen.extend(map(tuple, texts))
        return torch.stack(
            [row.index_fill(0, torch.tensor(list(text)), -torch.inf) for row, text in zip(logits, texts, strict=True)]
        )

    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    engine.admit(Request(tokens=(3, 4), filters=(never_twice,), max_new_tokens=VOCAB - 2))
    engine.admit(Request(tokens=(7,), filters=(never_twice,), max_new_tokens=VOCAB - 1))
    texts: list[list[int]] = [[3, 4], [7]]
    for new in engine.run():
        texts[new.sequence].append(new.token)
    assert [sorted(text) for text in texts] == [list(range(VOCAB))] * 2
    assert (3, 4) in seen


def test_what_is_cancelled_or_over_may_be_cancelled_again() -> None:
    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    first, second = (engine.admit(Request(tokens=(1,), max_new_tokens=2)) for _ in range(2))
    engine.cancel(first)
    assert {new.sequence for new in engine.run()} == {second}
    engine.cancel(first)
    engine.cancel(second)
    engine.cancel(99)
    assert not engine.running


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Request(tokens=()), "prompt is empty"),
        (Request(tokens=(VOCAB,)), f"Token {VOCAB} is not in the model's vocabulary"),
        (Request(tokens=(1,) * (CONTEXT + 1)), "49 tokens, but this model's context is 48"),
        (Request(tokens=(1,), max_new_tokens=0), "max_new_tokens must be at least 1"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_and_the_others_go_on(wanted: Request, says: str) -> None:
    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    engine.admit(Request(tokens=(1,), max_new_tokens=3))
    engine.step()
    with pytest.raises(GenerationError, match=says):
        engine.admit(wanted)
    assert len(list(engine.run())) == 2


def test_static_rows_are_for_caches_alone() -> None:
    engine = Engine(KINDS["rnn"].module(), full(CONTEXT), n_rows=2)
    engine.admit(Request(tokens=(1,)))
    with pytest.raises(GenerationError, match="has no static rows"):
        list(engine.run())


# ---- what goes wrong with one request is its own affair


def refuses(at: int) -> LogitFilter:
    def change(logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        if any(len(text) >= at for text in texts):
            raise KeyError("a fault of the filter")
        return logits

    return change


def forbids_all(logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
    return torch.full_like(logits, -torch.inf)


@dataclass(frozen=True)
class Allowed:
    """A filter that holds a tensor, which has no `==` of its own."""

    table: Tensor

    def __call__(self, logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        return logits.masked_fill(~self.table, -torch.inf)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("filters", "says"),
    [((refuses(5),), "a fault of the filter"), ((forbids_all,), "leave no token that could come next")],
    ids=["raises", "forbids"],
)
def test_a_filter_that_fails_ends_its_own_sequence_and_no_neighbour_notices(first: bool, filters, says: str) -> None:
    module = KINDS["gpt2"].module()
    wanted = Request(tokens=(1, 2, 3), sampling=Sampling(seed=3), max_new_tokens=12)
    bad = Request(tokens=(4, 5), filters=filters, max_new_tokens=12)
    engine = Engine(module, full(CONTEXT))
    ids = [engine.admit(each) for each in ((bad, wanted) if first else (wanted, bad))]
    sequence = ids[1] if first else ids[0]
    news = [new for _ in range(20) for new in engine.step()]
    assert [new.token for new in news if new.sequence == sequence] == alone(module, full(CONTEXT), wanted)
    (error,) = [new for new in news if new.error is not None]
    assert (error.finish, says in str(error.error)) == ("error", True)
    assert not engine.running


def test_a_text_that_has_no_token_left_ends_alone() -> None:
    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    once = Constraints(no_repeat_ngram_size=1)
    full_text = engine.admit(Request(tokens=tuple(range(VOCAB)), constraints=once, max_new_tokens=3))
    short = engine.admit(Request(tokens=(0,), constraints=once, max_new_tokens=3))
    news = [new for _ in range(4) for new in engine.step()]
    assert [new.finish for new in news if new.sequence == full_text] == ["error"]
    assert [new.finish for new in news if new.sequence == short] == [None, None, "length"]


def test_a_row_whose_logits_are_no_numbers_ends_alone() -> None:
    module = KINDS["gpt2"].module()
    with torch.no_grad():
        module.token_embedding.weight[7] = torch.nan
        module.lm_head.weight = nn.Parameter(torch.randn(VOCAB, 12, dtype=torch.float64), requires_grad=False)
    engine = Engine(module, full(CONTEXT))
    broken = engine.admit(Request(tokens=(7,), max_new_tokens=3))
    sound = engine.admit(Request(tokens=(1,), filters=(Suppress(frozenset({7})),), max_new_tokens=3))
    news = [new for _ in range(4) for new in engine.step()]
    assert [new.finish for new in news if new.sequence == broken] == ["error"]
    assert len([new for new in news if new.sequence == sound]) == 3


def test_sources_of_different_sizes_are_read_apart() -> None:
    module = KINDS["whisper"].module()
    sounds = [torch.randn(8, n, dtype=torch.float64) for n in (12, 10, 12)]
    wanted = [Request(tokens=(1, 2), source=sound, max_new_tokens=4) for sound in sounds]
    engine = Engine(module, full(CONTEXT))
    ids = [engine.admit(each) for each in wanted]
    texts: dict[int, list[int]] = {id: [] for id in ids}
    for new in engine.run():
        texts[new.sequence].append(new.token)
    assert list(texts.values()) == [alone(module, full(CONTEXT), each) for each in wanted]


def test_a_source_that_cannot_be_read_ends_its_request_and_the_others_go_on() -> None:
    module = KINDS["whisper"].module()
    engine = Engine(module, full(CONTEXT))
    sizes = {engine.admit(Request(tokens=(1,), source=torch.randn(8, n), max_new_tokens=2)): n for n in (12, 99)}
    with torch.no_grad():
        module.float()
    news = [new for _ in range(3) for new in engine.step()]
    ended = {sizes[new.sequence]: new.finish for new in news if new.finish}
    assert ended == {12: "length", 99: "error"}


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("transformer", None, "a request needs a source"),
        ("whisper", None, "a request needs a source"),
        ("luong", None, "a request needs a source"),
        ("gpt2", torch.tensor([1, 2]), "a request has no source"),
        ("transformer", torch.tensor([1, VOCAB]), f"Token {VOCAB} is not in the model's source vocabulary"),
        ("transformer", torch.tensor(3), "not one number"),
    ],
)
def test_a_source_that_is_missing_or_too_many_is_refused_at_the_door(name: str, source, says: str) -> None:
    engine = Engine(KINDS[name].module(), full(CONTEXT))
    with pytest.raises(GenerationError, match=says):
        engine.admit(Request(tokens=(1,), source=source))
    assert not engine.running


def test_filters_that_hold_tensors_are_told_apart() -> None:
    module = KINDS["gpt2"].module()
    tables = [torch.arange(VOCAB) % 2 == i for i in range(2)]
    engine = Engine(module, full(CONTEXT))
    wanted = [Request(tokens=(1,), filters=(Allowed(table),), max_new_tokens=6) for table in tables]
    parity = {engine.admit(each): i for i, each in enumerate(wanted)}
    for new in engine.run():
        assert new.token % 2 == parity[new.sequence]


def test_requests_with_the_same_filter_are_served_in_one_whatever_stands_between_them() -> None:
    rows: list[int] = []

    def counted(logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        rows.append(len(logits))
        return logits

    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    for i in range(8):
        engine.admit(Request(tokens=(1,), filters=(counted,) if i % 2 else (), max_new_tokens=1))
    engine.step()
    assert rows == [4]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong", [{"tokens": (1.5,)}, {"tokens": ("a",)}, {"tokens": (True,)}, {"max_new_tokens": 2.5}]
)
def test_what_is_no_whole_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(GenerationError, match="whole numbers, not"):
        Request(**{"tokens": (1,), **wrong})


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"n_rows": 0}, "n_rows must be at least 1"), ({"policy": full(100)}, "keeps 100 tokens, but this model has 48")],
)
def test_an_engine_that_could_never_run_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        Engine(KINDS["gpt2"].module(), **{"policy": full(CONTEXT), **settings})


def test_a_beginning_may_be_forgotten_and_must_be_one() -> None:
    module = KINDS["gpt2"].module()
    engine = Engine(module, full(CONTEXT))
    for wrong, says in {(): "prompt is empty", (99,): "Token 99", (1,) * 99: "99 tokens"}.items():
        with pytest.raises(GenerationError, match=says):
            engine.remember(wrong)
    engine.remember([1, 2])
    engine.forget([1, 2])
    engine.forget([1, 2])
    engine.admit(Request(tokens=(1, 2, 3), max_new_tokens=2))
    assert len(list(engine.run())) == 2
    with pytest.raises(GenerationError, match="no beginning in common"):
        Engine(KINDS["transformer"].module(), full(CONTEXT)).remember([1])


def test_an_idle_engine_holds_no_cache_but_those_that_it_keeps() -> None:
    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT), recent_bytes=0)
    engine.admit(Request(tokens=(1, 2), max_new_tokens=3))
    list(engine.run())
    assert (engine._state, engine._logits.numel(), list(engine._recent)) == (None, 0, [])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of a module reads, seen from below it, so that nobody watches the module."""
    numbers: list[int] = []
    forward = Embedding.forward

    def counted(self: Embedding, ids: Tensor) -> Tensor:
        if self.weight.shape[0] == VOCAB:
            numbers.append(ids.numel())
        return forward(self, ids)

    monkeypatch.setattr(Embedding, "forward", counted)
    return numbers


@pytest.mark.parametrize("cache", ["full", "window:20", "sinks:2+20", "window:44"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_that_begins_as_a_recent_one_goes_on_as_if_it_were_read_anew(
    name: str, cache: str, reads: list[int]
) -> None:
    module, policy = KINDS[name].module(), parse_policy(cache, CONTEXT)
    engine, random = Engine(module, policy), Random(f"{name} {cache}")
    texts = [[random.randrange(9) for _ in range(18)]]
    n_read = n_anew = 0
    for _ in range(5):
        text = random.choice(texts)
        text = [*text[: random.randint(16, len(text))], *(random.randrange(9) for _ in range(random.randint(0, 3)))]
        request = Request(tokens=tuple(text[:30]), sampling=Sampling(seed=1), max_new_tokens=5, logprobs=True)
        anew = Engine(module, policy, recent_bytes=0)
        anew.admit(request)
        expected = list(anew.run())
        reads.clear()
        engine.admit(request)
        again = list(engine.run())
        n_read += sum(reads)
        n_anew += len(request.tokens) + 4
        assert [new.token for new in again] == [new.token for new in expected]
        assert [new.logprob for new in again] == pytest.approx([new.logprob for new in expected], abs=1e-6)
        texts.append([*request.tokens, *(new.token for new in again)])
    assert n_read < n_anew - 30, "the beginnings are not read again"


def test_what_was_read_with_other_weights_or_without_a_hook_is_no_beginning(reads: list[int]) -> None:
    module: Any = KINDS["llama"].module()
    engine, request = Engine(module, full(CONTEXT)), greedy(*range(9), *range(9), n=3)

    def n_read() -> int:
        reads.clear()
        engine.admit(request)
        list(engine.run())
        return sum(reads)

    assert [n_read(), n_read()] == [20, 3]
    module.blocks[0].attn.k_proj.weight.add_(0.1)
    assert [n_read(), n_read()] == [20, 3]
    module.lm_head.weight = nn.Parameter(module.lm_head.weight * 2)
    assert [n_read(), n_read()] == [20, 3]
    hook = module.blocks[0].register_forward_hook(lambda _, inputs, output: -output)
    assert [n_read(), n_read()] == [20, 20]
    hook.remove()
    assert n_read() == 3


def test_texts_are_no_beginnings_after_a_change_that_no_version_counts(reads: list[int]) -> None:
    module: Any = KINDS["llama"].module()
    engine, request = Engine(module, full(CONTEXT)), greedy(*range(9), *range(9), n=3)

    def n_read() -> int:
        reads.clear()
        engine.admit(request)
        list(engine.run())
        return sum(reads)

    assert [n_read(), n_read()] == [20, 3]
    module.lm_head.weight.data = module.lm_head.weight.data * 2
    assert [n_read(), n_read()] == [20, 3]
    for _ in range(9):  # the second one may lie where the first one lay
        for _ in range(2):
            module.lm_head.weight = nn.Parameter(module.lm_head.weight * 2)
        assert [n_read(), n_read()] == [20, 3]
    module.train()
    assert [n_read(), n_read()] == [20, 3]
    module.eval()
    assert [n_read(), n_read()] == [20, 3]
    with use("readable"):
        assert [n_read(), n_read()] == [20, 3]
    with torch.inference_mode():
        module.lm_head.weight = nn.Parameter(module.lm_head.weight * 2)
    assert [n_read(), n_read()] == [20, 20]


@pytest.mark.parametrize(("cache", "n_more"), [("full", -1), ("window:14", 0)])
def test_keys_that_turned_by_the_length_of_their_time_are_no_beginning(cache: str, n_more: int) -> None:
    sizes = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 32}
    torch.manual_seed(0)
    scaling = RopeScaling(kind="dynamic", factor=8.0, original_context_length=8)
    module: Any = build("llama", **sizes, rope_scaling=scaling).module.double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    policy = parse_policy(cache, CONTEXT)
    engine, logprobs = Engine(module, policy), []
    engine.admit(greedy(*range(9), *range(3), n=12))
    text = [*range(9), *range(3), *(new.token for new in engine.run())]
    again = greedy(*text[: len(text) + n_more], n=2, logprobs=True)  # as long, for frequencies, as what has been read
    for each in (engine, Engine(module, policy)):
        each.admit(again)
        logprobs.append([new.logprob for new in each.run()])
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-6)


def test_what_is_kept_of_a_text_is_no_view_of_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    module, policy = KINDS["llama"].module(), parse_policy("window:20", CONTEXT)
    engine = Engine(module, policy)
    for first in range(3):
        engine.admit(Request(tokens=(first,) * 20, max_new_tokens=2))
    list(engine.run())
    logits = [prefix.logits for prefix in engine._recent if prefix.logits is not None]
    assert [each.untyped_storage().nbytes() for each in logits] == [each.nbytes for each in logits]
    assert len(logits) == 3
    small = Engine(module, policy, recent_bytes=engine._recent.n_bytes // 12)

    def copied(*_: object) -> None:
        raise AssertionError("what has no room is copied")

    monkeypatch.setattr(kv_cache.KVCache, "branch", copied)
    for first in range(3):
        small.admit(Request(tokens=(first,) * 20, max_new_tokens=2))
    list(small.run())
    assert list(small._recent) == []


def test_recent_texts_are_kept_in_bounded_memory_the_latest_longest() -> None:
    module = KINDS["gpt2"].module()
    engine = Engine(module, full(CONTEXT))
    for first in range(3):
        engine.admit(Request(tokens=(first,) * 20, max_new_tokens=2))
        list(engine.run())
    each = engine._recent.n_bytes // 3
    assert [prefix.tokens[0] for prefix in engine._recent] == [0, 1, 2]
    engine.admit(Request(tokens=(0,) * 20, max_new_tokens=1))
    list(engine.run())
    engine._recent.most_bytes = 2 * each
    engine.admit(Request(tokens=(5,) * 20, max_new_tokens=2))
    list(engine.run())
    assert [prefix.tokens[0] for prefix in engine._recent] == [0, 5]
    assert engine._recent.n_bytes <= 2 * each


@pytest.mark.parametrize("quantized", [False, True])
def test_a_long_prompt_is_read_in_pieces_and_the_last_alone_has_logits(
    quantized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"vocab_size": 40, "context_length": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 32}
    module: Any = build("llama", **sizes).module.eval()
    if quantized:
        quantize(module, "int8")
    requests = [greedy(*range(20), *range(n), logprobs=True) for n in (1, 7, 11)]
    news: list[list[NewToken]] = []
    for at_once in (256, 5):
        monkeypatch.setattr(engine_module, "AT_ONCE", at_once)
        engine = Engine(module, full(64))
        for each in requests:
            engine.admit(each)
        news.append(list(engine.run()))
    assert [new.token for new in news[0]] == [new.token for new in news[1]]
    assert [new.logprob for new in news[0]] == pytest.approx([new.logprob for new in news[1]], abs=1e-3)


def test_the_latest_text_alone_is_kept_however_large_where_nothing_is_copied(reads: list[int]) -> None:
    engine = Engine(KINDS["llama"].module(), full(CONTEXT), recent_bytes=1)
    for first in (1, 2):
        engine.admit(greedy(*[first] * 20, n=2))
        list(engine.run())
        assert [prefix.tokens[0] for prefix in engine._recent] == [first]
    reads.clear()
    engine.admit(greedy(*[2] * 20, 3, n=1))
    list(engine.run())
    assert sum(reads) < 20


def test_what_has_been_cancelled_is_not_read_again(reads: list[int]) -> None:
    module = KINDS["llama"].module()
    engine = Engine(module, full(CONTEXT))
    sequence = engine.admit(greedy(*range(9), *range(9), n=9))
    first = [engine.step()[0].token for _ in range(3)]
    engine.cancel(sequence)
    reads.clear()
    engine.admit(greedy(*range(9), *range(9), *first, n=2))
    list(engine.run())
    assert reads == [1, 1]


def test_texts_about_one_sound_share_its_memory_when_one_of_them_has_ended() -> None:
    module = KINDS["whisper"].module()
    sound = module.begin(torch.randn(1, 8, 12, dtype=torch.float64), full(CONTEXT))
    module(torch.tensor([[1]]), sound)
    state = sound.again(5, full(CONTEXT))
    module(torch.ones(5, 1, dtype=torch.long), state)
    state.select(torch.tensor([0, 2, 3]))
    (kept, _) = state.memories[0].kept
    assert (kept.shape[0], kept.stride(0), state.memory.stride(0)) == (3, 0, 0)


def greedy(*tokens: int, n: int = 4, **settings: Any) -> Request:
    return Request(tokens=tokens, sampling=Sampling(temperature=0.0), max_new_tokens=n, **settings)


def texts_of(engine: Engine) -> dict[int, list[int]]:
    texts: dict[int, list[int]] = {}
    while engine.running:
        for new in engine.step():
            texts.setdefault(new.sequence, []).append(new.token)
    return texts


def never_the_likeliest(logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
    """Writes into what it is given."""
    logits[torch.arange(len(logits)), logits.argmax(-1)] = -torch.inf
    return logits


def test_a_filter_that_writes_in_place_changes_nothing_for_others() -> None:
    engine = Engine(KINDS["llama"].module(), full(CONTEXT))
    engine.remember((1, 2, 3))
    engine.admit(greedy(1, 2, 3))
    expected = texts_of(engine)[0]
    for _ in range(2):
        engine.admit(greedy(1, 2, 3, filters=(never_the_likeliest,)))
    filtered = texts_of(engine)
    assert filtered[1] == filtered[2] != expected
    engine.admit(greedy(1, 2, 3))
    assert texts_of(engine)[3] == expected


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda logits: logits[:, :-1], r"shape \(1, 11\), not of shape \(1, 10\)"),
        (lambda logits: logits[0], r"not of shape \(11,\)"),
        (lambda logits: logits.numpy(), "not ndarray"),
        (lambda logits: None, "not NoneType"),
    ],
)
def test_a_filter_that_returns_no_logits_is_told_what_to_return(returned: Callable[[Tensor], Any], says: str) -> None:
    engine = Engine(KINDS["gpt2"].module(), full(CONTEXT))
    engine.admit(greedy(1, filters=(lambda logits, texts: returned(logits),)))
    with pytest.raises(GenerationError, match=says):
        list(engine.run())


@pytest.mark.parametrize("name", ["llama", "transformer", "luong", "lstm"])
def test_rows_that_cannot_be_joined_leave_those_that_run_as_they_were(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = KINDS[name].source
    sources = {"source": None if source is None else source(Random(0))}
    engine = Engine(KINDS[name].module(), full(CONTEXT))
    engine.admit(greedy(1, 2, 3, **sources))
    expected = texts_of(engine)[0]
    engine.admit(greedy(1, 2, 3, **sources))
    engine.step()
    engine.admit(greedy(4, 5, **sources))
    cat, calls = torch.cat, iter(range(10**6))

    def out_of_memory(tensors: Any, *arguments: Any, **settings: Any) -> Tensor:
        joins = len(tensors) == 2 and all(len(part) == 1 for part in tensors)
        if joins and not arguments and not settings and next(calls) == 2:  # the third of several that a join makes
            raise MemoryError
        joined: Tensor = cat(tensors, *arguments, **settings)
        return joined

    with monkeypatch.context() as patch:
        patch.setattr(torch, "cat", out_of_memory)
        news = {new.sequence: new for new in engine.step()}
    assert isinstance(news[2].error, MemoryError)
    texts = texts_of(engine)
    assert [*expected[:1], news[1].token, *texts[1]] == expected


class Breaks:
    """A search that cannot go on."""

    def advance(self, logits: Tensor, *, context_over: bool) -> tuple[list[int], list[int]]:
        raise ValueError("no beam is left")


def test_a_search_that_fails_ends_its_own_sequence_and_no_token_of_others_is_lost() -> None:
    engine = Engine(KINDS["llama"].module(), full(CONTEXT))
    engine.admit(greedy(1, 2, 3))
    expected = texts_of(engine)[0]
    engine.admit(greedy(1, 2, 3))
    engine.admit(Request(tokens=(4,), search=Breaks()))
    news = engine.step()
    assert [str(new.error) for new in news if new.finish == "error"] == ["no beam is left"]
    assert [*(new.token for new in news if new.sequence == 1), *texts_of(engine)[1]] == expected


def test_a_model_that_takes_no_more_tokens_is_not_made_to() -> None:
    class Narrow(GPT2):
        def begin(self, source: None, policy: Policy) -> Any:
            state = super().begin(source, policy)
            state.__class__ = type("Full", (type(state),), {"room": property(lambda self: 0)})
            return state

    module = Narrow(GPT2Config(**SIZES, **LAYERS))
    spec_of(module.config).initialize(module, None)
    engine = Engine(module, full(CONTEXT))
    engine.admit(greedy(1, 2))
    with pytest.raises(GenerationError, match="After 0 tokens of the prompt the model has no room for the next one"):
        list(engine.run())


def test_a_search_takes_no_settings_that_it_would_not_ask() -> None:
    with pytest.raises(GenerationError, match="its request has no filters, stop tokens or logprobs"):
        Request(tokens=(4,), search=Breaks(), filters=(never_the_likeliest,))


def test_a_step_that_is_interrupted_ends_what_ran_and_keeps_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    module = KINDS["llama"].module()
    engine = Engine(module, full(CONTEXT))
    engine.admit(greedy(1, 2, 3))
    expected = texts_of(engine)[0]

    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    engine.admit(greedy(1, 2, 3))
    with monkeypatch.context() as patch:
        patch.setattr(module.final_norm, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    engine.step()  # what waited still waits: it is read now
    engine.admit(greedy(1, 2, 3))
    with monkeypatch.context() as patch:
        patch.setattr(module.final_norm, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    assert engine.running
    news = engine.step()
    assert [(new.sequence, new.finish) for new in news] == [(1, "error"), (2, None)]
    assert "interrupted" in str(news[0].error)
    assert [news[1].token, *texts_of(engine)[2]] == expected


def test_static_rows_forget_the_numbers_of_whom_they_had() -> None:
    """NaN times a weight of 0 is NaN: it must not stand in a slot, even where no query sees it."""
    module = KINDS["llama"].module()
    module.token_embedding.weight[7] = torch.inf
    engine = Engine(module, full(CONTEXT), n_rows=1)
    engine.admit(greedy(1, 2, 3, 4, 7, 7))
    assert texts_of(engine) == {0: [-1]}
    engine.admit(greedy(1, 2))
    alone = Engine(module, full(CONTEXT))
    alone.admit(greedy(1, 2))
    assert texts_of(engine)[1] == texts_of(alone)[0]
