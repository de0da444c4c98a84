"""Latent attention against its definition, in numpy float64, and what the cache keeps of a token."""

import numpy as np
import pytest
import torch
from torch import nn

from glassformer.nn import kv_cache, mask
from glassformer.nn.kv_cache import KVCache
from glassformer.nn.latent_attention import LatentAttention
from glassformer.nn.mask import Mask
from glassformer.nn.rope import RoPE
from support import oracles
from support.oracles import array

D_MODEL, HEADS, PLAIN, ROTARY, VALUE, RANK = 10, 3, 5, 4, 6, 7
ROPE = RoPE(d_head=ROTARY, style="interleaved", theta=50.0)


def attention(q_rank: int) -> LatentAttention:
    built = LatentAttention(
        D_MODEL, HEADS, d_plain=PLAIN, d_rotary=ROTARY, d_value=VALUE, kv_rank=RANK, q_rank=q_rank, scale=0.6
    ).double()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            nn.init.normal_(parameter, std=1.0 if "norm" in name else 0.6)
    return built.requires_grad_(False)


def by_definition(attn: LatentAttention, x: np.ndarray) -> np.ndarray:
    """Head by head and query by query, DeepSeek-V2's eq. 9 to 19."""
    w = {name.removesuffix(".weight"): array(tensor) for name, tensor in attn.state_dict().items()}
    places = range(len(x))

    def turn(vectors: np.ndarray) -> np.ndarray:
        return oracles.rope(vectors, places, array(ROPE.frequencies()), ROPE.style)

    latent = oracles.rms_norm(x @ w["kv_down_proj"].T, w["kv_norm"], 1e-6)
    shared = turn(x @ w["k_rotary_proj"].T)
    if "q_proj" in w:
        queries = x @ w["q_proj"].T
    else:
        queries = oracles.rms_norm(x @ w["q_down_proj"].T, w["q_norm"], 1e-6) @ w["q_up_proj"].T
    heads = []
    for h in range(HEADS):
        q = queries[:, h * (PLAIN + ROTARY) : (h + 1) * (PLAIN + ROTARY)]
        k = latent @ w["k_up_proj"][h * PLAIN : (h + 1) * PLAIN].T
        v = latent @ w["v_up_proj"][h * VALUE : (h + 1) * VALUE].T
        scores = 0.6 * (q[:, :PLAIN] @ k.T + turn(q[:, PLAIN:]) @ shared.T)
        heads.append(np.stack([oracles.softmax(scores[t, : t + 1]) @ v[: t + 1] for t in places]))
    return np.concatenate(heads, 1) @ w["o_proj"].T


@pytest.mark.parametrize("q_rank", [0, 8])
def test_heads_read_one_latent_and_one_rotated_key(q_rank: int) -> None:
    attn, x = attention(q_rank), torch.randn(6, D_MODEL, dtype=torch.float64)
    out = attn(x[None], Mask.over(mask.Causal(), 6), rotation=ROPE(torch.arange(6)[None]))
    np.testing.assert_allclose(array(out[0]), by_definition(attn, array(x)), atol=1e-12)


@pytest.mark.parametrize("policy", [kv_cache.full(20), kv_cache.window(4)], ids=str)
def test_a_cache_keeps_the_latent_and_the_shared_key_and_gives_what_the_whole_text_does(
    policy: kv_cache.Policy,
) -> None:
    attn, x = attention(8), torch.randn(2, 12, D_MODEL, dtype=torch.float64)
    whole = attn(x, Mask.over(policy.rule, 12), rotation=ROPE(torch.arange(12)[None]))
    state, pieces = KVCache(1, policy, ROPE), []
    for piece in torch.tensor_split(x, [3, 4], dim=1) if policy.name == "full" else x.split(1, dim=1):
        step = state.step(torch.zeros(piece.shape[:2], dtype=torch.long))
        (layer,) = step.layers
        pieces.append(attn(piece, layer.mask, rotation=ROPE(step.positions.unsqueeze(-2)), cache=layer.cache))
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    keys, values = state.layers[0].buffers
    assert (keys.shape[1], keys.shape[3]) == (1, ROTARY)
    assert (values.shape[1], values.shape[3]) == (1, RANK)


def test_sinks_close_up_to_what_is_left_of_the_text() -> None:
    attn, x = attention(0), torch.randn(1, 12, D_MODEL, dtype=torch.float64)
    state = KVCache(1, kv_cache.sinks(2, 3), ROPE)
    for t in range(12):
        step = state.step(torch.zeros(1, 1, dtype=torch.long))
        (layer,) = step.layers
        out = attn(x[:, t : t + 1], layer.mask, rotation=ROPE(step.positions.unsqueeze(-2)), cache=layer.cache)
    held = [0, 1, 9, 10, 11]
    np.testing.assert_allclose(array(out[0, 0]), by_definition(attn, array(x[0, held]))[-1], atol=1e-12)
