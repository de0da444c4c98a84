"""Single files of weights: llama2.c's .bin, minGPT's .json and nanoGPT's ckpt.pt, made here from known models."""

import base64
import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints.hostile import refused
from glassformer import checkpoints
from glassformer.checkpoints.names import to_theirs
from glassformer.errors import GlassformerError
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig

LLAMA = LlamaConfig(
    vocab_size=7, context_length=6, d_model=8, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=5, rope_style="interleaved"
)
NANO = GPT2Config(vocab_size=3, context_length=6, d_model=8, n_layers=2, n_heads=2, tied_head=False)


def as_llama2c(model: Llama, *, size: tuple[int, ...] | None = None) -> bytes:
    """`legacy_export` of llama2.c's export.py, written down from there."""
    config = model.config
    vocab_size = config.vocab_size if config.tied_head else -config.vocab_size
    header = (config.d_model, config.d_ff, config.n_layers, config.n_heads, config.n_kv_heads, vocab_size, 6)
    blocks: Any = model.blocks
    table = torch.zeros(config.context_length, config.d_head // 2)
    tensors = [
        model.token_embedding.weight,
        *(block.attn_norm.weight for block in blocks),
        *(block.attn.q_proj.weight for block in blocks),
        *(block.attn.k_proj.weight for block in blocks),
        *(block.attn.v_proj.weight for block in blocks),
        *(block.attn.o_proj.weight for block in blocks),
        *(block.mlp_norm.weight for block in blocks),
        *(block.mlp.gate_proj.weight for block in blocks),
        *(block.mlp.down_proj.weight for block in blocks),
        *(block.mlp.up_proj.weight for block in blocks),
        model.final_norm.weight,
        table,
        table,
        *([] if config.tied_head else [model.lm_head.weight]),
    ]
    data = b"".join(tensor.detach().numpy().astype("<f4").tobytes() for tensor in tensors)
    return struct.pack("<7i", *(size or header)) + data


def as_llama2c_of_version_1(model: Llama, *, version: int = 1) -> bytes:
    """`version1_export` of the same file."""
    config, blocks = model.config, list(model.blocks)
    tensors = [block.attn_norm.weight for block in blocks] + [block.mlp_norm.weight for block in blocks]
    tensors += [model.final_norm.weight, model.token_embedding.weight]
    for name in "qkvo":
        tensors += [getattr(block.attn, f"{name}_proj").weight for block in blocks]
    for name in ("gate", "down", "up"):
        tensors += [getattr(block.mlp, f"{name}_proj").weight for block in blocks]
    if not config.tied_head:
        tensors.append(model.lm_head.weight)
    sizes = (config.d_model, config.d_ff, config.n_layers, config.n_heads, config.n_kv_heads, config.vocab_size, 6)
    header = struct.pack("<Ii7iB", 0x616B3432, version, *sizes, config.tied_head).ljust(256, b"\0")
    return header + b"".join(tensor.detach().numpy().astype("<f4").tobytes() for tensor in tensors)


def linear_layout(model: GPT2) -> dict[str, Tensor]:
    """minGPT's and nanoGPT's state dict: Hugging Face's names, torch's (d_out, d_in), and masks."""
    state = to_theirs({name: p.detach() for name, p in model.named_parameters()}, model.config)
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    state = {name: tensor.mT.contiguous() if name.endswith(turned) else tensor for name, tensor in state.items()}
    return {**state, "transformer.h.0.attn.bias": torch.ones(1, 1, 6, 6)}


def as_mingpt(model: GPT2, **changes: object) -> dict[str, Any]:
    def text(tensor: Tensor) -> dict[str, Any]:
        data = base64.b64encode(tensor.numpy().tobytes()).decode()
        return {"shape": list(tensor.shape), "dtype": "torch.float32", "data": data}

    c = model.config
    sizes = {"n_layer": c.n_layers, "n_head": c.n_heads, "n_embd": c.d_model, "vocab_size": c.vocab_size}
    config = {"model_type": "gpt-nano", **sizes, "block_size": c.context_length, "resid_pdrop": 0.1, **changes}
    return {"config": config, **{name: text(tensor) for name, tensor in linear_layout(model).items()}}


def as_nanogpt(model: GPT2, *, bias: bool = True, prefix: str = "_orig_mod.") -> dict[str, Any]:
    c = model.config
    sizes = {"n_layer": c.n_layers, "n_head": c.n_heads, "n_embd": c.d_model, "vocab_size": c.vocab_size}
    state = linear_layout(model)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    if not bias:
        state = {name: tensor for name, tensor in state.items() if not name.endswith(".bias")}
    return {
        "model": {prefix + name: tensor for name, tensor in state.items()},
        "model_args": {**sizes, "block_size": c.context_length, "bias": bias, "dropout": 0.2},
        "optimizer": {"state": {}},
        "iter_num": 2000,
        "config": {"dataset": "shakespeare"},
    }


def same(model: nn.Module, other: nn.Module) -> bool:
    before, after = dict(model.named_parameters()), dict(other.named_parameters())
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("written", [as_llama2c, as_llama2c_of_version_1])
@pytest.mark.parametrize("tied_head", [False, True])
def test_llama2c_is_read_weight_for_weight(tied_head: bool, written: Callable[[Llama], bytes], tmp_path: Path) -> None:
    model = Llama(replace(LLAMA, tied_head=tied_head))
    (tmp_path / "model.bin").write_bytes(written(model))
    found = checkpoints.load(tmp_path / "model.bin")
    assert found.config == model.config
    assert same(model, found.module)
    assert found.tokenizer is None


def test_mingpt_is_read_weight_for_weight(tmp_path: Path) -> None:
    model = GPT2(NANO)
    (tmp_path / "model.json").write_text(json.dumps(as_mingpt(model)))
    found = checkpoints.load(tmp_path / "model.json")
    assert found.config == replace(NANO, dropout=0.1)
    assert same(model, found.module)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@torch.no_grad()
def test_nanogpt_is_read_weight_for_weight(bias: bool, prefix: str, tmp_path: Path) -> None:
    model = GPT2(replace(NANO, activation="gelu", tied_head=True, dropout=0.2)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) * bias)
    torch.save(as_nanogpt(model, bias=bias, prefix=prefix), tmp_path / "ckpt.pt")
    found = checkpoints.load(tmp_path / "ckpt.pt", from_pickle=True)
    assert found.config == model.config
    assert same(model, found.module)


