"""Beam search against greedy decoding, against all texts there are, and against its own definition."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from glassformer.errors import GenerationError
from glassformer.inference.beam import Beams, Hypothesis, beam_search
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.nn.kv_cache import full
from glassformer.twins import use

START, END, VOCAB = 2, 2, 5
SIZES = {"context_length": 24, "d_model": 12, "n_heads": 3}
STOP = frozenset({END})


def transformer(seed: int = 0, vocab_size: int = VOCAB) -> Transformer:
    torch.manual_seed(seed)
    config = TransformerConfig(
        **SIZES, vocab_size=vocab_size, n_encoder_layers=1, n_decoder_layers=2, d_ff=20, start_id=START, eos_id=END
    )
    return spread(Transformer(config))


def language_model(kind: str, vocab_size: int = 11) -> GPT2 | Llama:
    torch.manual_seed(1)
    if kind == "gpt2":
        return spread(GPT2(GPT2Config(**SIZES, vocab_size=vocab_size, n_layers=2)))
    return spread(Llama(LlamaConfig(**SIZES, vocab_size=vocab_size, n_layers=2, d_ff=20)))


def spread(model):
    """With weights in which choices are no ties, and none is certain; in float64, so that rounding decides nothing."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.4)
    return model.double().eval().requires_grad_(False)


def log_probs(model: Transformer, source: Tensor, texts: list[list[int]]) -> list[float]:
    """log p(text | source) of texts of one length, from one pass over them."""
    tokens = torch.tensor([[START, *text] for text in texts])
    logits = model(tokens[:, :-1], model.begin(source.expand(len(texts), -1), full(tokens.shape[-1])))
    of_tokens = torch.log_softmax(logits.double(), -1).gather(-1, tokens[:, 1:, None])
    return of_tokens.sum((1, 2)).tolist()


def all_texts(max_new_tokens: int) -> Iterator[list[list[int]]]:
    """Every text that ends with END, and those that reach the longest length without it, length by length."""
    others = [token for token in range(VOCAB) if token != END]
    for length in range(1, max_new_tokens + 1):
        texts = [[*text, END] for text in itertools.product(others, repeat=length - 1)]
        if length == max_new_tokens:
            texts += map(list, itertools.product(others, repeat=length))
        yield texts


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize(("max_new_tokens", "n_beams"), [(2, VOCAB), (3, VOCAB**2)])
def test_a_beam_as_wide_as_all_beginnings_finds_the_best_text_of_all(
    max_new_tokens: int, n_beams: int, length_penalty: float
) -> None:
    """As wide as the vocabulary where two tokens are written, as its square where three are."""
    for seed in range(2):
        model, source = transformer(seed), torch.randint(VOCAB, (1, 4))
        scores = {
            tuple(text): total / len(text) ** length_penalty
            for texts in all_texts(max_new_tokens)
            for text, total in zip(texts, log_probs(model, source, texts), strict=True)
        }
        beams = Beams(n_beams=n_beams, length_penalty=length_penalty, early_stopping="never")
        (found,) = beam_search(
            model,
            [[START]],
            source=source,
            beams=beams,
            max_new_tokens=max_new_tokens,
            stop_tokens=STOP,
            n_best=4,
        )
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:4]
        assert [tuple(text.tokens) for text in found[:1]] == best[:1]
        assert found[0].score == pytest.approx(scores[best[0]], abs=1e-5)
        if n_beams > VOCAB:
            assert [tuple(text.tokens) for text in found] == best


@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_one_beam_is_greedy_decoding(mode: str) -> None:
    model, source = transformer(vocab_size=17), torch.randint(17, (4, 6))
    valid = torch.arange(6) < torch.tensor([6, 2, 5, 1])[:, None]
    with use(mode):
        searched = beam_search(
            model,
            [[START]] * 4,
            source=source,
            source_valid=valid,
            beams=Beams(n_beams=1),
            max_new_tokens=12,
            stop_tokens=STOP,
        )
        greedy: list[list[int]] = [[], [], [], []]
        for new in generate(
            model,
            [[START]] * 4,
            source=source,
            source_valid=valid,
            sampling=Sampling(temperature=0.0),
            max_new_tokens=12,
            stop_tokens=STOP,
        ):
            greedy[new.sequence].append(new.token)
    assert [texts[0].tokens for texts in searched] == greedy


