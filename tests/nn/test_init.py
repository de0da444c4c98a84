"""How weights start: bounds and deviations of what the papers prescribe."""

import dataclasses
import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models import spec_of, specs
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import LlamaConfig
from glassformer.models.spec import ModelSpec, set_parameters
from glassformer.models.transformer import TransformerConfig
from glassformer.models.vit import ViTConfig
from glassformer.models.word2vec import Word2VecConfig
from glassformer.nn.embedding import Embedding
from glassformer.nn.init import initialize
from glassformer.nn.linear import Linear
from glassformer.nn.norm import LayerNorm, RMSNorm
from glassformer.nn.position import sinusoidal
from glassformer.nn.recurrent import RecurrentLayer
from support.tiny import TINY

CUT = 0.98658  # the standard deviation of a unit normal distribution that is cut at ±3


def build(config: Any, generator: torch.Generator | None = None) -> nn.Module:
    return spec_of(config).build(config, generator)


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
    model = build(GPT2Config(vocab_size=400, context_length=100, d_model=128, n_layers=8, n_heads=4))
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
    model = build(LlamaConfig(vocab_size=400, d_model=128, n_layers=2, n_heads=4, d_ff=300))
    assert_normal(model.token_embedding.weight, 0.02)
    assert_normal(model.blocks[0].mlp.gate_proj.weight, 0.02)
    assert_normal(model.blocks[1].mlp.down_proj.weight, 0.01)
    assert_normal(model.blocks[1].attn.o_proj.weight, 0.01)


def test_a_seed_fixes_the_weights() -> None:
    config = GPT2Config(vocab_size=20, context_length=8, d_model=16, n_layers=1, n_heads=2)
    one, other, third = (build(config, torch.Generator().manual_seed(seed)).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["token_embedding.weight"], third["token_embedding.weight"])


# Constructing is not initialising

CONFIGS = {
    **{name: spec.config(**TINY[name]) for name, spec in specs().items() if name in TINY},
    "word2vec": Word2VecConfig(vocab_size=9, d_model=8),
    "a tied head with a bias": TransformerConfig(vocab_size=9, d_model=8, n_heads=2, d_ff=8, head_bias=True),
    "two tables": TransformerConfig(vocab_size=9, source_vocab_size=7, d_model=8, n_heads=2, d_ff=8, tied_head=False),
    "two special tokens": ViTConfig(**TINY["vit"] | {"distillation": "head"}),
}


def test_every_architecture_is_here() -> None:
    assert {type(config) for config in CONFIGS.values()} == {spec.config for spec in specs().values()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_architecture_initializes_every_number_of_a_model_that_was_built_without_memory(config: Any) -> None:
    spec = spec_of(config)
    module = spec.outline(config)
    assert all(parameter.is_meta for parameter in module.parameters())
    trainable = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    shared = dict(module.named_parameters(remove_duplicate=False)).keys()
    set_parameters(module, {name: torch.full(p.shape, torch.nan) for name, p in module.named_parameters()})
    spec.initialize(module, torch.Generator().manual_seed(0))
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.requires_grad == trainable[name], name
    built = build(config, torch.Generator().manual_seed(0))
    assert trainable.keys() == dict(built.named_parameters()).keys()  # what is shared is one parameter
    assert shared == dict(built.named_parameters(remove_duplicate=False)).keys()
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), built.parameters(), strict=True))
    for buffer in built.buffers():
        assert not buffer.is_meta


def test_a_build_with_its_own_generator_leaves_torchs_alone_and_an_outline_draws_nothing() -> None:
    before = torch.get_rng_state()
    for config in CONFIGS.values():
        build(config, torch.Generator().manual_seed(0))
        spec_of(config).outline(config)
    assert torch.equal(torch.get_rng_state(), before)


def test_whispers_positions_are_there_after_a_build() -> None:
    config = CONFIGS["whisper"]
    table = build(config).encoder.position_embedding
    assert torch.equal(table, sinusoidal(torch.arange(len(table)), config.d_model, "tensor2tensor"))
    assert not table.requires_grad


def test_layers_without_memory_draw_nothing_and_start_when_they_get_it() -> None:
    with torch.device("meta"):
        layers = torch.nn.ModuleList([Linear(3, 2), Embedding(4, 3), RMSNorm(3), RecurrentLayer("gru", 3, 2)])
    assert all(parameter.is_meta for parameter in layers.parameters())
    layers.to_empty(device="cpu")
    for parameter in layers.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    initialize(layers, torch.Generator().manual_seed(0))
    assert all(parameter.isfinite().all() for parameter in layers.parameters())
    assert (layers[2].weight == 1).all()
    assert all(parameter.abs().max() <= 2**-0.5 for parameter in layers[3].parameters())


def test_word2vec_starts_as_its_code_does() -> None:
    model = build(Word2VecConfig(vocab_size=300, d_model=50))
    assert 0.0099 < model.token_embedding.weight.abs().max() <= 0.01
    assert (model.context_embedding.weight == 0).all()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForeignConfig(GPT2Config):
    """A family from outside the package, whose author has not read how models start."""

    architecture: ClassVar[str] = "foreign"


def foreign(part: str) -> ModelSpec:
    class Foreign(GPT2):
        def __init__(self, config: ForeignConfig) -> None:
            super().__init__(config)
            if part == "scale":
                self.register_buffer("scale", torch.ones(()))
            else:
                setattr(self, part, nn.Parameter(torch.zeros(3)) if part == "gain" else nn.Linear(2, 2))

    return ModelSpec(config=ForeignConfig, module=Foreign, presets={})


@pytest.mark.parametrize("part", ["gain", "linear.weight", "scale"])
def test_what_would_start_as_anything_that_memory_holds_is_refused(part: str) -> None:
    says = "has the buffer scale, which no file would hold" if part == "scale" else f"draws no numbers for {part}"
    with pytest.raises(ConfigError, match=f"The architecture foreign {says}"):
        foreign(part.partition(".")[0]).build(ForeignConfig(d_model=12, n_layers=1, n_heads=2, vocab_size=5))


def test_a_model_is_built_without_memory_where_torch_is_told_so() -> None:
    with torch.device("meta"):
        model = build(CONFIGS["gpt2"])
    assert all(parameter.is_meta for parameter in model.parameters())
