"""The ways of a checkpoint to tensors and of a token to its logits are those that `docs/architecture.md` tells.

That of a configuration to the first step is walked in `training/test_walk.py`.
"""

from pathlib import Path

import torch

import glassformer as gf
from support.walks import stops, walked


def test_the_way_of_a_checkpoint_to_its_tensors(tmp_path: Path) -> None:
    folder = gf.save(gf.load("nano-sort"), tmp_path / "sort")
    names = stops("From a path to tensors")
    assert walked(names, lambda: gf.load(folder)) == names


def test_the_way_of_a_token_to_its_logits() -> None:
    model = gf.build("llama", vocab_size=11, context_length=8, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    tokens = torch.tensor([[1, 2, 3]])
    names = stops("From a token to its logits")
    assert walked(names, lambda: model(tokens)) == names
