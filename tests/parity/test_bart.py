"""Random small BARTs of `transformers` and ours are the same models, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from glassformer.checkpoints import safetensors
from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.errors import CheckpointMismatch
from glassformer.models.bart import PRESETS, Bart, BartConfig
from glassformer.nn.kv_cache import full
from glassformer.viewer.shapes import n_parameters
from support.counts import count
from support.encoder_decoders import TOLERANCE, assert_the_same_encoder_decoder, far_from_start
from support.parity import import_transformers, saved

transformers = import_transformers()

NEW_TOKENS = 32


def their_config(choose: random.Random) -> Any:
    n_heads, d_ff = choose.choice([1, 2, 3]), choose.choice([5, 13, 24])
    return transformers.BartConfig(
        vocab_size=choose.randint(8, 60),
        max_position_embeddings=choose.choice([40, 64]),
        d_model=n_heads * choose.choice([3, 4, 8, 11]),
        encoder_layers=choose.randint(1, 3),
        decoder_layers=choose.randint(1, 3),
        encoder_attention_heads=n_heads,
        decoder_attention_heads=n_heads,
        encoder_ffn_dim=d_ff,
        decoder_ffn_dim=d_ff,
        activation_function=choose.choice(["relu", "gelu", "gelu_new", "silu", "swish"]),
        scale_embedding=choose.random() < 0.5,
        decoder_start_token_id=choose.choice([2, 5]),
        forced_eos_token_id=None,
    )


def our_config(choose: random.Random) -> BartConfig:
    n_heads = choose.choice([1, 2, 3])
    return BartConfig(
        vocab_size=choose.randint(8, 60),
        context_length=choose.choice([40, 64]),
        d_model=n_heads * choose.choice([3, 4, 8, 11]),
        n_encoder_layers=choose.randint(1, 3),
        n_decoder_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([5, 13, 24]),
        activation=choose.choice(["relu", "gelu", "gelu_tanh", "silu"]),
        scaled_embedding=choose.random() < 0.5,
        start_id=choose.choice([2, 6]),
        eos_id=1,
        pad_id=3,
    )


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_what_transformers_saves_is_the_same_model_here(tmp_path: Path) -> None:
    for seed in range(count("BARTs and T5s of transformers imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        theirs = transformers.BartForConditionalGeneration(their_config(choose)).eval()
        far_from_start(theirs)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_what_we_save_is_the_same_model_in_transformers(tmp_path: Path) -> None:
    for seed in range(count("BARTs and T5s exported to transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        ours = Bart(our_config(choose)).eval()
        far_from_start(ours)
        theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(saved(ours, tmp_path / f"{seed}")).eval()
        assert type(theirs).__name__ == "BartForConditionalGeneration"
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)


def test_presets_have_as_many_parameters_as_the_published_models() -> None:
    sizes = {"bart-base": 139_420_416, "bart-large": 406_291_456, "bart-large-cnn": 406_290_432}
    beside = {
        name: 2 * 2 * config.d_model - config.vocab_size for name, config in PRESETS.items()
    }  # rows, no parameter
    assert sizes == {name: n_parameters(config) + beside[name] for name, config in PRESETS.items()}


@torch.no_grad()
def test_a_file_of_the_bare_trunk_has_no_bias_of_the_head(tmp_path: Path) -> None:
    trunk = transformers.BartModel(their_config(random.Random(3))).eval()
    far_from_start(trunk)
    trunk.save_pretrained(tmp_path)
    assert "final_logits_bias" not in load_file(tmp_path / "model.safetensors")
    _, ours = load_directory(tmp_path)
    theirs = transformers.BartForConditionalGeneration.from_pretrained(tmp_path).eval()
    source, tokens = torch.randint(8, (1, 4)), torch.randint(8, (1, 3))
    expected = theirs(input_ids=source, decoder_input_ids=tokens).logits
    torch.testing.assert_close(ours(tokens, ours.begin(source, full(3))), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_any_other_tensor_must_be_there(tmp_path: Path) -> None:
    folder = save_directory(Bart(our_config(random.Random(0))), tmp_path / "a")
    weights = load_file(folder / "model.safetensors")
    safetensors.write(
        tmp_path / "model.safetensors", {name: w for name, w in weights.items() if "layernorm_embedding" not in name}
    )
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointMismatch, match=r"The tensor model\.\w+\.layernorm_embedding\.\w+ is missing"):
        load_directory(tmp_path)
