"""Whisper: the laws of its decoder, what it hears, and the published sizes."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError, GenerationError
from glassformer.models.published.whisper import PUBLISHED
from glassformer.models.whisper import PRESETS, Whisper, WhisperConfig
from glassformer.nn.kv_cache import full
from glassformer.twins import use
from support.tolerances import assert_close

SMALL = WhisperConfig(
    vocab_size=13,
    context_length=16,
    audio_context_length=10,
    n_mels=5,
    d_model=12,
    n_encoder_layers=2,
    n_decoder_layers=3,
    n_heads=3,
)


@pytest.fixture
def model() -> Whisper:
    model = Whisper(SMALL).double().eval()
    for parameter in model.parameters():
        if parameter.dim() == 2 and parameter.requires_grad:
            nn.init.normal_(parameter, std=0.4)
    return model


def sound(n: int = 2) -> Tensor:
    return torch.randn(n, 5, 20, dtype=torch.float64)


def logits(model: Whisper, mel: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
    return model(tokens, model.begin(mel, full(16)), valid)


@torch.no_grad()
def test_later_tokens_never_change_earlier_logits(model: Whisper) -> None:
    mel, tokens = sound(), torch.randint(13, (2, 9))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 13
    before, after = logits(model, mel, tokens), logits(model, mel, changed)
    assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()


@torch.no_grad()
def test_every_token_hears_every_moment(model: Whisper) -> None:
    mel, tokens = sound(1), torch.randint(13, (1, 4))
    before = logits(model, mel, tokens)
    for frame in (0, 7, 19):
        changed = mel.clone()
        changed[:, :, frame] += 1
        assert (logits(model, changed, tokens) - before).abs().amax(-1).min() > 1e-6


@torch.no_grad()
def test_token_by_token_gives_the_logits_of_the_whole(model: Whisper) -> None:
    mel, tokens = sound(), torch.randint(13, (2, 12))
    whole = logits(model, mel, tokens)
    for sizes in ([1] * 12, [5, 1, 1, 5], [2, 9, 1]):
        state = model.begin(mel, full(12))
        pieces = [model(piece, state) for piece in tokens.split(sizes, dim=1)]
        assert_close(torch.cat(pieces, dim=1), whole)
        assert state.room == 0
        with pytest.raises(GenerationError, match="context is full"):
            model(tokens[:, :1], state)


@torch.no_grad()
def test_padding_leaves_the_logits_of_the_text_as_they_are(model: Whisper) -> None:
    mel, tokens = sound(), torch.randint(13, (2, 8))
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[1, :3] = False
    alone = logits(model, mel[1:], tokens[1:, 3:])
    assert_close(logits(model, mel, tokens, valid)[1:, 3:], alone)


@torch.no_grad()
def test_a_recording_is_heard_once_for_several_texts(model: Whisper) -> None:
    mel, tokens = sound(1), torch.randint(13, (3, 7))
    state = model.begin(mel, full(16))
    model(tokens[:1], state)
    again = state.again(3, full(16))
    assert_close(model(tokens, again), logits(model, mel.expand(3, -1, -1), tokens))


def test_readable_and_fast_give_the_same_logits_and_gradients(model: Whisper) -> None:
    mel, tokens = sound(), torch.randint(13, (2, 9))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    results = []
    for mode, attention in (("readable", "auto"), ("fast", "auto"), ("fast", "tiled")):
        with use(mode, attention=attention):
            out = logits(model, mel, tokens)
        results.append([out, *torch.autograd.grad(out.square().mean(), learned)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_close(one, two)


def test_the_positions_of_sound_are_not_learned(model: Whisper) -> None:
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert fixed == ["encoder.position_embedding"]


@torch.no_grad()
def test_shorter_sound_is_heard_and_longer_sound_is_an_error(model: Whisper) -> None:
    assert model.begin(sound()[:, :, :14], full(3)).memory.shape == (2, 7, 12)
    with pytest.raises(GenerationError, match="22 frames of sound are too many"):
        model.begin(torch.randn(1, 5, 22, dtype=torch.float64), full(3))


def test_dropout_acts_while_training_alone() -> None:
    model = Whisper(dataclasses.replace(SMALL, dropout=0.5))
    mel, tokens = sound(1).float(), torch.randint(13, (1, 9))
    assert not torch.equal(logits(model, mel, tokens), logits(model, mel, tokens))
    model.eval()
    assert torch.equal(logits(model, mel, tokens), logits(model, mel, tokens))


MILLIONS = {  # of parameters: Radford et al. 2022, table 1
    "tiny": 39,
    "base": 74,
    "small": 244,
    "medium": 769,
    "large": 1550,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_as_many_weights_as_the_paper_says(name: str) -> None:
    with torch.device("meta"):
        model = Whisper(PRESETS[name])
    learned = sum(parameter.numel() for parameter in model.parameters())
    size = name.removeprefix("whisper-").partition(".")[0].partition("-")[0]
    expected = 809 if name.endswith("turbo") else MILLIONS[size]
    assert abs(learned / 1e6 - expected) / expected < 0.07


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_hugging_faces_configuration(name: str) -> None:
    assert PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 14}, "does not divide"),
        ({"d_model": 15}, "must be even"),
        ({"d_model": 2, "n_heads": 1}, "at least 4"),
        ({"n_mels": 0}, "n_mels"),
        ({"dropout": 1.0}, "dropout"),
        ({"alignment_heads": ((3, 0),)}, "no head 0 in a block 3"),
        ({"alignment_heads": ((0, -1),)}, "no head -1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_function": "relu"},
        {"scale_embedding": True},
        {"tie_word_embeddings": False},
        {"decoder_attention_heads": 2},
        {"decoder_ffn_dim": 7},
        {"d_model": "384"},
        {"num_mel_bins": None},
    ],
)
def test_settings_that_are_not_supported_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(SMALL) | changes)


def test_every_weight_has_one_name_in_the_published_format() -> None:
    with torch.device("meta"):
        model = Whisper(SMALL)
    named = [name for _, ours, _ in PUBLISHED.renames(SMALL) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {name for name, _ in model.named_parameters()}
