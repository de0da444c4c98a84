"""GPT-NeoX and `transformers`: random small models are the same ones, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.checkpoints.huggingface import load_directory
from glassformer.config import to_mapping
from glassformer.models.gpt_neox import GPTNeoXConfig
from glassformer.nn.rope import KINDS
from glassformer.twins import use
from support.counts import count
from support.scalings import random_scaling
from support.tolerances import assert_greedy

transformers = pytest.importorskip("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TOLERANCE = 1e-5  # in float64, but transformers computes angles in float32 all the same
CONTEXT = 48


def far_from_start(model: nn.Module) -> None:
    """Give every parameter values that matter: biases are not 0 and norms not 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


def their_config(choose: random.Random) -> Any:
    n_heads, d_head = choose.choice([1, 2, 3]), choose.choice([8, 16])
    d_rotary = choose.choice([4, d_head])
    rope = {"rope_type": "default", "rope_theta": choose.choice([10_000.0, 77.5])}
    if choose.random() < 0.5:
        _, rope = random_scaling(
            choose.choice([k for k in KINDS if k != "dynamic"]), choose, d_rotary // 2, 99.0, (20,)
        )
    return transformers.GPTNeoXConfig(
        vocab_size=choose.randint(8, 40),
        max_position_embeddings=CONTEXT,
        hidden_size=n_heads * d_head,
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        intermediate_size=choose.choice([5, 24]),
        hidden_act=choose.choice(["gelu", "gelu_new", "gelu_fast", "relu"]),
        layer_norm_eps=choose.choice([1e-5, 1e-3]),
        rope_parameters={**rope, "partial_rotary_factor": d_rotary / d_head},
        use_parallel_residual=choose.random() < 0.5,
        attention_bias=choose.random() < 0.5,
        tie_word_embeddings=choose.random() < 0.5,
        bos_token_id=None,
        eos_token_id=None,
    )


def our_config(choose: random.Random) -> GPTNeoXConfig:
    n_heads, d_head = choose.choice([1, 2, 3]), choose.choice([8, 16])
    d_rotary = choose.choice([4, 6, d_head])
    scaling, _ = random_scaling(choose.choice(["linear", "yarn", "llama3"]), choose, d_rotary // 2, 99.0, (20,))
    return GPTNeoXConfig(
        vocab_size=choose.randint(8, 40),
        context_length=CONTEXT,
        d_model=n_heads * d_head,
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([0, 5]),
        activation=choose.choice(["gelu", "gelu_tanh", "relu"]),
        rope_theta=choose.choice([10_000.0, 99.0]),
        rope_scaling=choose.choice([None, scaling]),
        d_rotary=d_rotary,
        parallel=choose.random() < 0.5,
        attn_bias=choose.random() < 0.5,
        tied_head=choose.random() < 0.5,
    )


@torch.no_grad()
def test_what_transformers_saves_is_the_same_model_here(tmp_path: Path) -> None:
    for seed in range(count("decoder families imported")):
        torch.manual_seed(seed)
        config = their_config(random.Random(seed))
        theirs = transformers.GPTNeoXForCausalLM(config).eval()
        far_from_start(theirs)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        assert isinstance(ours.config, GPTNeoXConfig)
        theirs, ours = theirs.double(), ours.double()
        tokens = torch.randint(config.vocab_size, (2, 33))
        expected = theirs(tokens).logits
        for mode in ("readable", "fast"):
            with use(mode):
                torch.testing.assert_close(ours(tokens), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_what_we_save_is_the_same_model_in_transformers_and_writes_the_same_text(tmp_path: Path) -> None:
    for seed in range(count("decoder families exported")):
        torch.manual_seed(seed)
        model = gf.build("gpt_neox", **to_mapping(our_config(random.Random(seed))))
        far_from_start(model.module)
        gf.save(model, tmp_path / f"{seed}")
        assert gf.load(tmp_path / f"{seed}").config == model.config
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / f"{seed}").double()
        ours = model.to(dtype="float64")
        tokens = torch.randint(model.config.vocab_size, (1, 13))
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=TOLERANCE, rtol=TOLERANCE)
        text = theirs.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=32, do_sample=False, pad_token_id=0
        )
        cached = ours.generate_ids(tokens, max_new_tokens=32, temperature=0.0)
        assert text.shape == cached.shape == (1, 45)
        assert_greedy(ours(text[:, :-1])[:, 12:], text[:, 13:])
        assert torch.equal(cached, text)
