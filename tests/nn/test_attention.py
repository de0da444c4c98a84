"""The module around attention, against torch.nn.MultiheadAttention and against the same steps in numpy float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassformer.nn import mask
from glassformer.nn.attention import Attention, merge_heads, split_heads
from glassformer.nn.mask import Mask
from glassformer.nn.memory import LayerMemory
from glassformer.nn.norm import RMSNorm
from glassformer.nn.rope import RoPE
from glassformer.twins import use
from support import oracles
from support.oracles import array
from support.tolerances import assert_close


def torchs(ours: Attention, d_model: int) -> nn.MultiheadAttention:
    """torch's module with our weights."""
    theirs = nn.MultiheadAttention(d_model, ours.n_heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
        for projection in (ours.q_proj, ours.k_proj, ours.v_proj, ours.o_proj):
            nn.init.normal_(projection.bias)
        theirs.in_proj_bias.copy_(torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]))
        theirs.out_proj.weight.copy_(ours.o_proj.weight)
        theirs.out_proj.bias.copy_(ours.o_proj.bias)
    return theirs


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_is_torchs(causal: bool, mode: str) -> None:
    ours, x = Attention(12, 3), torch.randn(2, 5, 12)
    theirs = torchs(ours, 12)
    hidden = ~torch.ones(5, 5, dtype=torch.bool).tril() if causal else None
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    with use(mode):
        assert_close(ours(x, Mask.over(mask.Causal() if causal else mask.Everything(), 5)), expected)


@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_cross_attention_takes_keys_and_values_from_the_memory(mode: str) -> None:
    ours, x, memory = Attention(12, 3), torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    theirs = torchs(ours, 12)
    short = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    expected, _ = theirs(x, memory, memory, key_padding_mask=short, need_weights=False)
    keys = torch.arange(7).where(~short, -1)[:, None]
    with use(mode):
        out = ours(x, Mask(rule=mask.Everything(), queries=torch.arange(5), keys=keys), memory=LayerMemory(memory))
    assert_close(out, expected)


def test_keys_and_values_of_a_memory_are_computed_once() -> None:
    attn, memory = Attention(12, 3), LayerMemory(torch.randn(2, 7, 12))
    calls: list[int] = []
    attn.k_proj.register_forward_hook(lambda *_: calls.append(1))
    over, x = Mask.between(mask.Everything(), 4, 7), torch.randn(2, 4, 12)
    whole = attn(x, over, memory=memory)
    for t in range(4):
        now = Mask.between(mask.Everything(), 1, 7)
        assert_close(attn(x[:, t : t + 1], now, memory=memory), whole[:, t : t + 1])
    assert len(calls) == 1


def by_hand(attn: Attention, x: oracles.Array, style: str | None, positions: object) -> oracles.Array:
    """Head by head: head h is rows h · D … (h + 1) · D of its projection, and reads key head h // group."""
    d = attn.d_head
    q, k, v = (x @ array(p.weight).T for p in (attn.q_proj, attn.k_proj, attn.v_proj))
    heads = []
    for h in range(attn.n_heads):
        g = h // (attn.n_heads // attn.n_kv_heads)
        one_q, one_k, one_v = q[..., h * d : (h + 1) * d], k[..., g * d : (g + 1) * d], v[..., g * d : (g + 1) * d]
        if style is not None:
            frequencies = oracles.rope_frequencies(d, 10_000.0)
            one_q = oracles.rope(one_q, positions, frequencies, style)
            one_k = oracles.rope(one_k, positions, frequencies, style)
        allowed = np.tri(x.shape[-2], dtype=bool)
        heads.append(oracles.attention(one_q[..., None, :, :], one_k[..., None, :, :], one_v[..., None, :, :], allowed))
    return np.concatenate(heads, -1)[..., 0, :, :] @ array(attn.o_proj.weight).T


