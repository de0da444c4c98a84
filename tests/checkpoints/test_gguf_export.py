"""GGUF files that we write, read by the library `gguf`, by `transformers` and by ourselves."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

import glassformer as gf
from checkpoints.test_gguf import TEXTS, byte_level, sentencepiece_tokens
from glassformer import checkpoints
from glassformer.checkpoints.ggml_blocks import to_q8_0
from glassformer.errors import CheckpointCorrupt, ConfigError, ExportError
from glassformer.nn.rope import RopeScaling
from glassformer.tokenizers import SentencePieceTokenizer, Tokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer
from support import llama_cpp
from support.commands import run
from support.gguf_models import NORMAL, UNUSED, write_llama

SIZES = {"vocab_size": 300, "context_length": 32, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 96}
# For `transformers` the heads of a Qwen3 in GGUF are always 128 wide, all sizes of a GPT-2 but three its first one's.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "n_kv_heads": 2, "tied_head": True, "rope_theta": 500.0},
    "mistral": {**SIZES, "n_kv_heads": 2, "rope_theta": 500.0},
    "qwen2": {**SIZES, "n_kv_heads": 2},
    "qwen3": {**SIZES, "n_kv_heads": 2, "d_head": 128},
    "phi3": {**SIZES, "n_kv_heads": 2, "vocab_size": 32064},
    "gemma2": {**SIZES, "n_kv_heads": 2, "d_head": 256, "query_scalar": 256, "sliding_windows": [4, 0]},
    "gemma3": {**SIZES, "n_kv_heads": 2, "d_head": 256, "query_scalar": 256, "sliding_windows": [4]},
    "gpt2": {**SIZES, "d_ff": 256, "context_length": 1024, "vocab_size": 50257},
}


CONTINUED = MODELS | {
    "olmo2": {**SIZES, "n_kv_heads": 2},
    "smollm3": {**SIZES, "n_kv_heads": 2},
    "granite": {**SIZES, "n_kv_heads": 2},
    "gpt_neox": SIZES,
    "mixtral": {**SIZES, "n_kv_heads": 2, "experts": {"n": 4, "top_k": 2}},
    "qwen3_moe": {**SIZES, "n_kv_heads": 2, "experts": {"n": 4, "top_k": 2, "norm_top_k": True}},
}
T5_SIZES = {"vocab_size": 60, "d_model": 32, "d_head": 8, "d_ff": 64, "n_heads": 2}


def built(name: str) -> gf.Model:
    model = gf.build(name, **MODELS[name], seed=1)
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_what_is_written_is_read_by_transformers_with_our_logits(tmp_path: Path, name: str, kind: str) -> None:
    path = checkpoints.save_gguf(built(name).checkpoint, tmp_path / "m.gguf", kind=kind)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).eval()
    tokens = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(1))
    ours = checkpoints.load(path)
    with torch.no_grad():
        torch.testing.assert_close(ours.module(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
        wanted = built(name).module(tokens)
        allowed = {"f32": 1e-5, "f16": 0.05, "q8_0": 1.0}[kind] * float(wanted.std())
        torch.testing.assert_close(ours.module(tokens), wanted, rtol=0, atol=allowed)


LONGROPE = {"kind": "longrope", "short_factors": [1.1] * 8, "long_factors": [1.0800000429153442] * 8}
SCALINGS = [
    ("llama", {"kind": "llama3", "factor": 32.0}),
    ("llama", {"kind": "llama3", "factor": 3.3, "original_context_length": 64}),
    ("llama", {"kind": "linear", "factor": 2.5}),
    ("phi3", {**LONGROPE, "factor": 4.0, "original_context_length": 8}),
    ("phi3", {**LONGROPE, "factor": 1.0, "original_context_length": 8192, "attention_factor": 1.3}),
    ("qwen2", {"kind": "yarn", "factor": 4.0, "original_context_length": 8}),
    ("llama", {"kind": "yarn", "factor": 3.3, "original_context_length": 8, "beta_fast": 8.0, "beta_slow": 0.5}),
]


@pytest.mark.parametrize(("name", "scaling"), SCALINGS, ids=str)
def test_rotary_scalings_are_written_and_read(tmp_path: Path, name: str, scaling: dict[str, Any]) -> None:
    sizes = {**MODELS[name], "rope_theta": 500_000.0} | ({"d_head": 64} if name != "phi3" else {})
    model = gf.build(name, **sizes, rope_scaling=scaling)
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    again = gf.load(path)
    if name == "phi3":  # whose factors are rounded to float32
        assert again.config.rope_scaling.long_factors == pytest.approx(scaling["long_factors"])
        assert again.config.rope_scaling.attention_factor == pytest.approx(scaling.get("attention_factor"))
    else:
        assert again.config == replace(model.config, rope_style=again.config.rope_style)
    tokens = torch.randint(300, (2, 30))
    torch.testing.assert_close(again(tokens), model(tokens))
    written = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    assert ("rope_freqs.weight" in written) == (scaling["kind"] == "llama3")
    if scaling["kind"] == "llama3":
        gf.save(model, tmp_path / "folder")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "folder").model.rotary_emb.inv_freq
        plain = 500_000.0 ** (-np.arange(0, 64, 2) / 64)
        np.testing.assert_allclose(written["rope_freqs.weight"], plain / theirs.numpy(), rtol=1e-5)


def test_a_context_that_is_shorter_than_its_scaling_allows_stays_in_a_copy(tmp_path: Path) -> None:
    """The settings of llama.cpp's files mean the longest; one that says a longer than that is damaged."""
    scaling = {"kind": "yarn", "factor": 4.0, "original_context_length": 8}
    model = gf.build("qwen2", **MODELS["qwen2"] | {"context_length": 20}, rope_scaling=scaling)
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    again = gf.load(path)
    assert again.config.context_length == 20
    tokens = torch.randint(300, (1, 20))
    torch.testing.assert_close(again(tokens), model(tokens))
    data = bytearray(path.read_bytes())
    data[data.index(b"glassformer.context_length") + len("glassformer.context_length") + 4] = 33  # behind its type
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"glassformer\.context_length must be from 1 to 32, not 33"):
        gf.load(path)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        ("qwen2", {"kind": "llama3", "factor": 8.0}),  # whose divisors llama.cpp asks for in Llamas alone
        ("llama", {"kind": "llama3", "factor": 8.0, "low_freq_factor": 2.0}),
        ("llama", {"kind": "dynamic", "factor": 2.0, "original_context_length": 16}),
        ("llama", {"kind": "yarn", "attention_factor": 1.5}),
        ("llama", {"kind": "yarn", "truncate": False}),
    ],
    ids=str,
)
def test_a_rotary_scaling_that_gguf_cannot_express_is_refused(
    tmp_path: Path, name: str, scaling: dict[str, Any]
) -> None:
    model = gf.build(name, **{**MODELS[name], "rope_theta": 500_000.0, "d_head": 64}, rope_scaling=scaling)
    with pytest.raises(ExportError, match=r"GGUF cannot express .*rope_"):
        checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    assert not list(tmp_path.iterdir())