@pytest.mark.parametrize("cache", ["full", "window:5", "sinks:2+3"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_language_models_are_searched_too_and_one_beam_is_greedy(kind: str, cache: str) -> None:
    model, prompts = language_model(kind), [[1, 4, 3], [9]]
    greedy: list[list[int]] = [[], []]
    for new in generate(model, prompts, sampling=Sampling(temperature=0.0), max_new_tokens=9, cache=cache):
        greedy[new.sequence].append(new.token)
    searched = beam_search(model, prompts, beams=Beams(n_beams=1), max_new_tokens=9, cache=cache)
    assert [texts[0].tokens for texts in searched] == greedy


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_a_text_does_not_depend_on_its_neighbours(early_stopping) -> None:
    model, prompts = language_model("llama"), [[1, 4, 3, 1, 5], [9], [2, 6]]
    settings = {"max_new_tokens": 8, "stop_tokens": frozenset({3, 7}), "n_best": 3}
    beams = Beams(n_beams=3, early_stopping=early_stopping)
    together = beam_search(model, prompts, beams=beams, **settings)
    for prompt, texts in zip(prompts, together, strict=True):
        (alone,) = beam_search(model, [prompt], beams=beams, **settings)
        assert [text.tokens for text in texts] == [text.tokens for text in alone]


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_the_n_best_are_different_texts_in_order_with_the_scores_of_their_definition(length_penalty: float) -> None:
    model, source = transformer(3, vocab_size=9), torch.randint(9, (1, 5))
    beams = Beams(n_beams=6, length_penalty=length_penalty)
    (found,) = beam_search(model, [[START]], source=source, beams=beams, max_new_tokens=7, stop_tokens=STOP, n_best=6)
    assert len({tuple(text.tokens) for text in found}) == len(found) == 6
    assert [text.score for text in found] == sorted((text.score for text in found), reverse=True)
    for text in found:
        (total,) = log_probs(model, source, [text.tokens])
        assert text.score == pytest.approx(total / len(text.tokens) ** length_penalty, abs=1e-5)
        assert text.finish == ("stop" if text.tokens[-1] == END else "length")
        assert END not in text.tokens[:-1]


def test_more_patience_never_finds_a_worse_text() -> None:
    for seed in range(4):
        model, source = transformer(seed, vocab_size=9), torch.randint(9, (1, 5))
        best: dict[object, Hypothesis] = {}
        for early_stopping in (True, False, "never"):
            beams = Beams(n_beams=3, early_stopping=early_stopping, length_penalty=1.5)
            settings = {"source": source, "max_new_tokens": 12, "stop_tokens": STOP}
            ((best[early_stopping],),) = beam_search(model, [[START]], beams=beams, **settings)
        assert best[True].score <= best[False].score <= best["never"].score


class ThreeWords:
    """A model whose probabilities are known: 0 ends a text, and what comes next depends on the last token alone."""

    config = GPT2Config(vocab_size=3, context_length=9, d_model=2, n_layers=1, n_heads=1)
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]).clamp(min=1e-9)

    class Read:
        def __init__(self, room: int) -> None:
            self.room = room

        @property
        def rooms(self) -> list[int]:
            return [self.room] * 3

        def select(self, rows: Tensor) -> None:
            """Nothing is remembered."""

        branch = join = select

    def parameters(self):
        return iter([torch.zeros(1)])

    def begin(self, source, policy):
        return self.Read(policy.capacity)

    def __call__(self, tokens, state=None, valid=None):
        state.room -= tokens.shape[-1]
        return self.probs[tokens].log()


def test_the_most_likely_text_need_not_begin_with_the_most_likely_token() -> None:
    settings = {"max_new_tokens": 2, "stop_tokens": frozenset({0})}
    ((greedy,),) = beam_search(ThreeWords(), [[1]], beams=Beams(n_beams=1, length_penalty=0.0), **settings)
    ((best,),) = beam_search(ThreeWords(), [[1]], beams=Beams(n_beams=2, length_penalty=0.0), **settings)
    assert (greedy.tokens, round(math.exp(greedy.score), 6)) == ([1, 1], 0.25)
    assert (best.tokens, round(math.exp(best.score), 6)) == ([2, 0], 0.27)


def test_a_context_that_is_over_ends_all_texts_and_says_so() -> None:
    (found,) = beam_search(ThreeWords(), [[1] * 6], beams=Beams(n_beams=3), max_new_tokens=50, n_best=3)
    assert {len(text.tokens) for text in found} == {4}, "three more are read, the fourth only predicted"
    assert {text.finish for text in found} == {"context"}


def test_of_tokens_that_the_tokenizer_lacks_none_comes() -> None:
    model = language_model("gpt2")
    (found,) = beam_search(model, [[1, 2]], beams=Beams(n_beams=4), max_new_tokens=6, n_tokens=3, n_best=4)
    assert all(token < 3 for text in found for token in text.tokens)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"beams": {"n_beams": 0}}, "n_beams must be from 1 to 1024, not 0"),
        ({"beams": {"length_penalty": math.nan}}, "length_penalty must be from −10 to 10"),
        ({"beams": {"length_penalty": -11.0}}, "length_penalty must be from −10 to 10"),
        ({"beams": {"early_stopping": "always"}}, 'early_stopping must be True, False or "never"'),
        ({"n_best": 5}, "n_best must be from 1 to the 4 beams, not 5"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"prompts": []}, "The prompt is empty"),
        ({"prompts": [[START], [START]]}, "There are 1 sources for 2 prompts"),
        ({"source": torch.tensor([[1, VOCAB]])}, f"Token {VOCAB} is not in the model's source vocabulary of {VOCAB}"),
        ({"source": torch.zeros(1, 0, dtype=torch.long)}, "An empty source"),
        ({"prompts": [[VOCAB]]}, f"Token {VOCAB} is not in the model's vocabulary"),
        ({"prompts": [[1] * 25]}, "25 tokens, but this model's context is 24"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_searched_is_refused_in_a_sentence(settings, says: str) -> None:
    given = {"prompts": [[START]], "max_new_tokens": 3, "source": torch.tensor([[1]]), "beams": {}} | settings
    with pytest.raises(GenerationError, match=says):
        beam_search(transformer(), given.pop("prompts"), **given | {"beams": Beams(**given["beams"])})
