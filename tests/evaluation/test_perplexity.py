"""Loss over a text: every token but the first is predicted once."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassformer import models
from glassformer.data.encoding import encode_files
from glassformer.data.memmap import open_tokens
from glassformer.errors import DataError
from glassformer.evaluation.perplexity import Loss, loss
from glassformer.tokenizers import CharTokenizer


class Bigram(nn.Module):
    """Logits that depend on the last token alone, so that a cut of the text changes nothing."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab_size, vocab_size))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]


@settings(max_examples=60)
@given(length=st.integers(2, 200), context_length=st.integers(1, 50), batch_size=st.integers(1, 9))
def test_the_mean_is_over_every_pair_of_neighbours_once(length: int, context_length: int, batch_size: int) -> None:
    tokens = np.random.default_rng(length).integers(5, size=length).astype(np.uint16)
    model = Bigram(5)
    logits = model.table.detach().double().numpy()
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -log_probs[tokens[:-1], tokens[1:]].mean()
    found = loss(model, tokens, context_length=context_length, batch_size=batch_size)
    assert found.tokens == length - 1
    assert found.nats_per_token == pytest.approx(expected, rel=1e-5)


def test_a_model_that_knows_nothing_is_as_unsure_as_its_vocabulary() -> None:
    model = Bigram(7)
    nn.init.zeros_(model.table)
    found = loss(model, np.arange(100) % 7, context_length=8)
    assert found.perplexity == pytest.approx(7, rel=1e-5)


def test_a_few_batches_are_spread_over_the_text() -> None:
    tokens = np.repeat(np.arange(4), 800)
    model = Bigram(4)
    found = loss(model, tokens, context_length=8, batch_size=4, batches=5)
    assert found.tokens == 4 * 5 * 8
    whole = loss(model, tokens, context_length=8)
    assert found.nats_per_token == pytest.approx(whole.nats_per_token, rel=0.2)
    assert loss(model, tokens, context_length=8, batch_size=4, batches=10**6).tokens == len(tokens) - 1


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_as_before(training: bool, tmp_path: Path) -> None:
    config = models.configure("gpt2", {"vocab_size": 4, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1})
    model = models.spec_of(config).build(config)
    with_dropout = models.spec_of(config).build(models.configure("gpt2", {**vars_of(config), "dropout": 0.5}))
    with_dropout.load_state_dict(model.state_dict())
    (tmp_path / "text").write_text("abcd" * 50)
    encode_files([tmp_path / "text"], CharTokenizer("abcd"), tmp_path / "tokens")
    text = open_tokens(tmp_path / "tokens")
    model.eval()
    with_dropout.train(training)
    assert loss(with_dropout, text, context_length=8) == loss(model, text.tokens, context_length=8)
    assert with_dropout.training == training


def vars_of(config: object) -> dict[str, object]:
    return {name: getattr(config, name) for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads")}


def test_one_token_has_no_loss() -> None:
    with pytest.raises(DataError, match="two tokens"):
        loss(Bigram(2), np.array([1]), context_length=4)


def test_perplexity_of_a_loss_beyond_all_bounds_is_infinite() -> None:
    assert Loss(nats_per_token=1e6, tokens=1).perplexity == math.inf