def test_q8_0_is_that_of_the_library() -> None:
    weights = np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32)
    weights[3] = 0
    np.testing.assert_array_equal(to_q8_0(weights), gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0))


def test_layers_that_gguf_has_no_setting_for_are_refused(tmp_path: Path) -> None:
    model = gf.build("smollm3", **SIZES, n_kv_heads=2, rotary_layers=[True, False])
    with pytest.raises(ExportError, match=r"rotary_layers = \(True, False\), since .* every fourth"):
        checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")


def test_a_setting_that_the_format_has_no_place_for_is_refused_for_the_formats_sake(tmp_path: Path) -> None:
    model = gf.build("gpt2", **SIZES, inverse_layer_scale=True)
    with pytest.raises(ExportError, match=r"inverse_layer_scale = True, since .* in llama\.cpp's format do not say it"):
        checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")


def test_a_mistral_is_written_as_a_llama_where_no_text_is_longer_than_its_window(tmp_path: Path) -> None:
    for window in (31, 32):
        model = gf.build("mistral", **MODELS["mistral"], sliding_windows=[window])
        gf.save(model, tmp_path / f"{window}")
    with pytest.raises(ExportError, match=r"sliding_windows = \(31,\), since .* no longer than its window"):
        checkpoints.save_gguf(gf.load(tmp_path / "31").checkpoint, tmp_path / "m.gguf", kind="f32")
    whole = gf.load(tmp_path / "32")
    path = checkpoints.save_gguf(whole.checkpoint, tmp_path / "m.gguf", kind="f32")
    again = gf.load(path)
    assert again.config.architecture == "llama"
    assert gguf.GGUFReader(path).get_field("general.architecture").contents() == "llama"
    tokens = torch.randint(300, (2, 32))
    torch.testing.assert_close(again(tokens), whole(tokens))
    assert run("convert", str(tmp_path / "31"), str(tmp_path / "n.gguf"), "--quantize", "f16").returncode == 2


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
@pytest.mark.parametrize("begins", [True, False])
def test_a_file_written_again_has_the_same_metadata(tmp_path: Path, pre: str, begins: bool) -> None:
    """Tokenizer, begin and end tokens and chat template; `pre` may get another name for the same way to split."""
    torch.manual_seed(0)
    model = gf.build("llama", **MODELS["llama"])
    plain = checkpoints.save_gguf(model.checkpoint, tmp_path / "plain.gguf", kind="f32")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=plain.name)
    settings = byte_level(pre, add_bos_token=begins, add_eos_token=False, padding_token_id=261)
    settings["chat_template"] = "{{ messages }}"
    first = gf.load(write_llama(tmp_path / "first.gguf", theirs, tokenizer=settings))
    assert first.tokenizer is not None
    second = gf.load(checkpoints.save_gguf(first.checkpoint, tmp_path / "second.gguf", kind="q8_0"))
    assert second.tokenizer is not None
    for text in TEXTS:
        assert second.tokenizer.encode(text) == first.tokenizer.encode(text)
    assert second.tokenizer.begin_ids == first.tokenizer.begin_ids == (260,) * begins
    assert second.eos_ids == first.eos_ids == {261}
    assert second.rest.contents["chat_template.jinja"] == b"{{ messages }}"
    metadata = [gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("first", "second")]
    for key in ("tokens", "token_type", "merges", "bos_token_id", "eos_token_id", "padding_token_id"):
        a, b = (reader.get_field(f"tokenizer.ggml.{key}").contents() for reader in metadata)
        assert a == b


