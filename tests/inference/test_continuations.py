"""Continuations that are compared: the likeliest of several, those of a search, and log p of their tokens."""

from typing import Any

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.api import Model
from glassformer.errors import GenerationError
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.continuations import Continuation
from glassformer.inference.logits import Sampling, Suppress
from glassformer.inference.speculative import Lookup
from glassformer.tokenizers import CharTokenizer

LETTERS = "abcdefg"
SIZES = {"vocab_size": 7, "context_length": 32, "d_model": 12, "n_layers": 1, "n_heads": 2}


def model_of(name: str) -> Model:
    more = {"n_kv_heads": 1, "d_ff": 10} if name == "llama" else {}
    model = gf.build(name, **SIZES, **more, tokenizer=CharTokenizer(LETTERS))
    for parameter in model.module.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.7)
    model.module.double()
    return model


@torch.no_grad()
def logprobs_of(model: Model, prompt: str, each: Continuation, filters: Any = ()) -> torch.Tensor:
    """log p over the vocabulary before each of the tokens, by one pass over the text."""
    assert model.tokenizer is not None
    ids = [*model.tokenizer.encode(prompt), *(new.token for new in each.tokens)]
    logits = model(torch.tensor([ids]))[0, -len(each.tokens) - 1 : -1]
    for change in filters:
        logits = change(logits, [ids] * len(logits))
    return logits.log_softmax(-1)


@pytest.mark.parametrize("drafted", [False, True])
def test_the_best_are_those_whose_tokens_are_likeliest(drafted: bool) -> None:
    model, sampling, filters = model_of("llama"), Sampling(temperature=1.3, seed=4), (Suppress(frozenset({3})),)
    settings: dict[str, Any] = {"max_new_tokens": 6, "sampling": sampling, "filters": filters}
    settings["drafter"] = Lookup(3, shortest=1) if drafted else None
    drawn = model.continuations("abcab", n=5, logprobs=3, **settings)
    best = model.continuations("abcab", n=2, best_of=5, **settings)
    for each in drawn:
        wanted = logprobs_of(model, "abcab", each, filters)
        ids = torch.tensor([new.token for new in each.tokens])
        came = wanted.gather(1, ids[:, None])[:, 0]
        assert [new.logprob for new in each.tokens] == pytest.approx(came.tolist(), abs=1e-5)
        assert each.score == pytest.approx(float(came.mean()), abs=1e-5)
        for new, row in zip(each.tokens, wanted, strict=True):
            values, tokens = row.topk(3)
            assert [token for token, _ in new.likeliest] == tokens.tolist()
            assert [p for _, p in new.likeliest] == pytest.approx(values.tolist(), abs=1e-5)
        assert (len(each.tokens), each.finish) == (6, "length")
    ranked = sorted(drawn, key=lambda each: -each.score)[:2]
    assert [each.text for each in best] == [each.text for each in ranked]


@pytest.mark.parametrize("name", ["gpt2", "llama", "rnn"])
def test_any_language_model_is_searched(name: str) -> None:
    sizes = {"vocab_size": 7, "context_length": 32, "d_model": 12, "n_layers": 1}
    model = gf.build(name, **sizes, tokenizer=CharTokenizer(LETTERS)) if name == "rnn" else model_of(name)
    assert model.tokenizer is not None
    beams, prompt = Beams(n_beams=4), model.tokenizer.encode("ab")
    (expected,) = beam_search(model.module, [prompt], beams=beams, n_best=3, max_new_tokens=5)
    ranked = model.continuations("ab", n=3, beams=beams, max_new_tokens=5)
    assert [(each.text, each.score) for each in ranked] == [
        (model.tokenizer.decode(each.tokens), each.score) for each in expected
    ]
    assert ranked[0].score >= ranked[1].score >= ranked[2].score
    assert ranked[0].text[:2] == model.continuations("ab", n=3, beams=beams, max_new_tokens=5, stop=["zz"])[0].text[:2]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 3, "best_of": 2}, "best_of must be from 3 to 1024, not 2"),
        ({"n": 0}, "n must be from 1 to 1024, not 0"),
        ({"logprobs": 8}, "logprobs must be from 0 to 7, not 8"),
        ({"beams": Beams(n_beams=2), "best_of": 2}, "A search is by itself"),
        ({"beams": Beams(n_beams=2), "n": 3}, "^n must be from 1 to the 2 beams, not 3"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        model_of("gpt2").continuations("ab", **settings)
