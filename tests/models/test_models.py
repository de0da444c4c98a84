"""Laws of every language model, and the table of models."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassformer import models
from glassformer.errors import ConfigError
from glassformer.models.published.tensors import half_from_interleaved, joined, same, transposed
from glassformer.models.spec import ModelSpec
from glassformer.nn.moe import Experts
from glassformer.twins import use
from support.tiny import FAMILIES
from support.tolerances import assert_close

SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 13, "context_length": 16, "d_model": 12, "n_layers": 2, "n_heads": 3},
    "llama": {
        "vocab_size": 13,
        "context_length": 16,
        "d_model": 12,
        "n_layers": 2,
        "n_heads": 3,
        "n_kv_heads": 1,
        "d_ff": 20,
    },
    "rnn": {"vocab_size": 13, "context_length": 16, "d_model": 12, "n_layers": 2},
}
SMALL["cs336"] = SMALL["llama"]
SMALL["gpt_neox"] = {**SMALL["gpt2"], "d_rotary": 2}
SMALL |= {name: sizes | {"vocab_size": 13, "context_length": 16} for name, sizes in FAMILIES.items()}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2 untied": ("gpt2", {"tied_head": False, "activation": "relu"}),
    "llama": ("llama", {}),
    "llama interleaved": ("llama", {"rope_style": "interleaved", "tied_head": True}),
    "cs336 post-norm": ("cs336", {"norm_placement": "post"}),
    "cs336 without norm": ("cs336", {"norm_placement": "none"}),
    "cs336 silu": ("cs336", {"ffn": "silu"}),
    "cs336 without positions": ("cs336", {"position": "none"}),
    **{name: (name, {"n_layers": 4}) for name in FAMILIES},  # four windows of three reach over nine tokens
    "decoder with all": (
        "llama",
        {"qkv_bias": True, "qk_norm": True, "sliding_windows": (3, 0), "experts": Experts(n=4, top_k=2)},
    ),
    "decoder with biases": ("llama", {"qkv_bias": True, "o_bias": True, "mlp_bias": True}),
    "qwen3_moe with a dense layer": ("qwen3_moe", {"n_layers": 2, "dense_layers": (1,), "d_dense": 7}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox one after the other": ("gpt_neox", {"parallel": False, "attn_bias": False, "tied_head": True}),
    "rnn": ("rnn", {"kind": "rnn"}),
    "rnn gru": ("rnn", {"kind": "gru"}),
    "rnn lstm": ("rnn", {"kind": "lstm"}),
}


@pytest.fixture(params=VARIANTS)
def causal_model(request: pytest.FixtureRequest) -> nn.Module:
    name, changes = VARIANTS[request.param]
    spec = models.specs()[name]
    model = spec.build(spec.config(**SMALL[name] | changes)).double().eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.4)
    return model.requires_grad_(False)


def draw(*shape: int) -> Tensor:
    return torch.randint(13, shape)


def test_later_tokens_never_change_earlier_logits(causal_model: nn.Module) -> None:
    tokens = draw(2, 9)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 13
    before, after = causal_model(tokens), causal_model(changed)
    assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()


def test_earlier_tokens_do_change_later_logits(causal_model: nn.Module) -> None:
    tokens = draw(1, 9)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 13
    assert (causal_model(tokens)[:, 1:] - causal_model(changed)[:, 1:]).abs().amax(-1).min() > 1e-6


def test_a_longer_text_keeps_the_logits_of_its_beginning(causal_model: nn.Module) -> None:
    tokens = draw(2, 16)
    for length in (1, 7, 15):
        assert_close(causal_model(tokens[:, :length]), causal_model(tokens)[:, :length])


def test_rows_of_a_batch_do_not_see_each_other(causal_model: nn.Module) -> None:
    tokens, order = draw(4, 6), torch.tensor([2, 0, 3, 1])
    logits = causal_model(tokens)
    assert_close(causal_model(tokens[order]), logits[order])
    assert_close(causal_model(tokens[1:2]), logits[1:2])


@pytest.mark.parametrize("side", ["left", "right", "between"])
def test_padding_leaves_the_logits_of_the_text_as_they_are(causal_model: nn.Module, side: str) -> None:
    tokens = draw(3, 8)
    valid = torch.ones(3, 8, dtype=torch.bool)
    for row, n_pad in zip(valid, (0, 3, 5), strict=True):
        start = {"left": 0, "right": 8 - n_pad, "between": 2}[side]
        row[start : start + n_pad] = False
    logits = causal_model(tokens, None, valid)
    for row in range(3):
        alone = causal_model(tokens[row][valid[row]][None])
        assert_close(logits[row][valid[row]], alone[0])
    other = tokens.where(valid, (tokens + 1) % 13)
    assert_close(causal_model(other, None, valid)[valid], logits[valid])


def test_renaming_the_tokens_renames_the_logits(causal_model: nn.Module) -> None:
    tokens, order = draw(2, 7), torch.randperm(13)
    logits = causal_model(tokens)
    weights = {name: tensor.clone() for name, tensor in causal_model.state_dict().items()}
    for name in ("token_embedding.weight", "lm_head.weight"):
        weights[name] = weights[name][order]
    causal_model.load_state_dict(weights)
    assert_close(causal_model(order.argsort()[tokens]), logits[..., order])


def test_readable_and_fast_give_the_same_logits_and_gradients(causal_model: nn.Module) -> None:
    causal_model.requires_grad_(True)
    results: list[list[Tensor]] = []
    for mode, attention in (("readable", "auto"), ("fast", "auto"), ("fast", "tiled")):
        with use(mode, attention=attention):
            logits = causal_model(draw(2, 9) * 0 + torch.arange(9))
        results.append([logits, *torch.autograd.grad(logits.square().mean(), list(causal_model.parameters()))])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_close(one, two)


def test_dropout_acts_while_training_alone() -> None:
    for name, sizes in SMALL.items():
        spec = models.specs()[name]
        model, tokens = spec.build(spec.config(**sizes, dropout=0.5)), draw(1, 9)
        assert not torch.equal(model(tokens), model(tokens))
        model.eval()
        assert torch.equal(model(tokens), model(tokens))


def test_building_a_model_from_a_seed_gives_the_same_weights() -> None:
    for name, sizes in SMALL.items():
        spec = models.specs()[name]
        built = []
        for _ in range(2):
            torch.manual_seed(3)
            built.append(spec.build(spec.config(**sizes)).state_dict())
        assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])


# The table


def test_presets_are_found_by_name_and_an_unknown_name_lists_them() -> None:
    assert models.configure("gpt2", {}) == models.presets()["gpt2"]
    with pytest.raises(ConfigError, match=r"There is no preset 'gpt3'\..* gpt2"):
        models.configure("gpt3", {})


@pytest.mark.parametrize("spec", models.specs().values(), ids=lambda spec: spec.name)
def test_an_architecture_named_alone_has_its_defaults(spec: ModelSpec) -> None:
    assert models.configure(spec.name, {}) == spec.config()


def test_a_configuration_leads_to_its_architecture() -> None:
    for spec in models.specs().values():
        for config in spec.presets.values():
            assert models.spec_of(config) is spec


@pytest.mark.parametrize("spec", models.specs().values(), ids=lambda spec: spec.name)
def test_a_configuration_cannot_be_changed(spec: ModelSpec) -> None:
    config = next(iter(spec.presets.values()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 3)


# Names in published files


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_has_one_name_in_the_published_format(name: str) -> None:
    kind, changes = VARIANTS[name]
    spec = models.specs()[kind]
    config = spec.config(**SMALL[kind] | changes)
    model = spec.outline(config)
    if spec.published is None:
        return  # its names there are those here
    named = [name for _, ours, _ in spec.published.renames(config) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {parameter for parameter, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        (same("a", "b"), [(3, 4)]),
        (transposed(["a"], "b"), [(6, 4)]),
        (transposed(["q", "k", "v"], "b"), [(6, 4)] * 3),
        (joined(["q", "k", "v"], "b"), [(6,)] * 3),
        (half_from_interleaved("a", "b", 6), [(12, 5)]),
    ],
)
def test_reading_undoes_writing(rule: Any, shapes: list[tuple[int, ...]]) -> None:
    tensors = [torch.randn(shape) for shape in shapes]
    back = rule.read(rule.write(tensors))
    assert all(torch.equal(one, other) for one, other in zip(tensors, back, strict=True))


def test_conv1d_holds_the_three_projections_side_by_side() -> None:
    q, k, v = torch.randn(3, 6, 4)
    written = transposed(["q", "k", "v"], "c_attn").write([q, k, v])
    assert written.shape == (4, 18)
    assert torch.equal(written[:, 6:12], k.mT)


def test_interleaved_rows_are_written_half_a_head_apart() -> None:
    rows = torch.arange(8)[:, None].float()  # two heads of four
    assert half_from_interleaved("a", "b", 4).write([rows])[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


# Configurations from strangers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
ROPE = st.dictionaries(
    st.sampled_from(["rope_type", "type", "factor", "low_freq_factor", "high_freq_factor", "rope_theta"]),
    JSON | st.sampled_from(["llama3", "linear", "default"]),
)


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("name", sorted(name for name in SMALL if models.specs()[name].published))
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(name: str, data: st.DataObject) -> None:
    spec = models.specs()[name]
    published: Any = spec.published
    keys = sorted(published.settings)
    wrong = data.draw(st.dictionaries(st.sampled_from(keys), JSON | ROPE, max_size=3))
    try:
        config = published.from_huggingface(published.to_huggingface(spec.config(**SMALL[name])) | wrong)
    except ConfigError:
        return
    assert 1 <= config.vocab_size < 2**31