def test_a_model_without_a_tokenizer_says_that_it_has_none(tmp_path: Path) -> None:
    """llama.cpp refuses a file that does not."""
    path = checkpoints.save_gguf(built("llama").checkpoint, tmp_path / "m.gguf", kind="q8_0")
    assert gguf.GGUFReader(path).get_field("tokenizer.ggml.model").contents() == "none"
    assert gf.load(path).tokenizer is None


def by_scores(folder: Path, **settings: Any) -> gf.Model:
    """A Llama whose tokenizer is sentencepiece's, as llama.cpp's converter writes it."""
    gf.save(built("llama"), folder / "model")
    theirs = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokens = sentencepiece_tokens(add_bos_token=True, add_eos_token=False, **settings)
    return gf.load(write_llama(folder / "first.gguf", theirs, tokenizer=tokens))


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepieces_pieces_are_written_with_scores_and_types(tmp_path: Path, prefix: bool) -> None:
    first = by_scores(tmp_path, add_space_prefix=prefix)
    path = checkpoints.save_gguf(first.checkpoint, tmp_path / "second.gguf", kind="q8_0")
    readers = [gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("first", "second")]
    for key in ("model", "tokens", "bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token"):
        a, b = (reader.get_field(f"tokenizer.ggml.{key}").contents() for reader in readers)
        assert a == b, key
    fields = [reader.get_field("tokenizer.ggml.token_type").contents() for reader in readers]
    assert [type if type != UNUSED else NORMAL for type in fields[0]] == fields[1]
    second = gf.load(path)
    assert first.tokenizer is not None
    assert second.tokenizer is not None
    for text in (*TEXTS, "hello", " hell  o", "</s>he<s> wo", "é☃", ""):
        ids = first.tokenizer.encode(text, special=True)
        assert second.tokenizer.encode(text, special=True) == ids
        assert second.tokenizer.decode(ids) == first.tokenizer.decode(ids)
    gf.save(second, tmp_path / "folder")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert theirs("hello é").input_ids == second.encode("hello é")


