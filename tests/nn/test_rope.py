"""Rotary positions against complex numbers in numpy float64, and against transformers' frequencies."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from glassformer.errors import ConfigError
from glassformer.nn.rope import KINDS, RoPE, RopeScaling, Style
from support import oracles
from support.counts import count
from support.oracles import array
from support.scalings import random_scaling
from support.tolerances import assert_close

STYLES: tuple[Style, ...] = ("half", "interleaved")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("d_head", [2, 6, 64])
def test_each_pair_is_a_complex_number_times_exp_of_i_times_position_times_frequency(d_head: int, style: Style) -> None:
    x = torch.randn(2, 3, 5, d_head, dtype=torch.float64)
    positions = torch.tensor([0, 1, 2, 1000, 123_456])
    turned = RoPE(d_head=d_head, theta=500.0, style=style)(positions)(x)
    assert_close(turned, oracles.rope(array(x), positions, oracles.rope_frequencies(d_head, 500.0), style))


def test_the_first_pair_turns_by_one_radian_a_position() -> None:
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    cos, sin = math.cos(1), math.sin(1)
    assert_close(RoPE(d_head=4, style="interleaved")(torch.tensor([1]))(one), [[cos, sin, 0.0, 0.0]])
    assert_close(RoPE(d_head=4, style="half")(torch.tensor([1]))(one), [[cos, 0.0, sin, 0.0]])


@pytest.mark.parametrize("style", STYLES)
def test_position_zero_turns_nothing_and_lengths_are_kept(style: Style) -> None:
    rope, x = RoPE(d_head=8, style=style), torch.randn(6, 8, dtype=torch.float64)
    assert_close(rope(torch.zeros(6, dtype=torch.long))(x), x)
    assert_close(rope(torch.arange(6) * 97)(x).norm(dim=-1), x.norm(dim=-1))


@settings(max_examples=count("relative positions"))
@given(
    query=st.integers(0, 20_000),
    key=st.integers(0, 20_000),
    shift=st.integers(0, 20_000),
    half=st.integers(1, 16),
    theta=st.floats(10.0, 1e6),
    style=st.sampled_from(STYLES),
    seed=st.integers(0, 2**31),
)
def test_a_query_and_a_key_meet_at_the_angle_of_their_distance_alone(
    query: int, key: int, shift: int, half: int, theta: float, style: Style, seed: int
) -> None:
    rope = RoPE(d_head=2 * half, theta=theta, style=style)
    q, k = torch.randn(2, 1, 2 * half, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def score(m: int, n: int) -> Tensor:
        return (rope(torch.tensor([m]))(q) * rope(torch.tensor([n]))(k)).sum()

    assert_close(score(query + shift, key + shift), score(query, key))


def test_the_two_styles_differ_by_an_order_of_the_features_alone() -> None:
    x, positions = torch.randn(5, 8, dtype=torch.float64), torch.arange(5)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # first of each pair, then second of each
    half = RoPE(d_head=8, style="half")(positions)(x[:, order])
    assert_close(half, RoPE(d_head=8, style="interleaved")(positions)(x)[:, order])


@pytest.mark.parametrize("style", STYLES)
def test_positions_come_in_any_order_and_any_batch_shape(style: Style) -> None:
    rope, x = RoPE(d_head=4, style=style), torch.randn(2, 3, 5, 4)
    positions = torch.randint(50, (2, 5))
    turned = rope(positions[:, None])(x)  # one axis for the heads
    for b in range(2):
        for t in range(5):
            alone = rope(positions[b, t : t + 1])(x[b, :, t : t + 1])
            assert_close(turned[b, :, t : t + 1], alone)
    shuffled = torch.randperm(5)
    assert torch.equal(rope(positions[:, None, shuffled])(x[:, :, shuffled]), turned[:, :, shuffled])


def test_float32_queries_are_turned_by_float64_angles() -> None:
    x, positions = torch.randn(1, 64), torch.tensor([1_000_003])
    turned = RoPE(d_head=64)(positions)(x)
    assert turned.dtype == torch.float32
    assert_close(turned, oracles.rope(array(x), positions, oracles.rope_frequencies(64, 10_000.0), "half"))


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_of_every_kind_are_those_of_transformers(kind: str) -> None:
    for seed in range(count("scalings of rotary frequencies")):
        choose = random.Random(seed)
        d_head, theta = choose.choice([4, 10, 64, 128]), choose.choice([50.0, 10_000.0, 500_000.0])
        d_rotary = choose.choice([4, d_head])
        scaling, settings = random_scaling(kind, choose, d_rotary // 2, theta)
        config = LlamaConfig(
            head_dim=d_head,
            max_position_embeddings=scaling.original_context_length if kind == "dynamic" else 131_072,
            rope_parameters={**settings, "partial_rotary_factor": d_rotary / d_head},
        )
        rope = RoPE(d_head=d_head, d_rotary=d_rotary, theta=theta, scaling=scaling)
        for length in (1, 16, 17, 64, 65, 1000, 4097, 20_000):
            ours = rope.frequencies(torch.tensor([length])).flatten()
            theirs, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
            torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=0)
            assert scaling.amplitude == pytest.approx(factor)
        torch.testing.assert_close(rope.frequencies().float(), ROPE_INIT_FUNCTIONS[kind](config, "cpu")[0])


def test_the_frequencies_of_a_row_follow_from_its_own_length() -> None:
    scaling = RopeScaling(kind="dynamic", factor=4.0, original_context_length=8)
    rope, x = RoPE(d_head=6, scaling=scaling), torch.randn(2, 9, 6, dtype=torch.float64)
    positions = torch.stack([torch.arange(9) - 5, torch.arange(9) + 11])  # −1 and less is padding
    turned = rope(positions)(x)
    assert_close(turned[0, 5:], RoPE(d_head=6)(torch.arange(4))(x[0, 5:]))
    frequencies = array(rope.frequencies(torch.tensor([20])))
    assert_close(turned[1], oracles.rope(array(x[1]), positions[1], frequencies, "half"))


@pytest.mark.parametrize("kind", ["yarn", "longrope"])
def test_cos_and_sin_are_multiplied_and_what_moves_on_is_not_multiplied_again(kind: str) -> None:
    x, by = torch.randn(3, 4, dtype=torch.float64), torch.tensor([40, 41, 42])
    scaling, _ = random_scaling(kind, random.Random(3), 2, 10_000.0)
    rope = RoPE(d_head=4, scaling=replace(scaling, attention_factor=1.5, original_context_length=64))
    moved = rope.further(by, torch.tensor([47]))(rope(torch.arange(3))(x))
    assert_close(moved, rope(torch.arange(3) + by)(x))
    assert_close(moved.norm(dim=-1), 1.5 * x.norm(dim=-1))


@pytest.mark.parametrize("style", STYLES)
def test_features_beyond_d_rotary_stay(style: Style) -> None:
    x, positions = torch.randn(5, 8, dtype=torch.float64), torch.arange(5)
    turned = RoPE(d_head=8, d_rotary=6, style=style)(positions)(x)
    assert torch.equal(turned[:, 6:], x[:, 6:])
    assert torch.equal(turned[:, :6], RoPE(d_head=6, style=style)(positions)(x[:, :6]))


def test_llama_3_keeps_fast_frequencies_and_slows_slow_ones() -> None:
    plain = RoPE(d_head=128, theta=500_000.0).frequencies()
    scaled = RoPE(d_head=128, theta=500_000.0, scaling=RopeScaling(kind="llama3", factor=8.0)).frequencies()
    wavelength = 2 * np.pi / plain
    assert torch.equal(scaled[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    assert torch.equal(scaled[wavelength > 8192], plain[wavelength > 8192] / 8)
    between = (wavelength > 8192 / 4) & (wavelength < 8192)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_linear_scaling_is_positions_divided_by_the_factor() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    scaled = RoPE(d_head=8, scaling=RopeScaling(kind="linear", factor=4.0))(torch.tensor([0, 4, 400]))(x)
    assert_close(scaled, RoPE(d_head=8)(torch.tensor([0, 1, 100]))(x))


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 0.5},
        {"factor": float("nan")},
        {"low_freq_factor": 4.0},
        {"low_freq_factor": 0.0},
        {"low_freq_factor": float("nan")},
        {"original_context_length": 0},
        {"original_context_length": 1, "kind": "longrope"},
        {"kind": "yarn", "beta_fast": 0.5},
        {"short_factors": (1.0, 0.0)},
        {"long_factors": (float("inf"),)},
        {"attention_factor": -1.0},
    ],
    ids=str,
)
def test_a_scaling_that_cannot_be_is_a_config_error(wrong: dict[str, Any]) -> None:
    name = next(name for name in wrong if name != "kind")
    with pytest.raises(ConfigError, match=f"rope_scaling.*{name}"):
        RopeScaling(**wrong)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"d_rotary": 3}, "d_rotary must be an even number from 0 to d_head 8, not 3"),
        ({"d_rotary": 10}, "d_rotary must be an even number from 0 to d_head 8, not 10"),
        ({"theta": 1.0, "scaling": RopeScaling(kind="yarn")}, "needs a rope_theta above 1, not 1.0"),
        ({"d_rotary": 2, "scaling": RopeScaling(kind="dynamic")}, "needs two pairs of features or more"),
        (
            {"scaling": RopeScaling(kind="longrope", short_factors=(1.0,) * 4, long_factors=(1.0,) * 8)},
            "rope_scaling.long_factors has 8 numbers for 4 pairs of features",
        ),
    ],
    ids=str,
)
def test_what_no_head_can_turn_by_is_a_config_error(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RoPE(d_head=8, **settings)
