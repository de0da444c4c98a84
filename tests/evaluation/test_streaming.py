"""A long text under each policy of the cache: every loss is that of a pass over what the cache then holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glassformer.errors import ConfigError, DataError
from glassformer.evaluation import streaming
from glassformer.evaluation.streaming import PLOTTED, plot, stream
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.rnn import RNN, RNNConfig

SIZES = {"vocab_size": 13, "context_length": 12, "d_model": 16, "n_heads": 2}
TEXT = np.random.default_rng(0).integers(13, size=40)


def llama(n_layers: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return Llama(LlamaConfig(**SIZES, n_layers=n_layers, n_kv_heads=1, d_ff=8)).double().eval()


def loss_of(module: nn.Module, text: np.ndarray, target: int) -> float:
    with torch.no_grad():
        return float(-module(torch.from_numpy(text)[None])[0, -1].log_softmax(-1)[target])


@pytest.mark.usefixtures("unchecked")
def test_each_way_predicts_from_what_it_keeps() -> None:
    """A model of one layer: its keys depend on their own tokens alone, so that the kept tokens are a text."""
    module, size = llama(), 10
    streamed = {each.name: each for each in stream(module, TEXT, size=size)}
    assert list(streamed) == [
        "dense", "window:10", "sinks:1+9", "sinks:2+8", "sinks:4+6", "sinks:8+2", "recomputation:10",
    ]  # fmt: skip
    for name, n_sinks in {"dense": None, "window:10": 0, "sinks:4+6": 4, "recomputation:10": 0}.items():
        each = streamed[name]
        assert each.positions == list(range(1, len(TEXT)))
        for end, loss in zip(each.positions, each.losses, strict=True):
            text = TEXT[:end]
            if n_sinks is not None and end > size:
                text = np.concatenate([text[:n_sinks], text[end - size + n_sinks :]])
            assert loss == pytest.approx(loss_of(module, text, TEXT[end]), abs=1e-6)
        assert each.perplexity == pytest.approx(np.exp(np.mean(each.losses)))
    heads_and_layers = 2 * 1 * 8 * 8  # keys and values, one head of 8 float64
    assert streamed["dense"].cache_bytes >= len(TEXT[1:]) * heads_and_layers
    assert streamed["window:10"].cache_bytes == (size + 1) * heads_and_layers, "and the slot of the padding"
    assert streamed["recomputation:10"].cache_bytes == 0
    assert all(each.seconds_per_token > 0 for each in streamed.values())


@pytest.mark.usefixtures("unchecked")
def test_what_is_dense_ends_with_learned_positions_and_only_some_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "RECOMPUTED", 8)
    torch.manual_seed(0)
    module = GPT2(GPT2Config(**SIZES, n_layers=1)).eval()
    dense, *_, anew = stream(module, TEXT, size=2)
    assert dense.positions == list(range(1, 13))
    assert anew.positions == list(range(1, len(TEXT), (len(TEXT) - 1) // 8))


@pytest.mark.usefixtures("unchecked")
def test_the_losses_become_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    streamed = list(stream(llama(), np.tile(TEXT, 2), size=2))
    plot(streamed, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    positions, losses = streamed[0].curve()
    assert (len(positions), positions[-1]) == (PLOTTED, 79)
    assert np.mean(losses) == pytest.approx(np.mean(streamed[0].losses), rel=0.1)


def test_what_cannot_be_streamed_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match="streaming must be from 2 to 12, the model's context, not 13"):
        list(stream(llama(), TEXT, size=13))
    with pytest.raises(DataError, match="10 tokens, which a cache of 10 holds"):
        list(stream(llama(), TEXT[:10], size=10))
    with pytest.raises(DataError, match="the token 13, but"):
        list(stream(llama(), TEXT + 1, size=10))
    with pytest.raises(ConfigError, match="which a RNN has not"):
        list(stream(RNN(RNNConfig(vocab_size=13, context_length=12, d_model=8)), TEXT, size=10))
