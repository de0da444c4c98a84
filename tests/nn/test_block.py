"""Residual blocks: where the norm stands."""

import pytest
import torch
from torch import nn

import oracles
from glassformer.nn import mask
from glassformer.nn.attention import Attention
from glassformer.nn.block import PostNormBlock, PreNormBlock, PreNormCrossBlock
from glassformer.nn.feedforward import MLP
from glassformer.nn.mask import Mask
from glassformer.nn.norm import LayerNorm
from oracles import array
from tolerances import assert_close

OVER = Mask.over(mask.causal, 5)


def block(kind: type[PreNormBlock], dropout: float = 0.0) -> PreNormBlock:
    return kind(LayerNorm(12), Attention(12, 3), LayerNorm(12), MLP(12, 20, "relu"), dropout=dropout)


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_a_block_is_torchs_encoder_layer(norm_first: bool) -> None:
    ours = block(PreNormBlock if norm_first else PostNormBlock)
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


def test_a_pre_norm_block_whose_sublayers_are_silent_passes_the_stream_unchanged() -> None:
    silent = block(PreNormBlock)
    for projection in (silent.attn.o_proj, silent.mlp.down_proj):
        nn.init.zeros_(projection.weight)
    x = torch.randn(2, 5, 12)
    assert torch.equal(silent(x, OVER), x)


def test_a_post_norm_block_whose_sublayers_are_silent_normalises_twice() -> None:
    silent = block(PostNormBlock)
    for projection in (silent.attn.o_proj, silent.mlp.down_proj):
        nn.init.zeros_(projection.weight)
    x = torch.randn(2, 5, 12)
    one, zero = array(torch.ones(12)), array(torch.zeros(12))
    assert_close(silent(x, OVER), oracles.layer_norm(oracles.layer_norm(array(x), one, zero, 1e-5), one, zero, 1e-5))


def test_dropout_of_sublayers_acts_while_training_alone() -> None:
    dropping, x = block(PreNormBlock, dropout=0.5), torch.randn(2, 5, 12)
    assert not torch.equal(dropping(x, OVER), dropping(x, OVER))
    assert torch.equal(dropping.eval()(x, OVER), dropping(x, OVER))


def test_a_block_with_a_memory_is_torchs_decoder_layer() -> None:
    attn, cross = Attention(12, 3), Attention(12, 3)
    ours = PreNormCrossBlock(LayerNorm(12), attn, LayerNorm(12), cross, LayerNorm(12), MLP(12, 20, "relu"))
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs = nn.TransformerDecoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=True)
    weights = {}
    for name, attention in {"self_attn": attn, "multihead_attn": cross}.items():
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        for part in ("weight", "bias"):
            weights[f"{name}.in_proj_{part}"] = torch.cat([getattr(projection, part) for projection in qkv])
            weights[f"{name}.out_proj.{part}"] = getattr(attention.o_proj, part)
    pairs = {"linear1": ours.mlp.up_proj, "linear2": ours.mlp.down_proj}
    pairs |= {"norm1": ours.attn_norm, "norm2": ours.cross_norm, "norm3": ours.mlp_norm}
    weights |= {f"{name}.{part}": getattr(layer, part) for name, layer in pairs.items() for part in ("weight", "bias")}
    theirs.load_state_dict(weights)
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    expected = theirs(x, memory, tgt_mask=~torch.ones(5, 5, dtype=torch.bool).tril())
    seen = Mask.between(mask.everything, 5, 7)
    assert_close(ours(x, OVER, memory=cross.keys_values(memory), memory_mask=seen), expected)
