"""DeepSeek-V2 and V3 and `transformers`: random small models are the same ones, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer import models
from glassformer.config import to_mapping
from glassformer.models.published.rope import ORIGINAL
from glassformer.nn.moe import GroupedExperts
from support.counts import count
from support.parity import assert_decoder_is_the_same_here, assert_decoder_is_the_same_there, import_transformers

transformers = import_transformers()

TOLERANCE = 1e-5  # in float64, but transformers computes norms, angles and routers in float32 all the same
CONTEXT = 48
VERSIONS = ("deepseek_v2", "deepseek_v3")
EAGER = {"experts_implementation": "eager"}  # the other has no float64


def their_config(version: str, choose: random.Random) -> Any:
    n_heads, n_groups = choose.choice([1, 2, 3]), choose.choice([1, 2, 3])
    grouped = {"n_group": n_groups, "topk_group": choose.randint(1, n_groups)}
    if version == "deepseek_v2":
        grouped["topk_method"] = "group_limited_greedy" if n_groups > 1 else "greedy"
    else:
        grouped |= {"norm_topk_prob": choose.random() < 0.5, "rope_interleave": choose.random() < 0.5}
    scaled = {"factor": 2.5, "rope_theta": 500.0, "mscale_all_dim": choose.choice([0.0, 0.7])}
    linear = {"rope_type": "linear", **scaled}
    yarn = {"rope_type": "yarn", **scaled, "mscale": choose.choice([0.0, 0.4]), ORIGINAL: CONTEXT // 4}
    return transformers.AutoConfig.for_model(
        version,
        vocab_size=choose.randint(8, 40),
        max_position_embeddings=CONTEXT,
        hidden_size=n_heads * 5,
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        qk_nope_head_dim=choose.choice([3, 8]),
        qk_rope_head_dim=choose.choice([2, 6]),
        v_head_dim=choose.choice([4, 5]),
        kv_lora_rank=choose.choice([3, 16]),
        q_lora_rank=choose.choice([None, 7]),
        intermediate_size=choose.choice([5, 24]),
        moe_intermediate_size=choose.choice([3, 8]),
        first_k_dense_replace=choose.randint(0, 3),
        n_routed_experts=n_groups * choose.choice([2, 4]),
        num_experts_per_tok=choose.randint(1, 2),
        n_shared_experts=choose.choice([1, 2]),
        routed_scaling_factor=choose.choice([1.0, 2.5]),
        rms_norm_eps=choose.choice([1e-5, 1e-3]),
        rope_parameters=choose.choice([{"rope_type": "default", "rope_theta": 77.5}, linear, yarn]),
        tie_word_embeddings=choose.random() < 0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **grouped,
    )


def our_config(version: str, choose: random.Random) -> Any:
    n_heads, n_groups, is_v3 = choose.choice([1, 2, 3]), choose.choice([1, 2, 3]), version == "deepseek_v3"
    experts = GroupedExperts(
        scores="sigmoid" if is_v3 else "softmax",
        n=n_groups * choose.choice([2, 4]),
        top_k=choose.randint(1, 2),
        norm_top_k=is_v3 and choose.random() < 0.5,
        n_groups=n_groups,
        top_k_groups=choose.randint(1, n_groups),
        n_shared=choose.choice([1, 2]),
        scale=choose.choice([1.0, 2.5]),
    )
    return models.specs()[version].config(
        vocab_size=choose.randint(8, 40),
        context_length=CONTEXT,
        d_model=n_heads * 6,
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_plain=choose.choice([3, 8]),
        d_rotary=choose.choice([2, 6]),
        d_value=choose.choice([4, 5]),
        kv_rank=choose.choice([3, 16]),
        q_rank=choose.choice([0, 7]),
        d_ff=choose.choice([5, 24]),
        d_expert=choose.choice([3, 8]),
        n_dense_layers=choose.randint(0, 3),
        experts=experts,
        rope_theta=choose.choice([10_000.0, 77.5]),
        rope_style=choose.choice(["half", "interleaved"]) if is_v3 else "interleaved",
        tied_head=choose.random() < 0.3,
    )


def far_from_start(model: nn.Module) -> None:
    """Give every parameter values that matter: norms are not 1, and no two experts are preferred alike."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and "inv_freq" not in name:
                tensor.add_(torch.randn_like(tensor) * 0.2)


@pytest.mark.parametrize("version", VERSIONS)
@torch.no_grad()
def test_what_transformers_saves_is_the_same_model_here(version: str, tmp_path: Path) -> None:
    for seed in range(count("decoder families imported")):
        torch.manual_seed(seed)
        config = their_config(version, random.Random(seed))
        theirs = transformers.AutoModelForCausalLM.from_config(config, **EAGER).eval()
        far_from_start(theirs)
        ours = assert_decoder_is_the_same_here(theirs, tmp_path / f"{seed}", TOLERANCE)
        assert ours.architecture == version


@pytest.mark.parametrize("version", VERSIONS)
@torch.no_grad()
def test_what_we_save_is_the_same_model_in_transformers_and_writes_the_same_text(version: str, tmp_path: Path) -> None:
    for seed in range(count("decoder families exported")):
        torch.manual_seed(seed)
        model = gf.build(version, **to_mapping(our_config(version, random.Random(seed))))
        far_from_start(model.module)
        assert_decoder_is_the_same_there(model, tmp_path / f"{seed}", TOLERANCE, **EAGER)
