"""Random small Whispers of `transformers` and ours are the same models, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.models.whisper import Whisper, WhisperConfig
from glassformer.nn.kv_cache import full
from glassformer.twins import use
from support.counts import count
from support.parity import assert_same_parameters, far_from_start, import_transformers, read_in_float64
from support.tolerances import assert_greedy

transformers = import_transformers()

TOLERANCE = 1e-6  # in float64, but for what transformers computes in float32 all the same


def sizes(choose: random.Random) -> dict[str, int]:
    n_heads = choose.choice([1, 2, 3, 4])
    return {
        "vocab_size": choose.randint(3, 99),
        "context_length": choose.choice([40, 65]),
        "audio_context_length": choose.choice([8, 21, 32]),
        "n_mels": choose.choice([4, 9, 80]),
        "d_model": n_heads * choose.choice([4, 6, 16]),
        "n_encoder_layers": choose.randint(1, 3),
        "n_decoder_layers": choose.randint(1, 3),
        "n_heads": n_heads,
        "d_ff": choose.choice([17, 40]),
    }


def theirs_of(choose: random.Random) -> Any:
    ours = sizes(choose)
    return transformers.WhisperConfig(
        vocab_size=ours["vocab_size"],
        max_target_positions=ours["context_length"],
        max_source_positions=ours["audio_context_length"],
        num_mel_bins=ours["n_mels"],
        d_model=ours["d_model"],
        encoder_layers=ours["n_encoder_layers"],
        decoder_layers=ours["n_decoder_layers"],
        encoder_attention_heads=ours["n_heads"],
        decoder_attention_heads=ours["n_heads"],
        encoder_ffn_dim=ours["d_ff"],
        decoder_ffn_dim=ours["d_ff"],
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        decoder_start_token_id=0,
        begin_suppress_tokens=None,
    )


def drawn(config: WhisperConfig, length: int) -> tuple[Tensor, Tensor]:
    mel = torch.randn(2, config.n_mels, 2 * config.audio_context_length, dtype=torch.float64)
    return mel, torch.randint(config.vocab_size, (2, length))


@torch.no_grad()
def test_what_transformers_saves_gives_the_same_logits_here(tmp_path: Path) -> None:
    for seed in range(count("Whispers of transformers imported")):
        torch.manual_seed(seed)
        theirs = transformers.WhisperForConditionalGeneration(theirs_of(random.Random(seed))).eval()
        far_from_start(theirs)
        config, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        mel, tokens = drawn(config, 33)
        expected = theirs(input_features=mel, decoder_input_ids=tokens)
        for mode in ("readable", "fast"):
            with use(mode):
                state = ours.begin(mel, full(33))
                torch.testing.assert_close(
                    state.memory, expected.encoder_last_hidden_state, atol=TOLERANCE, rtol=TOLERANCE
                )
                torch.testing.assert_close(ours(tokens, state), expected.logits, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_what_we_save_gives_the_same_logits_and_greedy_tokens_in_transformers(tmp_path: Path) -> None:
    for seed in range(count("Whispers exported to transformers")):
        torch.manual_seed(seed)
        config = WhisperConfig(**sizes(random.Random(seed)))
        ours = Whisper(config).eval()
        far_from_start(ours)
        folder = save_directory(ours, tmp_path / f"{seed}")
        theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder).double()
        ours.double()
        mel, tokens = drawn(config, 13)
        expected = theirs(input_features=mel, decoder_input_ids=tokens).logits
        torch.testing.assert_close(ours(tokens, ours.begin(mel, full(13))), expected, atol=TOLERANCE, rtol=TOLERANCE)

        text = transformers.GenerationMixin.generate(
            theirs, input_features=mel, max_new_tokens=32, do_sample=False, pad_token_id=0, decoder_start_token_id=0
        )
        assert_greedy(ours(text[:, :-1], ours.begin(mel, full(32))), text[:, 1:])


@pytest.mark.parametrize("max_shard_bytes", [5 * 10**9, 2_000])
def test_what_we_save_we_load_again_bit_for_bit(max_shard_bytes: int, tmp_path: Path) -> None:
    config = WhisperConfig(**sizes(random.Random(1)), alignment_heads=((0, 0),))
    ours = Whisper(config)
    found, again = load_directory(save_directory(ours, tmp_path / "x", max_shard_bytes=max_shard_bytes))
    assert found == config
    assert_same_parameters(ours, again)
    assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in again.parameters()]
    assert again.decoder.lm_head.weight is again.decoder.token_embedding.weight


def test_alignment_heads_are_those_of_the_generation_config(tmp_path: Path) -> None:
    theirs = transformers.WhisperForConditionalGeneration(theirs_of(random.Random(2)))
    theirs.save_pretrained(tmp_path / "none")
    assert load_directory(tmp_path / "none")[0].alignment_heads == ()
    theirs.generation_config.alignment_heads = [[0, 0]]
    theirs.save_pretrained(tmp_path / "one")
    config, ours = load_directory(tmp_path / "one")
    assert config.alignment_heads == ((0, 0),)
    save_directory(ours, tmp_path / "ours")
    found = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert found.generation_config.alignment_heads == [[0, 0]]


@torch.no_grad()
def test_files_of_the_bare_trunk_load(tmp_path: Path) -> None:
    trunk = transformers.WhisperModel(theirs_of(random.Random(0))).eval()
    trunk.save_pretrained(tmp_path)
    config, ours = load_directory(tmp_path)
    trunk, ours = trunk.double(), ours.double()
    mel, tokens = drawn(config, 9)
    expected = (
        trunk(input_features=mel, decoder_input_ids=tokens).last_hidden_state @ trunk.decoder.embed_tokens.weight.T
    )
    torch.testing.assert_close(ours(tokens, ours.begin(mel, full(9))), expected, atol=TOLERANCE, rtol=TOLERANCE)