@pytest.mark.parametrize("style", [None, "half", "interleaved"])
@pytest.mark.parametrize(("n_kv_heads", "d_head"), [(4, None), (2, None), (1, None), (2, 6)])
def test_heads_are_consecutive_rows_and_groups_share_keys(
    n_kv_heads: int, d_head: int | None, style: str | None
) -> None:
    attn = Attention(16, 4, n_kv_heads=n_kv_heads, d_head=d_head, bias=False)
    x, positions = torch.randn(2, 5, 16), torch.tensor([3, 4, 5, 6, 90])
    rotation = None if style is None else RoPE(d_head=attn.d_head, style=style)(positions)
    out = attn(x, Mask.over(mask.Causal(), 5), rotation=rotation)
    assert_close(out, by_hand(attn, array(x), style, positions))


def test_heads_are_normalised_before_they_are_turned_and_scores_scaled_and_capped() -> None:
    q_norm, k_norm = RMSNorm(4), RMSNorm(4)
    for norm in (q_norm, k_norm):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    attn = Attention(16, 4, n_kv_heads=2, bias=False, q_norm=q_norm, k_norm=k_norm, scale=0.3, softcap=1.1).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    rotation = RoPE(d_head=4)(torch.arange(5))
    q, k, v = (array(x) @ array(projection.weight).T for projection in (attn.q_proj, attn.k_proj, attn.v_proj))
    q, k, v = (part.reshape(2, 5, -1, 4).swapaxes(1, 2) for part in (q, k, v))
    q, k = oracles.rms_norm(q, array(q_norm.weight), 1e-5), oracles.rms_norm(k, array(k_norm.weight), 1e-5)
    q, k = (oracles.rope(part, np.arange(5), oracles.rope_frequencies(4, 10_000.0), "half") for part in (q, k))
    heads = oracles.attention(q, k, v, np.tri(5, dtype=bool), scale=0.3, softcap=1.1)
    expected = heads.swapaxes(1, 2).reshape(2, 5, 16) @ array(attn.o_proj.weight).T
    for mode in ("readable", "fast"):
        with use(mode):
            assert_close(attn(x, Mask.over(mask.Causal(), 5), rotation=rotation), expected)


def test_grouped_queries_equal_full_heads_with_repeated_keys() -> None:
    grouped, whole = Attention(16, 4, n_kv_heads=2), Attention(16, 4)
    weights: dict[str, Tensor] = dict(grouped.state_dict())
    for name in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        weights[name] = weights[name].unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1)
    whole.load_state_dict(weights)
    x, over = torch.randn(2, 5, 16), Mask.over(mask.Causal(), 5)
    assert_close(grouped(x, over), whole(x, over))


def test_without_mask_and_positions_an_order_of_the_tokens_only_orders_the_output() -> None:
    attn, x, order = Attention(12, 3).double(), torch.randn(2, 7, 12, dtype=torch.float64), torch.randperm(7)
    over = Mask.over(mask.Everything(), 7)
    assert_close(attn(x[:, order], over), attn(x, over)[:, order])


def test_a_text_without_a_batch_axis_is_attended_too() -> None:
    attn, x, over = Attention(12, 3), torch.randn(5, 12), Mask.over(mask.Causal(), 5)
    assert_close(attn(x, over), attn(x[None], over)[0])


def test_dropout_acts_while_training_alone() -> None:
    attn, x, over = Attention(12, 3, dropout=0.5), torch.randn(2, 5, 12), Mask.over(mask.Causal(), 5)
    assert not torch.equal(attn(x, over), attn(x, over))
    attn.eval()
    assert torch.equal(attn(x, over), attn(x, over))


def test_merging_undoes_splitting() -> None:
    x = torch.arange(2 * 5 * 12).reshape(2, 5, 12).float()
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    assert torch.equal(heads[1, 2, 3], x[1, 3, 8:12])
    assert torch.equal(merge_heads(heads), x)
