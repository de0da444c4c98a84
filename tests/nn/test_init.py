"""How weights start: bounds and deviations of what the papers prescribe."""

import math

import pytest
import torch
from torch import Tensor

from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.nn.embedding import Embedding
from glassformer.nn.linear import Linear
from glassformer.nn.norm import LayerNorm, RMSNorm

CUT = 0.98658  # the standard deviation of a unit normal distribution that is cut at ±3


def assert_normal(weight: Tensor, std: float) -> None:
    """Mean 0 and deviation std, each within five standard errors."""
    n = weight.numel()
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(n)
    assert abs(weight.std().item() / std - 1) < 5 / math.sqrt(2 * n)


@pytest.mark.parametrize(("d_in", "d_out"), [(300, 200), (64, 512)])
def test_linear_starts_as_a_normal_of_variance_two_over_in_plus_out_cut_at_three_deviations(
    d_in: int, d_out: int
) -> None:
    layer, std = Linear(d_in, d_out), math.sqrt(2 / (d_in + d_out))
    assert layer.weight.shape == (d_out, d_in)
    assert_normal(layer.weight, std * CUT)
    assert 2.9 * std < layer.weight.abs().max() <= 3 * std
    assert layer.bias is not None
    assert (layer.bias == 0).all()
    assert Linear(d_in, d_out, bias=False).bias is None


def test_an_embedding_starts_as_a_unit_normal_cut_at_three() -> None:
    weight = Embedding(500, 60).weight
    assert_normal(weight, CUT)
    assert 2.9 < weight.abs().max() <= 3


def test_norms_start_as_the_identity_on_what_they_normalise() -> None:
    for norm in LayerNorm(5), RMSNorm(5):
        assert torch.equal(norm.weight, torch.ones(5))
    assert torch.equal(LayerNorm(5).bias, torch.zeros(5))


def test_gpt2_starts_with_deviation_002_and_the_residual_projections_with_002_over_the_root_of_2l() -> None:
    model = GPT2(GPT2Config(vocab_size=400, context_length=100, d_model=128, n_layers=8, n_heads=4))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif name.endswith(("attn.o_proj.weight", "mlp.down_proj.weight")):
            assert_normal(parameter, 0.02 / 4)
        else:
            assert_normal(parameter, 0.02)


def test_llama_starts_the_same_way() -> None:
    model = Llama(LlamaConfig(vocab_size=400, d_model=128, n_layers=2, n_heads=4, d_ff=300))
    assert_normal(model.token_embedding.weight, 0.02)
    assert_normal(model.blocks[0].mlp.gate_proj.weight, 0.02)
    assert_normal(model.blocks[1].mlp.down_proj.weight, 0.01)
    assert_normal(model.blocks[1].attn.o_proj.weight, 0.01)


def test_a_seed_fixes_the_weights() -> None:
    config = GPT2Config(vocab_size=20, context_length=8, d_model=16, n_layers=1, n_heads=2)
    torch.manual_seed(7)
    one = GPT2(config).state_dict()
    torch.manual_seed(7)
    other = GPT2(config).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
