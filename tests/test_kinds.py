"""Models of every kind behind the one facade: called, recorded, recomputed to the last number, saved and loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import glassformer as gf
from counts import count
from glassformer import models
from glassformer.errors import ConfigError, GenerationError
from glassformer.training.load_config import resolve

TINY: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2},
    "llama": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 12},
    "rnn": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 2},
    "bert": {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 12},
    "seq2seq": {"vocab_size": 11, "source_vocab_size": 9, "context_length": 8, "d_model": 8, "attention": "general"},
    "transformer": {
        "vocab_size": 11,
        "context_length": 8,
        "d_model": 8,
        "n_encoder_layers": 1,
        "n_decoder_layers": 1,
        "n_heads": 2,
        "d_ff": 12,
        "position_layout": "halves",
        "head_bias": True,
    },
    "whisper": {
        "vocab_size": 11,
        "context_length": 8,
        "audio_context_length": 6,
        "n_mels": 5,
        "d_model": 8,
        "n_encoder_layers": 1,
        "n_decoder_layers": 1,
        "n_heads": 2,
        "d_ff": 12,
    },
    "vit": {
        "image_size": (8, 8),
        "patch_size": (4, 4),
        "d_model": 8,
        "n_layers": 1,
        "n_heads": 2,
        "d_ff": 12,
        "n_classes": 3,
    },
}


def inputs(model: gf.Model) -> list[Tensor]:
    """Something that the model reads."""
    tokens = torch.randint(9, (1, 4))
    match model.kind:
        case "encoder-decoder":
            return [torch.randint(9, (1, 5)), tokens]
        case "speech-recognizer":
            return [torch.randn(1, 5, 12), tokens]
        case "image-classifier":
            return [torch.rand(1, model.config.n_channels, 8, 8)]
        case _:
            return [tokens]


def test_every_architecture_is_here() -> None:
    assert {*TINY, "word2vec"} == set(models.specs())  # word vectors have no text to read


@pytest.mark.parametrize("name", TINY)
def test_every_number_of_a_pass_recomputes(name: str) -> None:
    model = gf.build(name, **TINY[name])
    given = inputs(model)
    trace = gf.trace(model, *given)
    report = trace.check(cells=count("cells of a model"))
    assert report.failures == []
    assert report.checked > 500
    with gf.use("readable", attention="naive"), torch.no_grad():
        assert torch.equal(trace["logits"].value, model(*given))


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_is_the_model(name: str, tmp_path: Path) -> None:
    model = gf.build(name, **TINY[name])
    gf.save(model, tmp_path / name)
    again = gf.load(tmp_path / name)
    given = inputs(model)
    assert again.config == model.config
    assert torch.equal(again(*given), model(*given))


@pytest.mark.parametrize("name", ["bert", "seq2seq", "transformer", "whisper", "vit"])
def test_what_a_kind_cannot_do_is_said_in_a_sentence(name: str) -> None:
    model = gf.build(name, **TINY[name])
    with pytest.raises(GenerationError, match=r"This takes a language model, and the model is an? "):
        model.generate_ids(torch.ones(1, 2, dtype=torch.long), max_new_tokens=2)


def test_a_model_that_no_task_trains_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="No task trains an encoder"):
        resolve({"model": {"architecture": "bert", **TINY["bert"]}})
    with pytest.raises(ConfigError, match="'sort' trains a language model, and this is an encoder-decoder"):
        resolve({"task": "sort", "model": {"architecture": "transformer", **TINY["transformer"]}})
