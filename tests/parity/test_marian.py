"""Random small Marian models of `transformers` and ours are the same models, in both directions.

The logits, and what greedy decoding and beam search make of them: `transformers` searches its model, we search ours.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glassformer.checkpoints.folder_files import FolderFiles
from glassformer.checkpoints.huggingface import load_directory, read_eos_ids, save_directory
from glassformer.errors import CheckpointMismatch
from glassformer.models.transformer import PRESETS, Transformer, TransformerConfig
from glassformer.nn.kv_cache import full
from support.counts import count
from support.encoder_decoders import TOLERANCE, assert_the_same_encoder_decoder, far_from_start
from support.parity import assert_same_parameters, import_transformers

transformers = import_transformers()

NEW_TOKENS = 14


def their_config(choose: random.Random) -> Any:
    n_heads, shared = choose.choice([1, 2, 3]), choose.random() < 0.5
    d_ff, vocab_size = choose.choice([5, 13, 24]), choose.randint(8, 60)
    return transformers.MarianConfig(
        vocab_size=vocab_size,
        decoder_vocab_size=vocab_size if shared else choose.randint(8, 60),
        share_encoder_decoder_embeddings=shared,
        tie_word_embeddings=shared or choose.random() < 0.5,
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
        decoder_start_token_id=choose.choice([3, 5]),
        pad_token_id=3,
        eos_token_id=0,
        forced_eos_token_id=None,
    )


def our_config(choose: random.Random) -> TransformerConfig:
    n_heads, shared = choose.choice([1, 2, 3]), choose.random() < 0.5
    return TransformerConfig(
        vocab_size=choose.randint(8, 60),
        source_vocab_size=None if shared else choose.randint(8, 60),
        context_length=choose.choice([40, 64]),
        d_model=n_heads * choose.choice([3, 4, 8, 11]),
        n_encoder_layers=choose.randint(1, 3),
        n_decoder_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([5, 13, 24]),
        activation=choose.choice(["relu", "gelu", "gelu_tanh", "silu"]),
        tied_head=shared or choose.random() < 0.5,
        head_bias=choose.random() < 0.5,
        scaled_embedding=choose.random() < 0.5,
        position_layout=choose.choice(["halves", "interleaved"]),
        start_id=choose.choice([2, 6]),
        eos_id=1,
        pad_id=2,
    )


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_what_transformers_saves_is_the_same_model_here(tmp_path: Path) -> None:
    for seed in range(count("Marian models imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        theirs = transformers.MarianMTModel(their_config(choose)).eval()
        far_from_start(theirs)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_what_we_save_is_the_same_model_in_transformers(tmp_path: Path) -> None:
    for seed in range(count("Marian models exported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        ours = Transformer(our_config(choose)).eval()
        far_from_start(ours)
        folder = save_directory(ours, tmp_path / f"{seed}")
        theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        assert type(theirs).__name__ == "MarianMTModel"
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)

        found, again = load_directory(folder)
        assert found == ours.config
        assert read_eos_ids(FolderFiles(folder)) == {ours.config.eos_id}
        assert_same_parameters(ours, again)
        (folder / "glassformer.json").unlink()
        in_theirs, restated = load_directory(folder)
        assert in_theirs == replace(ours.config, head_bias=True, position_layout="halves")
        assert_the_same_encoder_decoder(restated, theirs, choose, new_tokens=NEW_TOKENS)


@torch.no_grad()
def test_the_papers_transformer_is_the_same_model_in_transformers(tmp_path: Path) -> None:
    config = replace(PRESETS["transformer-base"], vocab_size=60, d_model=16, n_heads=4, d_ff=24, context_length=64)
    ours = Transformer(config).eval()
    far_from_start(ours)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(save_directory(ours, tmp_path / "a")).eval()
    assert_the_same_encoder_decoder(ours, theirs, random.Random(0), new_tokens=NEW_TOKENS)


@torch.no_grad()
def test_older_files_repeat_the_shared_table_and_hold_those_of_positions(tmp_path: Path) -> None:
    for shared in (True, False):
        config = their_config(random.Random(2))
        config.share_encoder_decoder_embeddings, config.tie_word_embeddings = shared, True
        config.decoder_vocab_size = config.vocab_size
        theirs = transformers.MarianMTModel(config).eval()
        theirs.save_pretrained(tmp_path)
        weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
        assert {"lm_head.weight", "model.encoder.embed_positions.weight"} <= weights.keys()
        save(weights, tmp_path)
        _, ours = load_directory(tmp_path)
        theirs, ours = theirs.double(), ours.double()
        source, tokens = torch.randint(8, (1, 4)), torch.randint(8, (1, 3))
        expected = theirs(input_ids=source, decoder_input_ids=tokens).logits
        torch.testing.assert_close(ours(tokens, ours.begin(source, full(3))), expected, atol=TOLERANCE, rtol=TOLERANCE)
        weights["lm_head.weight"] += 1
        save(weights, tmp_path)
        other = "model.shared.weight" if shared else "model.decoder.embed_tokens.weight"
        with pytest.raises(CheckpointMismatch, match=rf"lm_head.weight differs from {other}, but .* ties them"):
            load_directory(tmp_path)


def save(weights: dict[str, Tensor], folder: Path) -> None:
    """Put these weights in place of those in a folder."""
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
