"""Random small T5s of `transformers` and ours are the same models, in both directions."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.errors import CheckpointMismatch, ConfigError
from glassformer.models.t5 import PRESETS, T5, T5Config
from glassformer.nn.kv_cache import full, uncached, window
from glassformer.nn.mask import Window
from glassformer.nn.position_bias import bucket
from glassformer.viewer.shapes import n_parameters
from support.counts import count
from support.encoder_decoders import assert_the_same_encoder_decoder, far_from_start
from support.parity import import_transformers, saved

transformers = import_transformers()

NEW_TOKENS = 32


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their norm without its one step in float32, which costs digits where all else is in float64."""

    def forward(norm: Any, x: Tensor) -> Any:
        return norm.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    monkeypatch.setattr(transformers.models.t5.modeling_t5.T5LayerNorm, "forward", forward)


def their_model(choose: random.Random) -> Any:
    """A T5 of version 1 or 1.1; of the latter, some with a head that is a matrix of its own."""
    n_buckets, n_layers, scaled = choose.choice([4, 6, 8, 32]), choose.randint(1, 3), choose.random() < 0.5
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=choose.randint(8, 60),
            d_model=choose.choice([4, 7, 12, 24]),
            d_kv=choose.choice([1, 3, 8]),
            d_ff=choose.choice([5, 13, 24]),
            num_layers=n_layers,
            num_decoder_layers=choose.choice([None, choose.randint(1, n_layers)]),
            num_heads=choose.choice([1, 2, 3]),
            relative_attention_num_buckets=n_buckets,
            relative_attention_max_distance=n_buckets // 2 + choose.randint(1, 20),
            feed_forward_proj=choose.choice(["relu", "gated-gelu", "gated-silu", "gelu", "silu", "gelu_new"]),
            decoder_start_token_id=choose.choice([0, 3]),
            tie_word_embeddings=scaled,
        )
    ).eval()
    if not scaled and choose.random() < 0.7:
        theirs.lm_head.weight = nn.Parameter(torch.randn_like(theirs.lm_head.weight))
    far_from_start(theirs)
    return theirs


def our_config(choose: random.Random) -> T5Config:
    n_buckets, n_layers = choose.choice([4, 7, 8, 32]), choose.randint(1, 3)
    return T5Config(
        vocab_size=choose.randint(8, 60),
        context_length=choose.choice([40, 64]),
        d_model=choose.choice([4, 7, 12, 24]),
        n_encoder_layers=n_layers,
        n_decoder_layers=choose.randint(1, n_layers),  # transformers' cache has as many layers as the encoder
        n_heads=choose.choice([1, 2, 3]),
        d_head=choose.choice([1, 3, 8]),
        d_ff=choose.choice([5, 13, 24]),
        ffn=choose.choice(["relu", "gelu", "gelu_tanh", "silu", "geglu", "swiglu"]),
        n_buckets=n_buckets,
        max_distance=n_buckets // 2 + choose.randint(1, 20),
        tied_head=choose.random() < 0.5,
        start_id=choose.choice([0, 3]),
        pad_id=choose.choice([0, 2]),
    )