@torch.no_grad()
def test_what_is_imported_can_be_exported(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(as_llama2c(Llama(LLAMA)))
    imported = checkpoints.load(tmp_path / "model.bin")
    again = checkpoints.load(checkpoints.save(imported.module, tmp_path / "folder"))
    assert same(imported.module, again.module)


LIES: dict[str, tuple[int, ...]] = {
    "10^9 layers": (8, 5, 10**9, 4, 2, 7, 6),
    "negative layers": (8, 5, -2, 4, 2, 7, 6),
    "no width": (0, 5, 2, 4, 2, 7, 6),
    "negative width": (-8, 5, 2, 4, 2, 7, 6),
    "all sizes at the limit": (2**31 - 1,) * 7,
    "all sizes negative": (-(2**31),) * 7,
    "heads that do not divide": (8, 5, 2, 3, 1, 7, 6),
    "key heads that do not divide": (8, 5, 2, 4, 3, 7, 6),
    "no heads": (8, 5, 2, 0, 0, 7, 6),
    "no key heads": (8, 5, 2, 4, 0, 7, 6),
    "no vocabulary": (8, 5, 2, 4, 2, 0, 6),
    "a larger vocabulary": (8, 5, 2, 4, 2, 70, 6),
    "no context": (8, 5, 2, 4, 2, 7, 0),
    "a longer context": (8, 5, 2, 4, 2, 7, 2**30),
    "the beginning of another version": (0x616B3432, 1, 8, 5, 2, 4, 2),
}


@pytest.mark.parametrize("size", LIES.values(), ids=LIES.keys())
def test_a_llama2c_header_that_lies_is_refused(size: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(as_llama2c(Llama(replace(LLAMA, tied_head=True)), size=size))
    with refused(tmp_path / "model.bin"):
        checkpoints.load(tmp_path / "model.bin")


@pytest.mark.parametrize("length", [0, 1, 27, 28, 100, -1, -4])
def test_a_llama2c_file_cut_short_is_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(as_llama2c(Llama(LLAMA))[:length])
    with refused(tmp_path / "model.bin"):
        checkpoints.load(tmp_path / "model.bin")


def test_a_llama2c_file_of_another_version_is_refused_by_its_name(tmp_path: Path) -> None:
    for version in (0, 2, 3):
        (tmp_path / "model.bin").write_bytes(as_llama2c_of_version_1(Llama(LLAMA), version=version))
        with pytest.raises(GlassformerError, match=f"a llama2.c model of version {version}; those of version 1"):
            checkpoints.load(tmp_path / "model.bin")


@pytest.mark.parametrize("length", [4, 36, 255, 256, 1000, -1])
def test_a_llama2c_file_of_version_1_cut_short_is_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(as_llama2c_of_version_1(Llama(LLAMA))[:length])
    with refused(tmp_path / "model.bin"):
        checkpoints.load(tmp_path / "model.bin")


def test_a_llama2c_file_with_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(as_llama2c(Llama(LLAMA)) + b"\0")
    with refused(tmp_path / "model.bin"):
        checkpoints.load(tmp_path / "model.bin")


WPE = "transformer.wpe.weight"
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no config": lambda c: c.pop("config"),
    "config is a list": lambda c: c.update(config=[]),
    "config without a size": lambda c: c["config"].pop("n_head"),
    "a size of a float": lambda c: c["config"].update(n_layer=2.0),
    "a size of a text": lambda c: c["config"].update(n_layer="2"),
    "a size of true": lambda c: c["config"].update(n_layer=True),
    "a size of 10^12": lambda c: c["config"].update(n_embd=10**12),
    "10^9 layers": lambda c: c["config"].update(n_layer=10**9),
    "dropout of a text": lambda c: c["config"].update(resid_pdrop="no"),
    "heads that do not divide": lambda c: c["config"].update(n_head=3),
    "a tensor that is a list": lambda c: c.update({WPE: [1, 2]}),
    "a tensor with no data": lambda c: c[WPE].pop("data"),
    "another dtype": lambda c: c[WPE].update(dtype="torch.float64"),
    "data that is no text": lambda c: c[WPE].update(data=[0, 1]),
    "data that is no base64": lambda c: c[WPE].update(data="?" * 256),
    "data that is not ASCII": lambda c: c[WPE].update(data="é" * 256),
    "data cut short": lambda c: c[WPE].update(data=c[WPE]["data"][:-4]),
    "a negative shape": lambda c: c[WPE].update(shape=[-6, -8]),
    "a shape that overflows": lambda c: c[WPE].update(shape=[2**30, 2**30, 2**30]),
    "a shape of a float": lambda c: c[WPE].update(shape=[6.0, 8]),
    "a shape of a text": lambda c: c[WPE].update(shape="6,8"),
    "another shape": lambda c: c[WPE].update(shape=[8, 6]),
    "a missing tensor": lambda c: c.pop(WPE),
    "a tensor too many": lambda c: c.update({"more": c[WPE]}),
    "NaN": lambda c: c[WPE].update(data=base64.b64encode(b"\xff" * 192).decode()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_mingpt_file_that_lies_is_refused(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    content = as_mingpt(GPT2(NANO))
    change(content)
    (tmp_path / "model.json").write_text(json.dumps(content))
    with refused(tmp_path / "model.json"):
        checkpoints.load(tmp_path / "model.json")


@pytest.mark.parametrize("make", ["bin", "json"])
def test_random_bytes_never_crash_a_reader(make: str, tmp_path: Path) -> None:
    model = Llama(LLAMA) if make == "bin" else GPT2(NANO)
    good = as_llama2c(model) if isinstance(model, Llama) else json.dumps(as_mingpt(model)).encode()
    choose, path = random.Random(0), tmp_path / f"model.{make}"
    for _ in range(100):
        spoiled = bytearray(good)
        for _ in range(choose.choice([1, 3])):
            spoiled[choose.randrange(60 if choose.random() < 0.5 else len(spoiled))] = choose.randrange(256)
        path.write_bytes(spoiled)
        try:
            found = checkpoints.load(path)
        except GlassformerError:
            continue
        assert all(parameter.isfinite().all() for parameter in found.module.parameters())
