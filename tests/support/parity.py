"""What the tests that hold models of ours against those of `transformers` share."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.twins import use
from support.tolerances import assert_greedy


def import_transformers() -> Any:
    """The library, which then prints no more than errors; without it the whole file of tests is skipped."""
    transformers: Any = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def far_from_start(model: nn.Module, by: float = 0.1) -> None:
    """Give every parameter values that matter: biases are not 0 and norms not 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * by)


def assert_same_parameters(model: nn.Module, other: nn.Module) -> None:
    """Bit for bit, under the same names."""
    before, after = dict(model.named_parameters()), dict(other.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def read_in_float64(theirs: Any, folder: Path) -> tuple[Any, Any]:
    """Our configuration and our module of what transformers saves; both modules are in float64 from then on."""
    theirs.save_pretrained(folder)
    config, ours = load_directory(folder)
    theirs.double()
    return config, ours.double()


def saved(ours: Any, folder: Path) -> Path:
    """The folder of a model, which loads as the same one with our own file of settings and without it."""
    save_directory(ours, folder)
    for _ in ("with it", "without"):
        config, again = load_directory(folder)
        assert config == ours.config
        assert_same_parameters(ours, again)
        (folder / "glassformer.json").unlink(missing_ok=True)
    return folder


def assert_decoder_is_the_same_here(theirs: Any, folder: Path, tolerance: float) -> Any:
    """What transformers saves gives the same logits, in float64; our configuration of it comes back."""
    config, ours = read_in_float64(theirs, folder)
    tokens = torch.randint(config.vocab_size, (2, 33))
    expected = theirs(tokens, attention_mask=torch.ones_like(tokens)).logits
    for mode in ("readable", "fast"):
        with use(mode):
            torch.testing.assert_close(ours(tokens), expected, atol=tolerance, rtol=tolerance)
    return config


def assert_decoder_is_the_same_there(model: gf.Model, folder: Path, tolerance: float, **settings: Any) -> None:
    """What we save gives the same logits and the same text in transformers, in float64."""
    gf.save(model, folder)
    assert gf.load(folder).config == model.config
    theirs = import_transformers().AutoModelForCausalLM.from_pretrained(folder, **settings).double()
    ours = model.to(dtype="float64")
    tokens = torch.randint(model.config.vocab_size, (1, 13))
    ones = torch.ones_like(tokens)
    expected = theirs(tokens, attention_mask=ones).logits
    torch.testing.assert_close(ours(tokens), expected, atol=tolerance, rtol=tolerance)

    text = theirs.generate(tokens, attention_mask=ones, max_new_tokens=32, do_sample=False, pad_token_id=0)
    cached = ours.generate_ids(tokens, max_new_tokens=32, temperature=0.0)
    for written in (text, cached):
        assert written.shape == (1, 45)
        assert_greedy(ours(written[:, :-1])[:, 12:], written[:, 13:])
    assert torch.equal(cached, text)
