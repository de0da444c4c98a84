"""Feed-forward networks, blocks and norms as modules, against torch.nn and numpy float64."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassformer.nn.attention import merge_heads, split_heads
from glassformer.nn.dropout import Dropout
from glassformer.nn.feedforward import ACTIVATIONS, MLP, GeGLU, SwiGLU
from glassformer.nn.norm import JointRMSNorm, LayerNorm, RMSNorm, UnitOffsetRMSNorm
from glassformer.twins import use
from support import oracles
from support.oracles import array
from support.tolerances import assert_close

NUMPY = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": oracles.gelu,
    "gelu_tanh": oracles.gelu_tanh,
    "silu": oracles.silu,
}


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_mlp_is_down_of_activation_of_up(activation: str, mode: str) -> None:
    mlp, x = MLP(6, 10, activation), torch.randn(2, 3, 6)
    nn.init.normal_(mlp.up_proj.bias)
    nn.init.normal_(mlp.down_proj.bias)
    hidden = NUMPY[activation](array(x) @ array(mlp.up_proj.weight).T + array(mlp.up_proj.bias))
    with use(mode):
        assert_close(mlp(x), hidden @ array(mlp.down_proj.weight).T + array(mlp.down_proj.bias))


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize(("kind", "bend"), [(SwiGLU, oracles.silu), (GeGLU, oracles.gelu_tanh)])
def test_a_gated_network_is_down_of_bent_gate_times_up(kind: Any, bend: Any, mode: str) -> None:
    mlp, x = kind(6, 10), torch.randn(2, 3, 6)
    gate, up = array(x) @ array(mlp.gate_proj.weight).T, array(x) @ array(mlp.up_proj.weight).T
    with use(mode):
        assert_close(mlp(x), (bend(gate) * up) @ array(mlp.down_proj.weight).T)


def test_every_position_goes_through_the_same_network_alone() -> None:
    x = torch.randn(2, 5, 6)
    for mlp in MLP(6, 10, "relu"), SwiGLU(6, 10), GeGLU(6, 10):
        assert_close(mlp(x)[1, 3], mlp(x[1, 3]))


def test_a_joint_norm_is_that_of_the_features_of_all_heads_side_by_side() -> None:
    ours, theirs = JointRMSNorm(12, eps=1e-3), nn.RMSNorm(12, eps=1e-3)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 12)
    assert_close(merge_heads(ours(split_heads(x, 3))), theirs(x))


@pytest.mark.parametrize("ours", [LayerNorm(6, eps=1e-3), RMSNorm(6, eps=1e-3)], ids=["layer", "rms"])
def test_norm_modules_are_torchs(ours: LayerNorm | RMSNorm) -> None:
    theirs: nn.Module = nn.LayerNorm(6, eps=1e-3) if isinstance(ours, LayerNorm) else nn.RMSNorm(6, eps=1e-3)
    weights: dict[str, Tensor] = {name: torch.randn(6) for name in ours.state_dict()}
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    x = torch.randn(2, 3, 6)
    assert_close(ours(x), theirs(x))


def test_a_norm_with_unit_offset_multiplies_by_one_plus_what_it_has_learned() -> None:
    ours, theirs = UnitOffsetRMSNorm(6, eps=1e-3), nn.RMSNorm(6, eps=1e-3)
    x = torch.randn(2, 3, 6)
    assert_close(ours(x), theirs(x))  # it starts at a scale of 1
    ours.load_state_dict({"offset": torch.randn(6)})
    theirs.load_state_dict({"weight": 1 + ours.offset.detach()})
    for mode in ("readable", "fast"):
        with use(mode):
            assert_close(ours(x), theirs(x))


def test_a_norm_with_unit_offset_loses_no_digits_of_it_in_half_precision() -> None:
    ours, x = UnitOffsetRMSNorm(64), torch.randn(5, 64).bfloat16()
    ours.load_state_dict({"offset": torch.randn(64) / 100})  # beside 1, bfloat16 has steps of 1/128
    ours = ours.bfloat16()
    exact = UnitOffsetRMSNorm(64)
    exact.load_state_dict({"offset": ours.offset.detach().float()})
    assert torch.equal(ours(x), exact(x.float()).bfloat16())


def test_dropout_does_nothing_in_evaluation_or_at_probability_zero() -> None:
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert (Dropout(0.9)(x) == 0).any()