def test_a_tokenizer_of_llama2c_is_written_with_its_own_scores(data_dir: Path, tmp_path: Path) -> None:
    """`transformers` reads such a file, too, and has our ids."""
    model = gf.load(data_dir / "llama" / "stories260K.bin")
    assert isinstance(model.tokenizer, SentencePieceTokenizer)
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    scores = gguf.GGUFReader(path).get_field("tokenizer.ggml.scores").contents()
    assert scores == model.tokenizer.scores
    again = gf.load(path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    for text in ("Once upon a time", "Lily said: é☃!", "the big dog\nran"):
        assert again.encode(text) == model.encode(text) == theirs(text).input_ids
    assert "".join(again.generate("Once", temperature=0.0, max_new_tokens=20)) == "".join(
        model.generate("Once", temperature=0.0, max_new_tokens=20)
    )


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_llama_2s_tokenizer_is_written_and_read(data_dir: Path, tmp_path: Path, name: str) -> None:
    original = data_dir / "tokenizers" / "llama2-tokenizer.model"
    tokenizer = Tokenizer.load(original)
    if name == "tokenizer.json":
        tokenizer = Tokenizer.load(tokenizer.save(tmp_path / "saved"))
    model = gf.build("llama", **{**SIZES, "vocab_size": 32_032, "n_layers": 1}).having(tokenizer=tokenizer)
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="q8_0")
    again = gf.load(path).tokenizer
    assert again is not None
    sentencepiece = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(original))
    for text in ("Hello  there", "naïve 你好 🙂", " a\n\n  b ", "12345 ▁ ▁▁ x"):
        assert again.encode(text, special=True) == [1, *sentencepiece.encode(text)]


