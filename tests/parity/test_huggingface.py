"""Random small models of `transformers` and ours are the same models, in both directions."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.models import spec_of
from glassformer.models.gpt2 import GPT2Config
from glassformer.models.llama import LlamaConfig
from glassformer.nn.rope import RopeScaling
from support.counts import count
from support.parity import assert_decoder_is_the_same_here, assert_same_parameters, far_from_start, import_transformers
from support.tolerances import assert_greedy

transformers = import_transformers()

TOLERANCE = 1e-5  # in float64, but transformers computes Llama's norms and angles in float32 all the same
FAMILIES = ["gpt2", "llama"]


def their_gpt2(choose: random.Random) -> Any:
    n_head = choose.choice([1, 2, 3, 4])
    return transformers.GPT2Config(
        vocab_size=choose.randint(3, 99),
        n_positions=choose.choice([80, 96, 101]),
        n_embd=n_head * choose.choice([4, 7, 8, 16]),
        n_layer=choose.randint(1, 3),
        n_head=n_head,
        n_inner=choose.choice([None, 17, 40]),
        activation_function=choose.choice(["gelu_new", "gelu", "relu", "silu", "gelu_pytorch_tanh"]),
        layer_norm_epsilon=choose.choice([1e-5, 1e-6, 1e-3]),
        scale_attn_by_inverse_layer_idx=choose.random() < 0.3,
        reorder_and_upcast_attn=choose.random() < 0.3,
        tie_word_embeddings=choose.random() < 0.5,
        bos_token_id=None,
        eos_token_id=None,
    )


def their_llama(choose: random.Random) -> Any:
    n_kv_heads = choose.choice([1, 2, 3])
    n_heads = n_kv_heads * choose.choice([1, 2, 3])
    d_head = choose.choice([2, 6, 8, 16])
    rope = {"rope_type": "default", "rope_theta": choose.choice([10_000.0, 500_000.0, 77.5])}
    kind = choose.choice(["default", "linear", "llama3"])
    if kind == "linear":
        rope |= {"rope_type": "linear", "factor": choose.choice([2.0, 3.5])}
    if kind == "llama3":
        rope |= {"rope_type": "llama3", "factor": choose.choice([8.0, 32.0]), "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": choose.choice([16, 40])}
    return transformers.LlamaConfig(
        vocab_size=choose.randint(3, 99),
        max_position_embeddings=choose.choice([80, 101]),
        hidden_size=n_heads * choose.choice([d_head, 5, 11]),
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        head_dim=d_head,
        intermediate_size=choose.choice([5, 24, 43]),
        rms_norm_eps=choose.choice([1e-5, 1e-6, 1e-3]),
        rope_parameters=rope,
        attention_bias=choose.random() < 0.4,
        mlp_bias=choose.random() < 0.4,
        tie_word_embeddings=choose.random() < 0.5,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def our_gpt2(choose: random.Random) -> GPT2Config:
    n_heads = choose.choice([1, 2, 3])
    return GPT2Config(
        vocab_size=choose.randint(3, 99),
        context_length=choose.choice([80, 101]),
        d_model=n_heads * choose.choice([4, 7, 16]),
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([0, 17, 40]),
        activation=choose.choice(["gelu_tanh", "gelu", "relu", "silu"]),
        inverse_layer_scale=choose.random() < 0.3,
        tied_head=choose.random() < 0.5,
    )


def our_llama(choose: random.Random) -> LlamaConfig:
    n_kv_heads = choose.choice([1, 2, 3])
    n_heads = n_kv_heads * choose.choice([1, 2, 3])
    attention_bias = choose.random() < 0.4
    scalings = [
        None,
        RopeScaling(kind="linear", factor=2.5),
        RopeScaling(kind="llama3", factor=8.0, original_context_length=24),
    ]
    return LlamaConfig(
        vocab_size=choose.randint(3, 99),
        context_length=choose.choice([80, 101]),
        d_model=n_heads * choose.choice([2, 5, 11]),
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=choose.choice([2, 6, 16]),
        d_ff=choose.choice([5, 24, 43]),
        rope_theta=choose.choice([10_000.0, 77.5]),
        rope_style=choose.choice(["half", "interleaved"]),
        rope_scaling=choose.choice(scalings),
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        mlp_bias=choose.random() < 0.4,
        tied_head=choose.random() < 0.5,
    )


THEIRS: dict[str, Callable[[random.Random], Any]] = {"gpt2": their_gpt2, "llama": their_llama}
OURS: dict[str, Callable[[random.Random], Any]] = {"gpt2": our_gpt2, "llama": our_llama}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_transformers_saves_gives_the_same_logits_here(family: str, tmp_path: Path) -> None:
    for seed in range(count("models of transformers imported")):
        torch.manual_seed(seed)
        theirs = transformers.AutoModelForCausalLM.from_config(THEIRS[family](random.Random(seed))).eval()
        far_from_start(theirs)
        assert_decoder_is_the_same_here(theirs, tmp_path / f"{seed}", TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_we_save_gives_the_same_logits_and_text_in_transformers(family: str, tmp_path: Path) -> None:
    for seed in range(count("models exported to transformers")):
        torch.manual_seed(seed)
        config = OURS[family](random.Random(seed))
        ours = spec_of(config).build(config).eval()
        far_from_start(ours)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(save_directory(ours, tmp_path / f"{seed}"))
        theirs, ours = theirs.double(), ours.double()
        tokens = torch.randint(config.vocab_size, (1, 13))
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=TOLERANCE, rtol=TOLERANCE)

        text = theirs.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=64, do_sample=False, pad_token_id=0
        )
        assert_greedy(ours(text[:, :-1])[:, 12:], text[:, 13:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_shard_bytes", [5 * 10**9, 2_000])
def test_what_we_save_we_load_again_bit_for_bit(family: str, max_shard_bytes: int, tmp_path: Path) -> None:
    for seed in range(count("checkpoints round trips")):
        config = OURS[family](random.Random(seed))
        ours = spec_of(config).build(config)
        folder = save_directory(ours, tmp_path / f"{seed}", max_shard_bytes=max_shard_bytes)
        found, again = load_directory(folder)
        assert found == config
        assert_same_parameters(ours, again)
        assert all(parameter.is_contiguous() for parameter in again.parameters())
        assert (again.lm_head.weight is again.token_embedding.weight) == config.tied_head


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_transformers_reads_our_shards_and_we_read_its(family: str, tmp_path: Path) -> None:
    config = OURS[family](random.Random(1))
    ours = spec_of(config).build(config).eval()
    folder = save_directory(ours, tmp_path / "ours", max_shard_bytes=2_000)
    assert not (folder / "model.safetensors").exists()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="2KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    _, again = load_directory(tmp_path / "theirs")
    assert_same_parameters(ours, again)


@torch.no_grad()
def test_files_of_the_bare_trunk_load(tmp_path: Path) -> None:
    config = their_gpt2(random.Random(0))
    config.tie_word_embeddings = True
    trunk = transformers.GPT2Model(config).eval()
    trunk.save_pretrained(tmp_path)
    _, ours = load_directory(tmp_path)
    trunk, ours = trunk.double(), ours.double()
    tokens = torch.randint(config.vocab_size, (1, 9))
    expected = trunk(tokens).last_hidden_state @ trunk.wte.weight.T
    torch.testing.assert_close(ours(tokens), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_version_4_of_transformers_wrote_the_rotary_settings_elsewhere(tmp_path: Path) -> None:
    config = their_llama(random.Random(3))
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert '"rope_parameters"' in text
    found, _ = load_directory(tmp_path)
    (tmp_path / "config.json").write_text(text.replace('"rope_parameters"', '"rope_scaling"'))
    assert load_directory(tmp_path)[0] == found
