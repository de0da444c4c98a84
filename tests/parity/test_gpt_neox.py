"""GPT-NeoX and `transformers`: random small models are the same ones, in both directions."""

import random
from pathlib import Path
from typing import Any

import torch

import glassformer as gf
from glassformer.config import to_mapping
from glassformer.models.gpt_neox import GPTNeoXConfig
from glassformer.nn.rope import KINDS
from support.counts import count
from support.parity import (
    assert_decoder_is_the_same_here,
    assert_decoder_is_the_same_there,
    far_from_start,
    import_transformers,
)
from support.scalings import random_scaling

transformers = import_transformers()

TOLERANCE = 1e-5  # in float64, but transformers computes angles in float32 all the same
CONTEXT = 48


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
        theirs = transformers.GPTNeoXForCausalLM(their_config(random.Random(seed))).eval()
        far_from_start(theirs, 0.2)
        ours = assert_decoder_is_the_same_here(theirs, tmp_path / f"{seed}", TOLERANCE)
        assert isinstance(ours, GPTNeoXConfig)


@torch.no_grad()
def test_what_we_save_is_the_same_model_in_transformers_and_writes_the_same_text(tmp_path: Path) -> None:
    for seed in range(count("decoder families exported")):
        torch.manual_seed(seed)
        model = gf.build("gpt_neox", **to_mapping(our_config(random.Random(seed))))
        far_from_start(model.module, 0.2)
        assert_decoder_is_the_same_there(model, tmp_path / f"{seed}", TOLERANCE)