def test_spaces_and_merges_that_gguf_cannot_express_are_refused(data_dir: Path, tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "c", "ab", "bc", "abc"]
    refused = [
        ([("a", "b"), ("b", "c"), ("ab", "c")], {}, "do not express its merges"),  # and a, bc are not joined
        ([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")], {"collapse_spaces": True}, "done to spaces and letters"),
    ]
    for merges, options, says in refused:
        tokenizer = SentencePieceTokenizer(pieces, None, merges=merges, **options)
        model = built("llama").having(tokenizer=tokenizer)
        with pytest.raises(ExportError, match=says):
            checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    assert not list(tmp_path.iterdir())


def test_added_tokens_that_are_normalized_are_written_where_that_changes_nothing(tmp_path: Path) -> None:
    """Where a space is put before a text, they are looked for in another spelling; so are those with a space."""
    for prefix, word, fits in ((False, "<|x|>", True), (True, "<|x|>", False), (False, "▁h", False)):
        first = by_scores(tmp_path / f"{prefix} {word}", add_space_prefix=prefix)
        folder = gf.save(first, tmp_path / f"{prefix} {word}" / "folder")
        (folder / "manifest.json").unlink()
        theirs = AutoTokenizer.from_pretrained(folder)
        theirs.add_tokens([AddedToken(word, normalized=True)])
        theirs.save_pretrained(folder)
        normalized = gf.load(folder)
        if not fits:
            with pytest.raises(ExportError, match=f"{re.escape(word)}' is looked for only after spaces"):
                checkpoints.save_gguf(normalized.checkpoint, tmp_path / "m.gguf", kind="q8_0")
            continue
        again = gf.load(checkpoints.save_gguf(normalized.checkpoint, tmp_path / "m.gguf", kind="q8_0"))
        for text in ("hello", f" hell{word}  o", f"{word}{word} é", ""):
            assert again.encode(text) == normalized.encode(text) == theirs(text).input_ids
        assert len(again.encode(word)) == 2  # with the one that begins a text


def test_a_gpt_neox_is_written_with_its_tokenizer_and_a_head_of_its_own(tmp_path: Path) -> None:
    """As Pythia has it: byte-level BPE with NFC, and runs of spaces that are added and normalized."""
    model = gf.build("gpt_neox", **SIZES, tied_head=True, seed=0)
    gf.save(model.having(tokenizer=Tokenizer.train([__file__], 280, ["<|endoftext|>"])), tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    file = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    file["normalizer"] = {"type": "NFC"}
    file["added_tokens"] += [
        {"id": 280 + n, "content": "  " + n * " ", "special": False, "normalized": True}
        | {"lstrip": False, "rstrip": False, "single_word": False}
        for n in range(3)
    ]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(file))
    first = gf.load(tmp_path / "model")
    path = checkpoints.save_gguf(first.checkpoint, tmp_path / "m.gguf", kind="f16")
    fields = gguf.GGUFReader(path).fields
    assert fields["tokenizer.ggml.pre"].contents() == "olmo"
    assert "output.weight" in {tensor.name for tensor in gguf.GGUFReader(path).tensors}
    again = gf.load(path)
    assert again.config == first.config
    assert first.tokenizer is not None
    assert again.tokenizer is not None
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in ("def test_x():\n    a   b", "e\u0301 \u1112\u1161\u11ab", "a      b", "<|endoftext|>  x"):
        ids = first.tokenizer.encode(text, special=True)
        assert again.tokenizer.encode(text, special=True) == ids == theirs(text).input_ids
    for changes, setting in (({"attn_bias": False}, "attn_bias"), ({"activation": "gelu_tanh"}, "activation")):
        other = gf.build("gpt_neox", **SIZES, **changes)
        with pytest.raises(ExportError, match=setting):
            checkpoints.save_gguf(other.checkpoint, tmp_path / "n.gguf", kind="f32")


def test_a_t5_is_written_with_its_tokenizer_as_transformers_and_the_converter_have_it(tmp_path: Path) -> None:
    """With a head of its own or without; of version 1.1, which is gated. Ours may have fewer layers in the decoder."""
    scores = {"<pad>": 0, "</s>": 0, "<unk>": 0, "▁": -2, "▁he": -3, "llo": -3.5, "▁hello": -4, "▁wor": -4, "ld": -4.25}
    tokenizer = T5Tokenizer(vocab=[(piece, float(score)) for piece, score in scores.items()], extra_ids=3)
    sizes = {"vocab_size": 60, "d_model": 32, "d_kv": 24, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    own = {"relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 3}
    source, tokens = torch.randint(60, (2, 9)), torch.randint(60, (2, 5))
    for tied in (True, False):
        torch.manual_seed(0)
        theirs = T5ForConditionalGeneration(T5Config(**sizes, **own, tie_word_embeddings=tied)).eval()
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        if not tied:
            theirs.lm_head.weight = torch.nn.Parameter(torch.randn(60, 32))
        theirs.save_pretrained(tmp_path / f"{tied}")
        tokenizer.save_pretrained(tmp_path / f"{tied}")
        first = gf.load(tmp_path / f"{tied}")
        path = checkpoints.save_gguf(first.checkpoint, tmp_path / f"{tied}.gguf", kind="f32")
        again = gf.load(path)
        assert again.config == first.config
        assert again.tokenizer is not None
        reader = gguf.GGUFReader(path)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, 2)
        wanted = {names.get_name(name, (".weight",)) for name, _ in theirs.named_parameters()}
        assert {tensor.name for tensor in reader.tensors} == wanted
        read = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
        torch.testing.assert_close(read.state_dict(), theirs.state_dict(), rtol=0, atol=0)
        for name in (*sizes, "relative_attention_num_buckets", "decoder_start_token_id", "layer_norm_epsilon"):
            assert getattr(read.config, name) == pytest.approx(getattr(theirs.config, name)), name
        with torch.no_grad():  # of theirs, since what they read of GGUF has ReLU in the place of GELU
            logits = theirs(input_ids=source, decoder_input_ids=tokens).logits
        torch.testing.assert_close(again(source, tokens), logits, rtol=1e-4, atol=1e-4)
        for text in ("hello world", "he  llo\nworld zz", "<extra_id_1> hello</s>", ""):
            ids = tokenizer(text).input_ids
            assert again.tokenizer.encode(text, special=True) == ids
            assert again.tokenizer.decode(ids) == first.tokenizer.decode(ids)  # type: ignore[union-attr]
        gf.save(again, tmp_path / f"{tied} again")
        saved = AutoTokenizer.from_pretrained(tmp_path / f"{tied} again")
        assert saved("hello <extra_id_1>").input_ids == tokenizer("hello <extra_id_1>").input_ids
    fewer = gf.build("t5", **T5_SIZES, ffn="geglu", n_encoder_layers=2, n_decoder_layers=1)
    again = gf.load(checkpoints.save_gguf(fewer.checkpoint, tmp_path / "fewer.gguf", kind="f32"))
    assert again.config == fewer.config
    for changes, setting in (({}, "version 1.1 alone"), ({"ffn": "geglu", "max_distance": 99}, "max_distance")):
        with pytest.raises(ExportError, match=setting):
            checkpoints.save_gguf(gf.build("t5", **T5_SIZES, **changes).checkpoint, tmp_path / "n.gguf", kind="f32")


CARD = """---
license: other
license_name: 'a licence''s name'
license_link: "https://example.org/licence"  # where it is
language:
- en
- zh
tags: [small, "in a \\"list\\""]
name: Stories
widget:
  - text: no text of ours
model-index:
- name: another
organization: |
  in a block
---
# Stories
name: not in the head
"""


def test_name_and_licence_go_from_a_card_into_the_file_and_back(tmp_path: Path) -> None:
    gf.save(built("llama"), tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    (tmp_path / "model" / "README.md").write_text(CARD)
    path = checkpoints.save_gguf(gf.load(tmp_path / "model").checkpoint, tmp_path / "m.gguf", kind="f32")
    reader = gguf.GGUFReader(path)
    said = {
        "license": "other",
        "license.name": "a licence's name",
        "license.link": "https://example.org/licence",
        "languages": ["en", "zh"],
        "tags": ["small", 'in a "list"'],
        "name": "Stories",
    }
    general = {key.removeprefix("general."): field.contents() for key, field in reader.fields.items()}
    assert {key: general.get(key) for key in (*said, "organization")} == {**said, "organization": None}
    gf.save(gf.load(path), tmp_path / "again")
    theirs = gguf.Metadata.load_model_card(tmp_path / "again")
    names = {"license.name": "license_name", "license.link": "license_link", "languages": "language"}
    assert theirs == {names.get(key, key): value for key, value in said.items()}
    second = checkpoints.save_gguf(gf.load(path).checkpoint, tmp_path / "second.gguf", kind="f32")
    fields = gguf.GGUFReader(second).fields
    assert {key: fields[f"general.{key}"].contents() for key in said} == said


@pytest.mark.skipif(not Path(llama_cpp.LIBRARY).is_file(), reason="GLASSFORMER_LLAMA_CPP names no library of llama.cpp")
def test_llama_cpp_reads_and_continues_what_we_write(data_dir: Path, tmp_path: Path) -> None:
    model = gf.load(data_dir / "llama" / "stories260K.bin")
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    texts = ("Once upon a time", "", "Lily  went  ", "</s>a b<s> c", "é你好")
    ids, continued = llama_cpp.answers(path, texts, 24)
    assert ids == [model.encode(text) for text in texts]
    assert ids[0] + continued == model.generate_ids([ids[0]], max_new_tokens=24, temperature=0.0)[0].tolist()


@pytest.mark.skipif(not Path(llama_cpp.LIBRARY).is_file(), reason="GLASSFORMER_LLAMA_CPP names no library of llama.cpp")
@pytest.mark.parametrize("name", CONTINUED)
def test_llama_cpp_continues_as_we_do_what_we_write_of_every_decoder(tmp_path: Path, name: str) -> None:
    model = gf.build(name, **CONTINUED[name] | {"vocab_size": 300}, seed=1)
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.3, mean=float(parameter.dim() == 1))
    model = model.having(tokenizer=Tokenizer.train([__file__], 300, ["<|endoftext|>"]))
    path = checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    prompt = model.encode("def test_of")
    ours = model.generate_ids([prompt], max_new_tokens=12, temperature=0.0)[0].tolist()
    ids, continued = llama_cpp.answers(path, ["def test_of"], len(ours) - len(prompt))
    assert ids == [prompt]
    assert prompt + continued == ours


def test_another_tokenizer_takes_the_place_of_the_files_own(tmp_path: Path) -> None:
    """So does a template among the settings of a folder, where the tokenizer stays."""
    gf.save(built("llama"), tmp_path / "model")
    path = write_llama(
        tmp_path / "a.gguf", AutoModelForCausalLM.from_pretrained(tmp_path / "model"), "F32", byte_level()
    )
    first = gf.load(path)
    other = Tokenizer.train([__file__], 270, ["<|endoftext|>"])
    again = checkpoints.save_gguf(first.having(tokenizer=other).checkpoint, tmp_path / "b.gguf", kind="f32")
    second = gf.load(again).tokenizer
    assert second is not None
    assert second.encode("def test_") == other.encode("def test_")
    gf.save(first, tmp_path / "folder")
    settings = tmp_path / "folder" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chat_template": "{{ x }}"}))
    (tmp_path / "folder" / "manifest.json").unlink()
    third = checkpoints.save_gguf(gf.load(tmp_path / "folder").checkpoint, tmp_path / "c.gguf", kind="f32")
    assert gguf.GGUFReader(third).get_field("tokenizer.chat_template").contents() == "{{ x }}"


def test_what_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    scaled = {"rope_scaling": RopeScaling(kind="llama3", factor=8.0, low_freq_factor=2.0)}
    refused = [("gpt2", {"activation": "relu"}, "activation"), ("llama", scaled, "rope_freqs")]
    gemma = {"d_head": 16, "query_scalar": 16}
    refused += [("bert", {"head": head}, "head") for head in ("masked-token", "classes")]
    refused += [
        ("gemma2", {**gemma, "query_scalar": 7, "sliding_windows": [4, 0]}, "query_scalar"),
        ("gemma2", {**gemma, "sliding_windows": [0, 4]}, "sliding_windows"),
        ("gemma2", {**gemma, "sliding_windows": [4, 0], "tied_head": False}, "lm_head.weight"),
        ("qwen3_moe", {"experts": {"n": 4, "top_k": 2, "norm_top_k": False}}, "experts"),
        ("mixtral", {"n_kv_heads": 2, "experts": {"n": 4, "top_k": 2}, "sliding_windows": [4]}, "sliding_windows"),
        ("gemma3", {**gemma, "sliding_windows": []}, "sliding_windows"),
    ]
    for name, changes, setting in refused:
        model = gf.build(name, **SIZES, **changes)
        with pytest.raises(ExportError, match=setting):
            checkpoints.save_gguf(model.checkpoint, tmp_path / "m.gguf", kind="f32")
    with pytest.raises(ExportError, match="roberta"):
        checkpoints.save_gguf(gf.build("roberta", **SIZES).checkpoint, tmp_path / "m.gguf", kind="f32")
    pieces = {piece: id for id, piece in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "##▁b"])}
    bert = gf.build("bert", **SIZES, head="none")
    tokenizer = WordPieceTokenizer({("##[c]" if piece == "##▁b" else piece): id for piece, id in pieces.items()})
    with pytest.raises(ExportError, match=r"'##\[c\]', which would begin a word .* A folder .* save writes one\."):
        checkpoints.save_gguf(bert.having(tokenizer=tokenizer).checkpoint, tmp_path / "m.gguf", kind="f32")
    for options, says in (({}, "'##▁b'"), ({"lowercase": False}, "uncased"), ({"split_chinese": False}, "uncased")):
        tokenizer = WordPieceTokenizer(pieces, **options)
        with pytest.raises(ExportError, match=says):
            checkpoints.save_gguf(bert.having(tokenizer=tokenizer).checkpoint, tmp_path / "m.gguf", kind="f32")
    with pytest.raises(ConfigError, match="q8_0"):
        checkpoints.save_gguf(built("llama").checkpoint, tmp_path / "m.gguf", kind="q2_k")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_file_where_both_say_so(tmp_path: Path) -> None:
    gf.save(built("llama"), tmp_path / "model")
    source, out = str(tmp_path / "model"), tmp_path / "m.gguf"
    assert run("convert", source, str(out)).returncode == 2
    assert run("convert", source, str(tmp_path / "folder"), "--quantize", "q8_0").returncode == 2
    assert run("convert", source, str(out), "--quantize", "q8_0").returncode == 0
    assert run("convert", source, str(out), "--quantize", "q8_0").returncode == 2  # it is there already
    assert gf.load(out).config == gf.load(source).config
