"""Random small Marian models of `transformers` and ours are the same models, in both directions.

The logits, and what greedy decoding and beam search make of them: `transformers` searches its model, we search ours.
"""

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glassformer.checkpoints.folder_files import FolderFiles
from glassformer.checkpoints.huggingface import load_directory, read_eos_ids, save_directory
from glassformer.errors import CheckpointMismatch
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.transformer import PRESETS, Transformer, TransformerConfig
from glassformer.nn.kv_cache import full
from glassformer.twins import use
from support.counts import count

transformers = pytest.importorskip("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TOLERANCE = 1e-5  # in float64, but transformers computes scores in float32 all the same
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


def far_from_start(model: nn.Module) -> None:
    """Give every parameter values that matter: biases are not 0 and norms not 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()


def sources(choose: random.Random, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Three texts of different lengths, padded on the right with whatever; and where they are texts."""
    length = choose.randint(2, 12)
    lengths = torch.tensor([length, choose.randint(1, length), choose.randint(1, length)])
    return torch.randint(vocab_size, (3, length)), torch.arange(length) < lengths[:, None]


def assert_the_same_model(ours: Transformer, theirs: Any, choose: random.Random) -> None:
    """Logits, greedy decoding and beam search agree; in float64, so that no choice is a tie but for rounding."""
    ours, theirs = copy.deepcopy(ours).double(), theirs.double()
    config = ours.config
    source, valid = sources(choose, config.source_vocab_size or config.vocab_size)
    tokens = torch.randint(config.vocab_size, (3, 9))
    expected = theirs(input_ids=source, attention_mask=valid.long(), decoder_input_ids=tokens).logits
    for mode in ("readable", "fast"):
        with use(mode):
            logits = ours(tokens, ours.begin(source, full(9), valid))
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)

    given = {"source": source, "source_valid": valid, "max_new_tokens": NEW_TOKENS}
    given |= {"stop_tokens": frozenset({config.eos_id})}
    starts = [[config.start_id]] * 3
    greedy: list[list[int]] = [[], [], []]
    for new in generate(ours, starts, sampling=Sampling(temperature=0.0), **given):
        greedy[new.sequence].append(new.token)
    asked = {"attention_mask": valid.long(), "max_new_tokens": NEW_TOKENS, "do_sample": False}
    assert without_padding(theirs.generate(source, num_beams=1, **asked), config) == greedy

    beams = Beams(
        n_beams=4,
        length_penalty=choose.choice([1.0, 0.0, 0.6, 2.0, -1.0]),
        early_stopping=choose.choice([True, False, "never"]),
    )
    searched = beam_search(ours, starts, beams=beams, n_best=4, **given)
    settings = {"num_beams": 4, "length_penalty": beams.length_penalty, "early_stopping": beams.early_stopping}
    settings |= {"num_return_sequences": 4, "return_dict_in_generate": True, "output_scores": True}
    found = theirs.generate(source, **asked, **settings)
    assert without_padding(found.sequences, config) == [text.tokens for texts in searched for text in texts]
    scores = torch.tensor([text.score for texts in searched for text in texts])
    torch.testing.assert_close(scores, found.sequences_scores, atol=TOLERANCE, rtol=TOLERANCE)


def without_padding(sequences: Tensor, config: TransformerConfig) -> list[list[int]]:
    """New tokens up to the one that ends the text."""
    rows: list[list[int]] = sequences[:, 1:].tolist()
    return [row[: row.index(config.eos_id) + 1] if config.eos_id in row else row for row in rows]


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
        assert_the_same_model(ours, theirs, choose)


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
        assert_the_same_model(ours, theirs, choose)

        found, again = load_directory(folder)
        assert found == ours.config
        assert read_eos_ids(FolderFiles(folder)) == {ours.config.eos_id}
        before, after = dict(ours.named_parameters()), dict(again.named_parameters())
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        (folder / "glassformer.json").unlink()
        in_theirs, restated = load_directory(folder)
        assert in_theirs == replace(ours.config, head_bias=True, position_layout="halves")
        assert_the_same_model(restated, theirs, choose)


@torch.no_grad()
def test_the_papers_transformer_is_the_same_model_in_transformers(tmp_path: Path) -> None:
    config = replace(PRESETS["transformer-base"], vocab_size=60, d_model=16, n_heads=4, d_ff=24, context_length=64)
    ours = Transformer(config).eval()
    far_from_start(ours)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(save_directory(ours, tmp_path / "a")).eval()
    assert_the_same_model(ours, theirs, random.Random(0))


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
