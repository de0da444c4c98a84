"""OpenAI's own file, and files like it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints.hostile import refused
from glassformer import checkpoints
from glassformer.checkpoints.formats.openai_whisper import published_heads
from glassformer.data.audio import read_audio
from glassformer.errors import CheckpointError
from glassformer.features.log_mel import log_mel
from glassformer.models.whisper import PRESETS, WhisperConfig
from glassformer.nn.kv_cache import full

DIMS = {"n_mels": 4, "n_audio_ctx": 6, "n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 1, "n_vocab": 9}
DIMS |= {"n_text_ctx": 5, "n_text_state": 8, "n_text_head": 2, "n_text_layer": 2}


def state() -> dict[str, torch.Tensor]:
    """Weights under OpenAI's names, as its `model.py` makes them."""
    both = {"": (8,)}
    linear, norm = {"weight": (8, 8), "bias": (8,)}, {"weight": (8,), "bias": (8,)}
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.positional_embedding": (6, 8),
        "decoder.positional_embedding": (5, 8),
    }
    shapes |= {"decoder.token_embedding.weight": (9, 8)}
    shapes |= {"encoder.conv1.weight": (8, 4, 3), "encoder.conv2.weight": (8, 8, 3)}
    shapes |= {f"encoder.conv{i}.bias": both[""] for i in (1, 2)}
    shapes |= {f"{ln}.{part}": shape for ln in ("encoder.ln_post", "decoder.ln") for part, shape in norm.items()}
    for block, attentions in {
        "encoder.blocks.0": ["attn"],
        "decoder.blocks.0": ["attn", "cross_attn"],
        "decoder.blocks.1": ["attn", "cross_attn"],
    }.items():
        for attn in attentions:
            shapes |= {f"{block}.{attn}_ln.{part}": shape for part, shape in norm.items()}
            shapes |= {
                f"{block}.{attn}.{name}.{part}": shape
                for name in ("query", "key", "value", "out")
                for part, shape in linear.items()
                if (name, part) != ("key", "bias")
            }
        shapes |= {f"{block}.mlp_ln.{part}": shape for part, shape in norm.items()}
        shapes |= {f"{block}.mlp.0.weight": (32, 8), f"{block}.mlp.0.bias": (32,)}
        shapes |= {f"{block}.mlp.2.weight": (8, 32), f"{block}.mlp.2.bias": (8,)}
    return {name: torch.randn(shape).half() for name, shape in shapes.items()}


def test_a_file_of_half_precision_is_widened(tmp_path: Path) -> None:
    weights = state()
    torch.save({"dims": DIMS, "model_state_dict": weights}, tmp_path / "x.pt")
    found = checkpoints.load(tmp_path / "x.pt", from_pickle=True)
    ours = dict(found.module.named_parameters())
    assert len(ours) == len(weights)
    assert {weight.dtype for weight in ours.values()} == {torch.float32}
    key = "decoder.blocks.1.cross_attn.key.weight"
    assert torch.equal(ours["decoder.blocks.1.cross_attn.k_proj.weight"], weights[key].float())
    assert torch.equal(ours["encoder.position_embedding"], weights["encoder.positional_embedding"].float())
    assert found.config.context_length == 5


def test_a_pickle_is_refused_without_permission(tmp_path: Path) -> None:
    torch.save({"dims": DIMS, "model_state_dict": state()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="from_pickle=True"):
        checkpoints.load(tmp_path / "x.pt")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_of_published_sizes_has_the_published_alignment_heads(preset: str) -> None:
    published = PRESETS[preset]
    of_file = replace(published, alignment_heads=())
    assert published_heads(of_file, preset.removeprefix("whisper-")) == published.alignment_heads
    if preset not in ("whisper-large-v1", "whisper-large-v2"):
        assert published_heads(of_file, "renamed") == published.alignment_heads


def test_a_model_whose_sizes_do_not_tell_it_has_no_alignment_heads() -> None:
    assert published_heads(replace(PRESETS["whisper-large-v2"], alignment_heads=()), "large") == ()
    assert published_heads(WhisperConfig(n_decoder_layers=3), "tiny.en") == ()


WRONG: dict[str, dict[str, Any]] = {
    "dims are no table": {"dims": [1], "model_state_dict": {}},
    "weights are no table": {"dims": DIMS, "model_state_dict": 3},
    "no weights": {"dims": DIMS, "model_state_dict": {}},
    "a size is missing": {"dims": {k: v for k, v in DIMS.items() if k != "n_mels"}, "model_state_dict": state()},
    "a size is text": {"dims": DIMS | {"n_vocab": "9"}, "model_state_dict": state()},
    "halves of two widths": {"dims": DIMS | {"n_text_state": 16}, "model_state_dict": state()},
    "halves of other heads": {"dims": DIMS | {"n_text_head": 4}, "model_state_dict": state()},
    "another size than the weights": {"dims": DIMS | {"n_vocab": 10}, "model_state_dict": state()},
    "a weight too many": {"dims": DIMS, "model_state_dict": state() | {"decoder.more": torch.zeros(1)}},
    "no tensor": {"dims": DIMS, "model_state_dict": state() | {"decoder.ln.bias": 1}},
    "one number seen often": {"dims": DIMS, "model_state_dict": {"w": torch.zeros(1, 1).expand(2**20, 2**10)}},
    "beyond all memory": {"dims": DIMS | {"n_audio_layer": 10**9}, "model_state_dict": state()},
    "not a number": {"dims": DIMS, "model_state_dict": state() | {"decoder.ln.bias": torch.full((8,), torch.nan)}},
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_whisper_is_refused(kind: str, tmp_path: Path) -> None:
    torch.save(WRONG[kind], tmp_path / "x.pt")
    with refused(tmp_path / "x.pt"):
        checkpoints.load(tmp_path / "x.pt", from_pickle=True)


@torch.inference_mode()
def test_the_real_one_hears_and_writes_what_the_reference_says(data_dir: Path) -> None:
    reference = json.loads((data_dir / "whisper" / "tiny.en.reference.json").read_text())
    found = checkpoints.load(data_dir / "whisper" / "tiny.en.pt", from_pickle=True)
    assert found.config == PRESETS["whisper-tiny.en"]
    samples = read_audio(data_dir / reference["audio"])
    waveform = torch.zeros(480_000).index_copy_(0, torch.arange(len(samples)), samples)
    state: Any = found.module.begin(log_mel(waveform)[None], full(448))
    assert list(state.memory.shape) == reference["encoder_shape"]
    first = torch.tensor(reference["encoder_first"])
    torch.testing.assert_close(state.memory[0, 0, : len(first)], first, atol=1e-3, rtol=0)
    assert abs(state.memory.mean() - reference["encoder_mean"]) < 1e-4
    assert abs(state.memory.std() - reference["encoder_std"]) < 1e-4

    logits = found.module(torch.tensor([reference["sot_sequence"]]), state)[0, -1]
    for token, value in reference["first_logits_top5"]:
        assert abs(logits[token] - value) < 1e-3
    assert logits.topk(5).indices.tolist() == [token for token, _ in reference["first_logits_top5"]]

    end_of_text, greedy = 50256, []
    while (token := int(logits.argmax())) != end_of_text:
        greedy.append(token)
        logits = found.module(torch.tensor([[token]]), state)[0, -1]
    assert greedy == reference["greedy_without_timestamps"]["tokens"]
