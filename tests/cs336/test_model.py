"""The course's requirements on the model's parts, against torch and numpy float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cs336 import adapters
from glassformer.models.cs336 import CS336, CS336Config
from glassformer.nn.embedding import Embedding
from glassformer.nn.linear import Linear
from glassformer.nn.norm import RMSNorm
from glassformer.twins import current
from support import oracles
from support.oracles import Array, array
from support.tolerances import COURSE, COURSE_MODEL, assert_close

LEADS = [(), (3,), (2, 3), (2, 1, 3)]


def close(actual: Tensor, expected: object) -> None:
    assert_close(actual, expected, COURSE)


def test_adapters_leave_the_mode_as_it_was() -> None:
    before = current()
    adapters.run_silu(torch.zeros(1))
    assert current() == before


# Linear, embedding, norm, activation


@pytest.mark.parametrize("lead", LEADS)
def test_linear_is_x_times_the_transposed_weight(lead: tuple[int, ...]) -> None:
    x, weight = torch.randn(*lead, 6), torch.randn(4, 6)
    close(adapters.run_linear(6, 4, weight, x), np.einsum("...i,oi->...o", array(x), array(weight)))


def test_linear_has_one_parameter_named_weight_and_starts_as_a_cut_normal() -> None:
    layer = Linear(400, 600, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    std = math.sqrt(2 / 1000)
    assert layer.weight.abs().max() <= 3 * std
    assert abs(layer.weight.std().item() / (0.98658 * std) - 1) < 0.01


def test_embedding_looks_rows_up_and_starts_as_a_cut_unit_normal() -> None:
    table = torch.randn(10, 4)
    ids = torch.tensor([[9, 0, 3], [3, 3, 1]])
    assert torch.equal(adapters.run_embedding(10, 4, table, ids), table[ids])
    weight = Embedding(1000, 100).weight
    assert weight.abs().max() <= 3
    assert abs(weight.std().item() / 0.98658 - 1) < 0.01


@pytest.mark.parametrize("lead", LEADS)
def test_rmsnorm(lead: tuple[int, ...]) -> None:
    x, gain = torch.randn(*lead, 6) * 4, torch.randn(6)
    close(adapters.run_rmsnorm(6, 1e-5, gain, x), oracles.rms_norm(array(x), array(gain), 1e-5))


def test_rmsnorm_by_hand() -> None:
    """Mean square of (3, 4) is 12.5; the gain doubles the second."""
    out = adapters.run_rmsnorm(2, 0.0, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    close(out, [3 / math.sqrt(12.5), 8 / math.sqrt(12.5)])


def test_rmsnorm_computes_in_float32_and_returns_the_inputs_dtype() -> None:
    x = torch.full((4096,), 300.0, dtype=torch.float16)  # its square overflows float16
    norm = RMSNorm(4096).half()
    out = norm(x)
    assert out.dtype == torch.float16
    assert_close(out.float(), torch.ones(4096), COURSE)
    assert RMSNorm(4096)(x).dtype == torch.float16
    assert torch.equal(RMSNorm(8).weight, torch.ones(8))


def test_silu_is_x_times_sigmoid_of_x() -> None:
    x = torch.tensor([-100.0, -2.0, 0.0, 0.5, 100.0])
    close(adapters.run_silu(x), [value / (1 + math.exp(-value)) for value in x.tolist()])
    batch = torch.randn(2, 3, 4)
    close(adapters.run_silu(batch), nn.functional.silu(batch))


@pytest.mark.parametrize("lead", LEADS)
def test_swiglu_is_w2_of_silu_of_w1_times_w3(lead: tuple[int, ...]) -> None:
    x, w1, w3, w2 = torch.randn(*lead, 6), torch.randn(8, 6), torch.randn(8, 6), torch.randn(6, 8)
    expected = (oracles.silu(array(x) @ array(w1).T) * (array(x) @ array(w3).T)) @ array(w2).T
    close(adapters.run_swiglu(6, 8, w1, w2, w3, x), expected)


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_along_any_axis_survives_large_logits(dim: int) -> None:
    x = torch.randn(2, 3, 4)
    close(adapters.run_softmax(x, dim), oracles.softmax(array(x), dim))
    close(adapters.run_softmax(x + 100, dim), adapters.run_softmax(x, dim))
    assert adapters.run_softmax(x * 1e4, dim).isfinite().all()


# Rotary positions


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_rope_turns_neighbouring_pairs(lead: tuple[int, ...]) -> None:
    x, positions = torch.randn(*lead, 5, 8), torch.tensor([7, 0, 3, 3, 11])  # in any order
    frequencies = oracles.rope_frequencies(8, 10_000.0)
    close(
        adapters.run_rope(8, 10_000.0, 12, x, positions), oracles.rope(array(x), positions, frequencies, "interleaved")
    )


def test_rope_by_hand() -> None:
    """Position 2 turns pair 0 by 2 radians and pair 1 by 2 / √100."""
    out = adapters.run_rope(4, 100.0, 8, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), torch.tensor([2]))
    close(out, [[math.cos(2), math.sin(2), -math.sin(0.2), math.cos(0.2)]])


def test_rope_takes_positions_for_each_row() -> None:
    x, positions = torch.randn(2, 5, 8), torch.randint(100, (2, 5))
    out = adapters.run_rope(8, 10_000.0, 100, x, positions)
    for row in range(2):
        close(out[row], adapters.run_rope(8, 10_000.0, 100, x[row], positions[row]))


# Attention


@pytest.mark.parametrize("lead", LEADS)
def test_attention_over_any_batch_axes_with_true_meaning_may_attend(lead: tuple[int, ...]) -> None:
    q, k, v = torch.randn(*lead, 4, 6), torch.randn(*lead, 5, 6), torch.randn(*lead, 5, 3)
    allowed = torch.rand(*lead, 4, 5) > 0.4
    allowed[..., 0] = True
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    close(adapters.run_scaled_dot_product_attention(q, k, v, allowed), expected)
    unmasked = nn.functional.scaled_dot_product_attention(q, k, v)
    close(adapters.run_scaled_dot_product_attention(q, k, v, None), unmasked)


def weights_of_attention(d_model: int) -> list[Tensor]:
    return [torch.randn(d_model, d_model) / math.sqrt(d_model) for _ in range(4)]


def attention_by_hand(weights: list[Tensor], x: Array, n_heads: int, positions: object, theta: float | None) -> Array:
    """Heads are consecutive row blocks; queries and keys are turned over the width of a head, values are not."""
    wq, wk, wv, wo = map(array, weights)
    d = x.shape[-1] // n_heads
    heads = []
    for h in range(n_heads):
        block = slice(h * d, (h + 1) * d)
        q, k, v = x @ wq[block].T, x @ wk[block].T, x @ wv[block].T
        if theta is not None:
            frequencies = oracles.rope_frequencies(d, theta)
            q = oracles.rope(q, positions, frequencies, "interleaved")
            k = oracles.rope(k, positions, frequencies, "interleaved")
        causal = np.tri(x.shape[-2], dtype=bool)
        heads.append(
            oracles.attention(q[..., None, :, :], k[..., None, :, :], v[..., None, :, :], causal)[..., 0, :, :]
        )
    return np.concatenate(heads, -1) @ wo.T


@pytest.mark.parametrize("lead", LEADS)
def test_multihead_attention_is_causal_and_by_consecutive_heads(lead: tuple[int, ...]) -> None:
    weights, x = weights_of_attention(12), torch.randn(*lead, 5, 12)
    out = adapters.run_multihead_self_attention(12, 3, *weights, x)
    close(out, attention_by_hand(weights, array(x), 3, None, None))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("given", ["default", "shared", "each row"])
def test_multihead_attention_with_rope(lead: tuple[int, ...], given: str) -> None:
    weights, x = weights_of_attention(12), torch.randn(*lead, 5, 12)
    positions = {
        "default": None,
        "shared": torch.tensor([4, 9, 1, 0, 7]),
        "each row": torch.randint(20, (*lead, 5)),
    }[given]
    out = adapters.run_multihead_self_attention_with_rope(12, 3, 20, 10_000.0, *weights, x, positions)
    used = torch.arange(5) if positions is None else positions
    close(out, attention_by_hand(weights, array(x), 3, used, 10_000.0))


# The block and the language model


def weights_of_block(d_model: int, d_ff: int) -> dict[str, Tensor]:
    names = ["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.output_proj"]
    weights = dict(zip((f"{name}.weight" for name in names), weights_of_attention(d_model), strict=True))
    for name, shape in {"w1": (d_ff, d_model), "w2": (d_model, d_ff), "w3": (d_ff, d_model)}.items():
        weights[f"ffn.{name}.weight"] = torch.randn(shape) / math.sqrt(shape[1])
    return weights | {"ln1.weight": torch.randn(d_model), "ln2.weight": torch.randn(d_model)}


def block_by_hand(weights: dict[str, Tensor], x: Array, n_heads: int, theta: float) -> Array:
    """y = x + MHA(ln1 x); y + FFN(ln2 y)."""
    attn = [weights[f"attn.{name}_proj.weight"] for name in ("q", "k", "v", "output")]
    w1, w2, w3 = (array(weights[f"ffn.w{i}.weight"]) for i in (1, 2, 3))
    normed = oracles.rms_norm(x, array(weights["ln1.weight"]), 1e-5)
    y = x + attention_by_hand(attn, normed, n_heads, np.arange(x.shape[-2]), theta)
    normed = oracles.rms_norm(y, array(weights["ln2.weight"]), 1e-5)
    return y + (oracles.silu(normed @ w1.T) * (normed @ w3.T)) @ w2.T


def test_a_block_is_pre_norm() -> None:
    weights, x = weights_of_block(12, 20), torch.randn(2, 5, 12)
    close(adapters.run_transformer_block(12, 3, 20, 8, 500.0, weights, x), block_by_hand(weights, array(x), 3, 500.0))


def weights_of_model(n_layers: int) -> dict[str, Tensor]:
    weights = {
        f"layers.{i}.{name}": tensor for i in range(n_layers) for name, tensor in weights_of_block(12, 20).items()
    }
    outer = {"token_embeddings.weight": (17, 12), "ln_final.weight": (12,), "lm_head.weight": (17, 12)}
    return weights | {name: torch.randn(shape) for name, shape in outer.items()}


def model_by_hand(weights: dict[str, Tensor], tokens: Tensor, n_layers: int) -> Array:
    x = array(weights["token_embeddings.weight"])[tokens.numpy()]
    for i in range(n_layers):
        prefix = f"layers.{i}."
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        x = block_by_hand(own, x, 3, 10_000.0)
    x = oracles.rms_norm(x, array(weights["ln_final.weight"]), 1e-5)
    return x @ array(weights["lm_head.weight"]).T


@pytest.mark.parametrize("length", [1, 5, 8], ids=lambda length: f"{length} of 8 tokens")
def test_a_language_model_gives_unnormalised_logits_for_texts_up_to_the_context(length: int) -> None:
    weights, tokens = weights_of_model(3), torch.randint(17, (2, length))
    logits = adapters.run_transformer_lm(17, 8, 12, 3, 3, 20, 10_000.0, weights, tokens)
    assert logits.shape == (2, length, 17)
    assert_close(logits, model_by_hand(weights, tokens, 3), COURSE_MODEL)


def test_the_course_names_every_weight_of_the_model_and_no_other() -> None:
    config = CS336Config(
        vocab_size=17, context_length=8, d_model=12, n_layers=2, n_heads=3, d_ff=20, rope_style="interleaved"
    )
    assert set(adapters.renamed(weights_of_model(2))) == set(CS336(config).state_dict())


def test_a_weight_with_a_wrong_name_is_not_passed_over() -> None:
    weights = weights_of_model(1)
    weights["layers.0.ln3.weight"] = weights.pop("layers.0.ln2.weight")
    with pytest.raises(RuntimeError, match="ln3"):
        adapters.run_transformer_lm(17, 8, 12, 1, 3, 20, 10_000.0, weights, torch.zeros(1, 2, dtype=torch.long))
