"""Residual blocks: where the norm stands."""

from typing import Literal

import pytest
import torch
from torch import nn

from glassformer.nn import mask
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock, NormPlacement, ParallelBlock, SandwichBlock
from glassformer.nn.feedforward import MLP
from glassformer.nn.mask import Mask
from glassformer.nn.memory import LayerMemory
from glassformer.nn.norm import LayerNorm
from support import oracles
from support.oracles import array
from support.tolerances import assert_close

OVER = Mask.over(mask.Causal(), 5)


def block(norm_placement: NormPlacement, dropout: float = 0.0) -> Block:
    attn, mlp = Attention(12, 3), MLP(12, 20, "relu")
    return Block(LayerNorm(12), attn, LayerNorm(12), mlp, norm_placement=norm_placement, dropout=dropout)


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_a_block_is_torchs_encoder_layer(norm_first: bool) -> None:
    ours = block("pre" if norm_first else "post")
    theirs = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=norm_first)
    attn = ours.attn
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight]),
            "self_attn.in_proj_bias": torch.cat([attn.q_proj.bias, attn.k_proj.bias, attn.v_proj.bias]),
            "self_attn.out_proj.weight": attn.o_proj.weight,
            "self_attn.out_proj.bias": attn.o_proj.bias,
            "linear1.weight": ours.mlp.up_proj.weight,
            "linear1.bias": ours.mlp.up_proj.bias,
            "linear2.weight": ours.mlp.down_proj.weight,
            "linear2.bias": ours.mlp.down_proj.bias,
            "norm1.weight": ours.attn_norm.weight,
            "norm1.bias": ours.attn_norm.bias,
            "norm2.weight": ours.mlp_norm.weight,
            "norm2.bias": ours.mlp_norm.bias,
        }
    )
    x = torch.randn(2, 5, 12)
    hidden = ~torch.ones(5, 5, dtype=torch.bool).tril()
    assert_close(ours(x, OVER), theirs(x, src_mask=hidden))


def test_a_sandwich_block_adds_the_norm_of_what_each_sublayer_makes_of_a_norm() -> None:
    norms = [LayerNorm(12) for _ in range(4)]
    for norm in norms:
        norm.load_state_dict({"weight": torch.randn(12), "bias": torch.randn(12)})
    attn, mlp, x = Attention(12, 3), MLP(12, 20, "relu"), torch.randn(2, 5, 12)
    after_attention = x + norms[1](attn(norms[0](x), OVER))
    expected = after_attention + norms[3](mlp(norms[2](after_attention)))
    assert_close(SandwichBlock(norms[0], attn, norms[1], norms[2], mlp, norms[3])(x, OVER), expected)


def test_what_both_sublayers_of_a_parallel_block_add_is_multiplied() -> None:
    norms, attn, mlp, x = [LayerNorm(12), LayerNorm(12)], Attention(12, 3), MLP(12, 20, "relu"), torch.randn(2, 5, 12)
    ours = ParallelBlock(norms[0], attn, norms[1], mlp, norm_placement="pre", residual_multiplier=0.22)
    assert_close(ours(x, OVER), x + 0.22 * attn(norms[0](x), OVER) + 0.22 * mlp(norms[1](x)))


def cross_block(norm_placement: Literal["pre", "post"]) -> CrossBlock:
    return CrossBlock(
        LayerNorm(12),
        Attention(12, 3),
        LayerNorm(12),
        Attention(12, 3),
        LayerNorm(12),
        MLP(12, 20, "relu"),
        norm_placement=norm_placement,
    )


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_a_block_with_a_memory_is_torchs_decoder_layer(norm_first: bool) -> None:
    ours = cross_block("pre" if norm_first else "post")
    theirs = nn.TransformerDecoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=norm_first)
    weights = {
        "linear1.weight": ours.mlp.up_proj.weight,
        "linear1.bias": ours.mlp.up_proj.bias,
        "linear2.weight": ours.mlp.down_proj.weight,
        "linear2.bias": ours.mlp.down_proj.bias,
    }
    for name, attn in {"self_attn": ours.attn, "multihead_attn": ours.cross_attn}.items():
        for kind in ("weight", "bias"):
            parts = [getattr(projection, kind) for projection in (attn.q_proj, attn.k_proj, attn.v_proj)]
            weights[f"{name}.in_proj_{kind}"] = torch.cat(parts)
            weights[f"{name}.out_proj.{kind}"] = getattr(attn.o_proj, kind)
    norms = (ours.attn_norm, ours.cross_norm, ours.mlp_norm)
    for number, norm in enumerate(norms, start=1):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        weights |= {f"norm{number}.weight": norm.weight, f"norm{number}.bias": norm.bias}
    theirs.load_state_dict(weights)
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    hidden = ~torch.ones(5, 5, dtype=torch.bool).tril()
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    keys = torch.arange(7).where(~padding, -1)[:, None]
    over = Mask(rule=mask.Everything(), queries=torch.arange(5), keys=keys)
    expected = theirs(x, memory, tgt_mask=hidden, memory_key_padding_mask=padding)
    assert_close(ours(x, OVER, LayerMemory(memory), over), expected)


@pytest.mark.parametrize("norm_placement", ["pre", "res-post"])
def test_a_block_whose_sublayers_are_silent_passes_the_stream_unchanged(norm_placement: NormPlacement) -> None:
    silent = block(norm_placement)
    for projection in (silent.attn.o_proj, silent.mlp.down_proj):
        nn.init.zeros_(projection.weight)
    x = torch.randn(2, 5, 12)
    assert torch.equal(silent(x, OVER), x)


def test_a_post_norm_block_whose_sublayers_are_silent_normalises_twice() -> None:
    silent = block("post")
    for projection in (silent.attn.o_proj, silent.mlp.down_proj):
        nn.init.zeros_(projection.weight)
    x = torch.randn(2, 5, 12)
    one, zero = array(torch.ones(12)), array(torch.zeros(12))
    assert_close(silent(x, OVER), oracles.layer_norm(oracles.layer_norm(array(x), one, zero, 1e-5), one, zero, 1e-5))


def test_a_res_post_norm_block_adds_columns_of_one_size_however_loud_its_sublayers_are() -> None:
    loud, x = block("res-post"), torch.randn(2, 5, 12)
    for projection in (loud.attn.o_proj, loud.mlp.down_proj):
        projection.weight.data *= 1000
    one, zero = array(torch.ones(12)), array(torch.zeros(12))
    middle = array(x) + oracles.layer_norm(array(loud.attn(x, OVER)), one, zero, 1e-5)
    added = oracles.layer_norm(array(loud.mlp(torch.from_numpy(middle).float())), one, zero, 1e-5)
    assert_close(loud(x, OVER), middle + added)


def test_dropout_of_sublayers_acts_while_training_alone() -> None:
    dropping, x = block("pre", dropout=0.5), torch.randn(2, 5, 12)
    assert not torch.equal(dropping(x, OVER), dropping(x, OVER))
    assert torch.equal(dropping.eval()(x, OVER), dropping(x, OVER))
