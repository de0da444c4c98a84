"""Models that are no language models are recorded and explained like them: every number follows from its operands."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import glassformer as gf
from glassformer.inference.recorded_call import call_of
from glassformer.models.bert import Bert, BertConfig
from glassformer.models.vit import ViT, ViTConfig
from glassformer.nn.multihead import MultiheadAttention
from glassformer.tracing.recorder import record
from glassformer.twins import use
from support.counts import count
from support.tiny import TINY, inputs

Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
VIT = ViTConfig(
    image_size=(8, 12), patch_size=(4, 4), n_channels=2, n_classes=5, d_model=12, n_layers=2, n_heads=3,
    distillation="head",
)  # fmt: skip


def bert() -> Made:
    valid = torch.arange(6) < torch.tensor([6, 4])[:, None]
    model = Bert(BertConfig(vocab_size=13, context_length=16, d_model=12, n_layers=2, n_heads=3))
    return model, (torch.randint(13, (2, 6)), valid), {}


def vit(height: int) -> Made:
    return ViT(VIT), (torch.randn(1, 2, height, 12),), {}


def multihead() -> Made:
    attention = MultiheadAttention(12, 3, batch_first=True, add_bias_kv=True, add_zero_attn=True)
    x, padding = torch.randn(2, 5, 12), torch.arange(5) >= torch.tensor([5, 3])[:, None]
    return attention, (x, x, x), {"attn_mask": torch.ones(5, 5).triu(1).bool(), "key_padding_mask": padding}


CASES: dict[str, Callable[[], Made]] = {
    "bert": bert,
    "vit": lambda: vit(8),
    "vit at another resolution": lambda: vit(16),
    "multihead": multihead,
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_every_number_follows_from_its_operands(make: Callable[[], Made]) -> None:
    module, inputs, keywords = make()
    report = gf.trace(module.eval(), *inputs, **keywords).check(cells=count("cells of a model"), seed=0)
    assert report.checked >= min(count("cells of a model"), report.total)
    assert not report.failures


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("name", ["transformer", "bart", "t5"])
def test_every_number_of_an_encoder_decoder_follows_from_its_operands(name: str, mode: str) -> None:
    model = gf.build(name, **TINY[name])
    with use(mode):
        trace = record(model.module, *inputs(model), call=call_of(model.module))
    report = trace.check(cells=count("cells of a model"), seed=0)
    assert report.checked >= min(count("cells of a model"), report.total)
    assert not report.failures
