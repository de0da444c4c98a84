"""Rotary positions against complex numbers in numpy float64, and against transformers' frequencies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from glassformer.errors import ConfigError
from glassformer.nn.rope import RoPE, RopeScaling, Style
from support import oracles
from support.counts import count
from support.oracles import array
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


SCALINGS = [
    (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        500_000.0,
    ),
    (
        {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        500_000.0,
    ),
    (
        {"factor": 3.0, "low_freq_factor": 2.0, "high_freq_factor": 9.0, "original_max_position_embeddings": 64},
        10_000.0,
    ),
]


@pytest.mark.parametrize("d_head", [4, 64, 128])
@pytest.mark.parametrize(("rope", "theta"), SCALINGS)
def test_llama_3_frequencies_are_those_of_transformers(rope: dict[str, float], theta: float, d_head: int) -> None:
    config = LlamaConfig(
        head_dim=d_head,
        max_position_embeddings=131_072,
        rope_parameters={"rope_type": "llama3", "rope_theta": theta, **rope},
    )
    theirs, factor = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    ours = RoPE(
        d_head=d_head,
        theta=theta,
        scaling=RopeScaling(
            kind="llama3",
            factor=rope["factor"],
            low_freq_factor=rope["low_freq_factor"],
            high_freq_factor=rope["high_freq_factor"],
            original_context_length=int(rope["original_max_position_embeddings"]),
        ),
    ).frequencies()
    assert factor == 1.0
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=0)


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
    ],
)
def test_a_scaling_that_cannot_be_is_a_config_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"rope_scaling.*{next(iter(wrong))}"):
        RopeScaling(**wrong)  # type: ignore[arg-type]
