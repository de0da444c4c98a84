"""Families of the modern decoder and `transformers`: random small models are the same ones, in both directions."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import models
from glassformer.config import to_mapping
from glassformer.models.decoder import DecoderConfig
from glassformer.nn.moe import Experts
from support.counts import count
from support.parity import (
    assert_decoder_is_the_same_here,
    assert_decoder_is_the_same_there,
    far_from_start,
    import_transformers,
)
from support.tiny import FAMILIES

transformers = import_transformers()

TOLERANCE = 1e-5  # in float64, but transformers computes norms, angles and routers in float32 all the same
TOLERANCES = dict.fromkeys(["gemma2", "gemma3"], 5e-5)  # a norm after a sublayer makes more of what its numbers lost
CONTEXT = 48
SCALED = {"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0}
MODEL_TYPES = {"gemma3": "gemma3_text"}  # where they are not called as we call them
HOW = {key: {"experts_implementation": "eager"} for key in ["mixtral", "qwen3_moe"]}  # the other has no float64
HOW["gemma2"] = {"attn_implementation": "eager"}  # the other has no cap on scores


def test_every_family_of_the_decoder_is_here() -> None:
    families = {name for name, spec in models.specs().items() if issubclass(spec.config, DecoderConfig)}
    assert {"llama", *FAMILIES} == families == {"llama", *THEIRS} == {"llama", *OURS}


# What a family has beside the sizes of all: as `transformers` names it, and as we do.


def windows_of_qwen(choose: random.Random, n_layers: int) -> dict[str, Any]:
    return {
        "use_sliding_window": choose.random() < 0.7,
        "sliding_window": choose.choice([3, 7, 20]),
        "max_window_layers": choose.randint(0, n_layers),
    }


def some_window(choose: random.Random, n_layers: int) -> dict[str, Any]:
    return {"sliding_window": choose.choice([None, 2, 5, 20])}


def scalings(choose: random.Random, n_layers: int) -> dict[str, Any]:
    """By the same names there and here; 1 is what `transformers` takes where config.json has none."""
    return {
        "embedding_multiplier": choose.choice([1.0, 12.0]),
        "attention_multiplier": choose.choice([1.0, 0.015625, 0.3]),
        "residual_multiplier": choose.choice([1.0, 0.22]),
        "logits_scaling": choose.choice([1.0, 8.0, 0.7]),
    }


BIASES_OF_ATTENTION = ("qwen3", "qwen3_moe", "gemma2", "gemma3", "olmo2", "granite", "smollm3")
BIASES_OF_NETWORKS = ("granite", "smollm3")


def their_biases(family: str, choose: random.Random) -> dict[str, Any]:
    """Few published models have any; on queries, keys and values and on what attention writes, or on neither."""
    biases = {"attention_bias": choose.random() < 0.3} if family in BIASES_OF_ATTENTION else {}
    return biases | ({"mlp_bias": choose.random() < 0.3} if family in BIASES_OF_NETWORKS else {})


def our_biases(family: str, choose: random.Random) -> dict[str, Any]:
    biases = their_biases(family, choose)
    attention = biases.pop("attention_bias", None)
    return biases if attention is None else {**biases, "qkv_bias": attention, "o_bias": attention}


THEIRS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "mistral": some_window,
    "qwen2": windows_of_qwen,
    "qwen3": windows_of_qwen,
    "mixtral": lambda choose, n_layers: {
        **some_window(choose, n_layers),
        "num_local_experts": choose.choice([2, 4]),
        "num_experts_per_tok": choose.randint(1, 2),
    },
    "qwen3_moe": lambda choose, n_layers: {
        "use_sliding_window": choose.random() < 0.5,
        "sliding_window": choose.choice([3, 7, 20]),
        "num_experts": choose.choice([3, 6]),
        "num_experts_per_tok": choose.randint(1, 3),
        "norm_topk_prob": choose.random() < 0.5,
        "moe_intermediate_size": choose.choice([3, 8]),
        "decoder_sparse_step": choose.choice([1, 1, 2]),
        "mlp_only_layers": choose.choice([[], [], [0], [n_layers - 1]]),
    },
    "phi3": lambda choose, n_layers: {
        **some_window(choose, n_layers),
        "rope_parameters": {"rope_type": "default", "rope_theta": 77.5},
    },
    "gemma2": lambda choose, n_layers: {
        "sliding_window": choose.choice([2, 5, 20]),
        "query_pre_attn_scalar": choose.choice([4, 9]),
        "attn_logit_softcapping": choose.choice([None, 0.7]),
        "final_logit_softcapping": choose.choice([None, 1.5]),
    },
    "gemma3": lambda choose, n_layers: {
        "sliding_window": choose.choice([2, 5, 20]),
        "sliding_window_pattern": choose.choice([2, 3, 6]),
        "query_pre_attn_scalar": choose.choice([4, 9]),
        "final_logit_softcapping": choose.choice([None, 1.5]),
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 5.5},
            "full_attention": choose.choice([{"rope_type": "default", "rope_theta": 77.5}, SCALED]),
        },
    },
    "olmo2": lambda choose, n_layers: {},
    "granite": scalings,
    "smollm3": lambda choose, n_layers: {
        "no_rope_layers": choose.choice([None, [choose.randint(0, 1) for _ in range(n_layers)]]),
        "no_rope_layer_interval": choose.randint(1, 3),
        "use_sliding_window": choose.random() < 0.5,
        "sliding_window": choose.choice([3, 7, 20]),
    },
}


def one_window(choose: random.Random, n_layers: int) -> dict[str, Any]:
    return {"sliding_windows": choose.choice([(), (2,), (5,), (20,)])}


def windows(choose: random.Random, n_layers: int) -> dict[str, Any]:
    n = choose.choice([3, 7, 20])
    return {"sliding_windows": choose.choice([(), (n,), (0, n), (n, 0), (n, n, 0)])}


OURS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "mistral": one_window,
    "qwen2": windows,
    "qwen3": windows,
    "mixtral": lambda choose, n_layers: {**one_window(choose, n_layers), "experts": Experts(n=4, top_k=2)},
    "qwen3_moe": lambda choose, n_layers: {
        **one_window(choose, n_layers),
        "experts": Experts(n=choose.choice([3, 6]), top_k=choose.randint(1, 3), norm_top_k=choose.random() < 0.5),
        "dense_layers": choose.choice([(), (), (0,), (n_layers - 1,)]),
        "d_dense": 7,
    },
    "phi3": lambda choose, n_layers: {**one_window(choose, n_layers), "rope_style": "half"},
    "gemma2": lambda choose, n_layers: {
        **windows(choose, n_layers),
        "query_scalar": choose.choice([4, 9]),
        "score_softcap": choose.choice([0.0, 0.7]),
        "logit_softcap": choose.choice([0.0, 1.5]),
    },
    "gemma3": lambda choose, n_layers: {
        **windows(choose, n_layers),
        "query_scalar": choose.choice([4, 9]),
        "logit_softcap": choose.choice([0.0, 1.5]),
        "rope_theta_local": choose.choice([0.0, 5.5]),
    },
    "olmo2": lambda choose, n_layers: {},
    "granite": scalings,
    "smollm3": lambda choose, n_layers: {
        **windows(choose, n_layers),
        "rotary_layers": choose.choice([(True,), (False,), (True, False), (False, True, True)]),
    },
}


def their_config(family: str, choose: random.Random) -> Any:
    n_kv_heads = choose.choice([1, 2, 3])
    n_heads = n_kv_heads * choose.choice([1, 2, 3])
    d_head = choose.choice([2, 6, 8])
    n_layers = choose.randint(1, 3)
    settings: dict[str, Any] = {
        "vocab_size": choose.randint(8, 40),
        "max_position_embeddings": CONTEXT,
        "hidden_size": n_heads * choose.choice([d_head, 5]),
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": d_head,
        "intermediate_size": choose.choice([5, 24]),
        "rms_norm_eps": choose.choice([1e-5, 1e-6, 1e-3]),
        "rope_parameters": choose.choice([{"rope_type": "default", "rope_theta": 77.5}, SCALED]),
        "tie_word_embeddings": choose.random() < 0.5,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return transformers.AutoConfig.for_model(
        MODEL_TYPES.get(family, family), **settings | THEIRS[family](choose, n_layers) | their_biases(family, choose)
    )


def our_config(family: str, choose: random.Random) -> Any:
    n_kv_heads = choose.choice([1, 2, 3])
    n_heads = n_kv_heads * choose.choice([1, 2, 3])
    n_layers = choose.randint(1, 3)
    settings: dict[str, Any] = {
        "vocab_size": choose.randint(8, 40),
        "context_length": CONTEXT,
        "d_model": n_heads * choose.choice([2, 6]),
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "d_head": choose.choice([0, 2, 6]) if n_heads > 1 else 4,
        "d_ff": choose.choice([5, 24]),
        "rope_theta": choose.choice([10_000.0, 77.5]),
        "rope_style": choose.choice(["half", "interleaved"]),
        "tied_head": choose.random() < 0.5,
    }
    return models.specs()[family].config(**settings | OURS[family](choose, n_layers) | our_biases(family, choose))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_transformers_saves_is_the_same_model_here(family: str, tmp_path: Path) -> None:
    for seed in range(count("decoder families imported")):
        torch.manual_seed(seed)
        config = their_config(family, random.Random(seed))
        theirs = transformers.AutoModelForCausalLM.from_config(config, **HOW.get(family, {})).eval()
        far_from_start(theirs, 0.2)
        ours = assert_decoder_is_the_same_here(theirs, tmp_path / f"{seed}", TOLERANCES.get(family, TOLERANCE))
        assert ours.architecture == family


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_we_save_is_the_same_model_in_transformers_and_writes_the_same_text(family: str, tmp_path: Path) -> None:
    tolerance = TOLERANCES.get(family, TOLERANCE)
    for seed in range(count("decoder families exported")):
        torch.manual_seed(seed)
        model = gf.build(family, **to_mapping(our_config(family, random.Random(seed))))
        far_from_start(model.module, 0.2)
        assert_decoder_is_the_same_there(model, tmp_path / f"{seed}", tolerance, **HOW.get(family, {}))