@torch.no_grad()
@pytest.mark.usefixtures("in_float64", "unchecked")  # the latter for its speed
def test_what_transformers_saves_is_the_same_model_here(tmp_path: Path) -> None:
    for seed in range(count("BARTs and T5s of transformers imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        theirs = their_model(choose)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)


@torch.no_grad()
@pytest.mark.usefixtures("in_float64", "unchecked")  # the latter for its speed
def test_what_we_save_is_the_same_model_in_transformers(tmp_path: Path) -> None:
    for seed in range(count("BARTs and T5s exported to transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        ours = T5(our_config(choose)).eval()
        far_from_start(ours)
        theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(saved(ours, tmp_path / f"{seed}")).eval()
        assert type(theirs).__name__ == "T5ForConditionalGeneration"
        assert_the_same_encoder_decoder(ours, theirs, choose, new_tokens=NEW_TOKENS)


def test_presets_have_as_many_parameters_as_the_published_models() -> None:
    sizes = {"t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096}
    sizes |= {"t5-v1.1-small": 76_961_152, "t5-v1.1-base": 247_577_856, "t5-v1.1-large": 783_150_080}
    assert sizes == {name: n_parameters(config) for name, config in PRESETS.items()}


@torch.no_grad()
def test_files_of_version_1_1_say_of_the_head_what_transformers_4_and_5_do(tmp_path: Path) -> None:
    ours = T5(T5Config(**{**TINY, "tied_head": False})).eval()
    far_from_start(ours)
    folder = save_directory(ours, tmp_path / "a")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "glassformer.json").unlink()
    (folder / "manifest.json").unlink()
    for of_version in ({"tie_word_embeddings": False}, {"tie_word_embeddings": True, "scale_decoder_outputs": False}):
        (folder / "config.json").write_text(json.dumps(config | of_version))
        again = load_directory(folder)[1]
        assert torch.equal(again.lm_head.weight, ours.lm_head.weight)
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(CheckpointMismatch, match=r"lm_head.weight differs from shared.weight"):
        load_directory(folder)


TINY: dict[str, Any] = {"vocab_size": 9, "d_model": 4, "n_encoder_layers": 1, "n_decoder_layers": 1, "d_ff": 5}


def test_buckets_are_those_of_transformers() -> None:
    theirs = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    distance = torch.arange(-300, 301)[None]
    for n_buckets in range(4, 70):
        for max_distance in (n_buckets // 2 + 1, n_buckets, 2 * n_buckets + 1, 128, 1000):
            if max_distance > n_buckets // 2:
                for both in (True, False):
                    expected = theirs(distance, both, n_buckets, max_distance)
                    assert torch.equal(bucket(distance, n_buckets, max_distance, bidirectional=both), expected)


@torch.no_grad()
def test_a_text_of_any_padding_and_cache_is_the_same() -> None:
    """Positions come from the mask: of rows behind padding, of tokens one by one, of slots that are used again."""
    torch.manual_seed(0)
    ours = T5(T5Config(**TINY, n_buckets=4, max_distance=6, context_length=32)).double().eval()
    far_from_start(ours)
    source, tokens = torch.randint(9, (2, 5)), torch.randint(9, (2, 12))
    whole = ours(tokens, ours.begin(source, full(12)))
    state = ours.begin(source, full(12))
    one_by_one = [ours(tokens[:, i : i + 1], state) for i in range(12)]
    torch.testing.assert_close(torch.cat(one_by_one, 1), whole)
    padding = torch.zeros(2, 3, dtype=torch.long)
    valid = torch.cat([padding, torch.ones_like(tokens)], 1).bool()
    padded = ours(torch.cat([padding, tokens], 1), ours.begin(source, full(12)), valid)
    torch.testing.assert_close(padded[:, 3:], whole)
    state = ours.begin(source, window(4))
    rolled = [ours(tokens[:, i : i + 1], state) for i in range(12)]
    step = uncached(tokens, 1, rule=Window(4))
    x = ours.decoder(ours.token_embedding(tokens), step, ours.begin(source, full(12)))
    torch.testing.assert_close(torch.cat(rolled, 1), ours.lm_head(x / 2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_buckets": 3}, "n_buckets must be at least 4"),
        ({"n_buckets": 32, "max_distance": 16}, "half of them less than max_distance"),
        ({"ffn": "glu"}, "ffn must be one of relu, gelu"),
        ({"start_id": 9}, "start_id must be a whole number from 0 to 8"),
        ({"tied_head": None}, "tied_head must be one of True, False"),
    ],
)
@pytest.mark.usefixtures("unchecked")  # so that the configuration is what refuses
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        T5Config(**{**TINY, **changes})
