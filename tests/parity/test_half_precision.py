"""In bfloat16 our decoders are no further from the exact answer than those of `transformers`."""

from pathlib import Path

import pytest
import torch

import glassformer as gf
from glassformer import models
from support.counts import count
from support.parity import far_from_start, import_transformers
from support.tiny import TINY

transformers = import_transformers()

FAMILIES = [name for name, spec in models.specs().items() if spec.kind == "language-model" and spec.published]
SIZES = {"vocab_size": 64, "context_length": 16, "d_model": 32, "n_layers": 2}
OWN = {"deepseek_v2": {"kv_rank": 6}}  # an odd one makes strides there that torch refuses
MORE = 1.5  # of two errors that roundings at different places make of 4,096 logits
MIXTURES = ("mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")
HOW = {name: {"experts_implementation": "eager"} for name in MIXTURES}  # the other asks for larger sizes
HOW["gemma2"] = {"attn_implementation": "eager"}  # the other has no cap on scores


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_bfloat16_are_as_near_to_the_exact_ones_as_those_of_transformers(family: str, tmp_path: Path) -> None:
    for seed in range(count("decoders in bfloat16")):
        torch.manual_seed(seed)
        model = gf.build(family, **TINY[family] | SIZES | OWN.get(family, {}))
        far_from_start(model.module)
        ours = model.to(dtype="bfloat16")
        folder = gf.save(ours, tmp_path / f"{seed}")
        auto = transformers.AutoModelForCausalLM.from_pretrained
        exact, theirs = (auto(folder, dtype=dtype, **HOW.get(family, {})) for dtype in (torch.float32, torch.bfloat16))
        tokens = torch.randint(SIZES["vocab_size"], (4, SIZES["context_length"]))
        truth = exact(tokens).logits.double()
        error, their_error = (
            (logits.double() - truth).square().mean().sqrt() for logits in (ours(tokens), theirs(tokens).logits)
        )
        assert 0 < error < MORE * their_error
