"""Directories in Hugging Face's format: what is in them, and what is refused. Parity is in `tests/parity/`."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from checkpoints.hostile import CONFIG, publish, refused, set_config
from glassformer import api, checkpoints
from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.errors import CheckpointCorrupt, CheckpointMismatch, ConfigError, ExportError, GenerationError
from glassformer.models.cs336 import CS336, CS336Config
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.tokenizers import CharTokenizer, Tokenizer

LLAMA = LlamaConfig(vocab_size=5, context_length=8, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=6)


def test_code_of_its_own_is_not_what_a_folder_of_our_model_types_is_read_by(tmp_path: Path) -> None:
    """As published Phi-3 and DeepSeek have it, of a time when `transformers` did not know them; none of it is run."""
    folder = publish(tmp_path / "a")
    set_config(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    (folder / "modeling.py").write_text("raise SystemExit")
    model = api.load(folder)
    api.save(model, tmp_path / "copy")
    assert "auto_map" not in json.loads((tmp_path / "copy" / "config.json").read_text())
    assert not (tmp_path / "copy" / "modeling.py").exists()


def test_a_folder_holds_what_the_format_says(tmp_path: Path) -> None:
    folder = save_directory(GPT2(CONFIG), tmp_path / "a", tokenizer=CharTokenizer("ABCDE"))
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "glassformer.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float32"
    assert json.loads((folder / "generation_config.json").read_text()) == {"bos_token_id": None, "eos_token_id": None}


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [2, 4]}, {"eos_token_id": 3}, {2, 4}),
        ({"eos_token_id": 2}, {}, {2}),
        ({}, {"eos_token_id": 3}, {3}),
        (None, {"eos_token_id": 3}, {3}),
        ({}, {}, set()),
        ({"eos_token_id": -1}, {"eos_token_id": 3}, set()),
        ({"eos_token_id": [2, -1]}, {}, {2}),
        (None, {"eos_token_id": -1}, set()),
    ],
)
def test_the_tokens_that_end_a_text_are_those_of_the_generation_settings(
    tmp_path: Path, generation: dict[str, object] | None, config: dict[str, object], expected: set[int]
) -> None:
    folder = publish(tmp_path / "a")
    set_config(folder, **config)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert checkpoints.load(folder).eos_ids == expected


@pytest.mark.parametrize(("eos_ids", "written"), [((), None), ((4,), 4), ((4, 2), [2, 4])])
def test_the_tokens_that_end_a_text_are_written_where_transformers_looks_and_read_again(
    eos_ids: tuple[int, ...], written: object, tmp_path: Path
) -> None:
    folder = checkpoints.save(GPT2(CONFIG), tmp_path / "a", eos_ids=frozenset(eos_ids))
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == written
    assert checkpoints.load(folder).eos_ids == set(eos_ids)


def test_a_token_that_ends_a_text_and_is_no_number_is_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    (folder / "generation_config.json").write_text('{"eos_token_id": "two"}')
    with pytest.raises(ConfigError, match="eos_token_id"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    "content", ['{"eos_token_id": [[2, 3]]}', '{"bad_words_ids": [["to"]]}', '{"bad_words_ids": "to"}']
)
def test_generation_settings_that_name_no_tokens_are_refused(content: str, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"(eos_token|bad_words)_ids? must be"):
        checkpoints.load(folder)


@pytest.mark.parametrize("strange", ['[[{"a": 1}, [2]]]', '[["to", 2]]'])
def test_bad_words_of_strange_forms_are_refused_or_not_read(strange: str, tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bad_words_ids": json.loads(strange)}))
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"config.json: bad_words_ids must be"):
        checkpoints.load(folder)
    (folder / "generation_config.json").write_text('{"bad_words_ids": []}')  # which goes before the other
    assert api.load(folder).constraints.bad_phrases == ()


def test_phrases_that_are_bad_words_never_come_and_survive_a_copy(tmp_path: Path) -> None:
    """`transformers` is asked for the same: single tokens, phrases, and the end of a text, which is no bad word."""
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=7, n_positions=64, n_embd=8, n_layer=1, n_head=2, eos_token_id=None)
    ).eval()
    theirs.save_pretrained(tmp_path / "a")
    prompt = torch.tensor([[1, 2, 3, 1]])
    free = theirs.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=0)[0].tolist()
    phrases = sorted({tuple(free[i : i + 2]) for i in range(4, 8)})
    words = [[5], *map(list, phrases), [6, 0, 3]]
    content = {"bad_words_ids": [*words, [4]], "eos_token_id": 4, "pad_token_id": 0, "do_sample": False}
    (tmp_path / "a" / "generation_config.json").write_text(json.dumps(content))
    model = api.load(tmp_path / "a")
    assert model.suppressed == {5}
    ours = model.generate_ids(prompt, max_new_tokens=24, ignore_eos=True)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "a")
    expected = again.generate(prompt, max_new_tokens=24, eos_token_id=4)[0].tolist()
    n = expected.index(4, 4) + 1 if 4 in expected[4:] else len(expected)
    assert ours[0].tolist()[:n] == expected[:n]
    assert ours[0].tolist() != free
    copy = api.save(model, tmp_path / "copy")
    assert json.loads((copy / "generation_config.json").read_text())["bad_words_ids"] == words
    assert torch.equal(api.load(copy).generate_ids(prompt, max_new_tokens=24, ignore_eos=True), ours)


def test_the_tokenizer_comes_back_with_the_model(tmp_path: Path) -> None:
    checkpoints.save(GPT2(CONFIG), tmp_path / "a", tokenizer=CharTokenizer("ABCDE"))
    found = checkpoints.load(tmp_path / "a")
    assert found.tokenizer is not None
    assert found.tokenizer.encode("BAD") == [1, 0, 3]
    assert found.config == CONFIG
    assert checkpoints.load(publish(tmp_path / "b")).tokenizer is None


@torch.no_grad()
def test_a_tokenizer_that_cannot_be_read_does_not_keep_the_weights_from_loading(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    found = checkpoints.load(folder)
    assert found.tokenizer is None
    assert "tokenizer.json: expected a vocabulary" in found.no_tokenizer
    model = api.load(folder)
    assert model.generate_ids(torch.zeros(1, 1, dtype=torch.long), max_new_tokens=2).shape == (1, 3)
    with pytest.raises(GenerationError, match=r"came without a tokenizer.*expected a vocabulary"):
        model.generate("a")


def test_tiktoken_s_file_beside_the_weights_is_their_tokenizer(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    ranks = "".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (folder / "gpt2.tiktoken").write_text(ranks)
    assert checkpoints.load(folder).tokenizer is not None
    (folder / "o200k_base.tiktoken").write_text(ranks)
    found = checkpoints.load(folder)
    assert (found.tokenizer, found.no_tokenizer) == (None, "")


def test_why_a_tokenizer_is_missing_names_no_argument_that_loading_a_model_lacks(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    (folder / "mine.tiktoken").write_text("AA== 0\n")
    reason = checkpoints.load(folder).no_tokenizer
    assert "does not say how text is split: give it a published name" in reason
    assert "pattern=" not in reason


def test_our_configuration_goes_first_so_that_interleaved_pairs_stay_so(tmp_path: Path) -> None:
    config = replace(LLAMA, rope_style="interleaved")
    model = Llama(config).eval()
    folder = save_directory(model, tmp_path / "a")
    (folder / "manifest.json").unlink()
    tokens = torch.randint(5, (1, 8))
    ours, same = load_directory(folder)
    (folder / "glassformer.json").unlink()
    theirs, turned = load_directory(folder)
    assert (ours, theirs) == (config, LLAMA)
    torch.testing.assert_close(same(tokens), model(tokens), atol=0, rtol=0)
    torch.testing.assert_close(turned(tokens), model(tokens))
    assert not torch.equal(turned.blocks[0].attn.q_proj.weight, model.blocks[0].attn.q_proj.weight)


COURSE: dict[str, Any] = {"vocab_size": 5, "context_length": 8, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 6}
ABLATIONS: list[dict[str, Any]] = [
    {"norm_placement": "post"},
    {"norm_placement": "none"},
    {"ffn": "silu"},
    {"position": "none"},
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
@torch.no_grad()
def test_what_the_format_cannot_express_is_written_under_our_name_or_not_at_all(
    ablation: dict[str, Any], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    config = CS336Config(**COURSE, **ablation)
    model = CS336(config).eval()
    with pytest.raises(ExportError, match=next(iter(ablation))):
        save_directory(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    folder = save_directory(model, tmp_path / "a", native=True)
    found, again = load_directory(folder)
    assert found == config
    tokens = torch.randint(5, (1, 8))
    assert torch.equal(again(tokens), model(tokens))
    with pytest.raises(ValueError, match="glassformer"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("ablation", [{}, *ABLATIONS], ids=str)
@torch.no_grad()
def test_a_folder_in_which_ablations_are_those_of_a_llama_still_opens(ablation: dict[str, Any], tmp_path: Path) -> None:
    """As versions before this one wrote it, with all three settings."""
    model = CS336(CS336Config(**COURSE, **ablation)).eval()
    folder = save_directory(model, tmp_path / "a", native=True)
    ours = json.loads((folder / "glassformer.json").read_text())
    assert ours["config"].keys() >= {"norm_placement", "ffn", "position", "rope_style"}
    (folder / "glassformer.json").write_text(json.dumps(ours | {"architecture": "llama"}))
    config, again = load_directory(folder)
    assert config.architecture == ("cs336" if ablation else "llama")
    assert config.rope_style == "interleaved"
    tokens = torch.randint(5, (1, 8))
    torch.testing.assert_close(again(tokens), model(tokens))


def test_native_makes_no_difference_where_the_format_suffices(tmp_path: Path) -> None:
    save_directory(Llama(LLAMA), tmp_path / "a", native=True)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["model_type"] == "llama"


def test_half_precision_is_kept_on_disk_and_on_demand(tmp_path: Path) -> None:
    model = GPT2(CONFIG).bfloat16()
    folder = save_directory(model, tmp_path / "a")
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert load_directory(folder)[1].final_norm.weight.dtype == torch.float32
    kept = load_directory(folder, dtype=None)[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept.parameters(), strict=True))


def test_a_changed_file_is_refused_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    folder = save_directory(GPT2(CONFIG), tmp_path / "a")
    set_config(folder, layer_norm_epsilon=1e-3)
    with pytest.raises(CheckpointCorrupt, match=r"config\.json has .* delete manifest\.json"):
        checkpoints.load(folder)
    (folder / "manifest.json").unlink()
    load_directory(folder)


# ---- F4: configurations that lie

SETTINGS: list[dict[str, Any]] = [
    {"n_layer": 10**9},
    {"n_layer": 0},
    {"n_layer": -1},
    {"n_layer": 2.0},
    {"n_layer": "2"},
    {"n_layer": None},
    {"n_layer": [2]},
    {"n_layer": True},
    {"n_layer": 10**30},
    {"n_head": 3},
    {"n_head": 0},
    {"n_head": -2},
    {"vocab_size": -5},
    {"vocab_size": 2**31 - 1},
    {"vocab_size": 5.0},
    {"vocab_size": {}},
    {"n_positions": 2**31 - 1},
    {"n_positions": 0},
    {"n_embd": 2**30},
    {"n_embd": 2**30, "vocab_size": 2**31 - 1, "n_inner": 2**31 - 1},
    {"n_embd": "4"},
    {"n_inner": -6},
    {"n_inner": 2**31 - 1},
    {"n_inner": "6"},
    {"activation_function": "os.system"},
    {"activation_function": ["gelu"]},
    {"activation_function": None},
    {"layer_norm_epsilon": "1e-5"},
    {"layer_norm_epsilon": -1},
    {"layer_norm_epsilon": 1e308},
    {"layer_norm_epsilon": None},
    {"resid_pdrop": 1},
    {"resid_pdrop": -0.1},
    {"resid_pdrop": "0"},
    {"tie_word_embeddings": "yes"},
    {"tie_word_embeddings": 0},
    {"tie_word_embeddings": True},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": "yes"},
    {"add_cross_attention": True},
    {"model_type": "bert"},
    {"model_type": None},
    {"model_type": ["gpt2"]},
    {"model_type": "../../gpt2"},
    {"model_type": "gpt2\n"},
    {"model_type": "glassformer"},
    {"model_type": "x" * 10**6},
    {"quantization_config": {"quant_method": "gptq"}},
]
LLAMA_SETTINGS: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**9},
    {"num_attention_heads": 3},
    {"num_key_value_heads": 3},
    {"num_key_value_heads": -1},
    {"head_dim": 3},
    {"head_dim": 2**31 - 1},
    {"head_dim": "4"},
    {"hidden_size": 2**31 - 1},
    {"intermediate_size": 10**12},
    {"rms_norm_eps": "1e-6"},
    {"rope_theta": 0},
    {"rope_theta": -1.0},
    {"rope_theta": "big"},
    {"rope_theta": None},
    {"rope_scaling": "linear"},
    {"rope_scaling": {"rope_type": "yarn", "factor": "2"}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1e400}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_theta": 1},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 0.5}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": -100, "mscale_all_dim": 1e300}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 10**400}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": "8"},
    {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0] * 9}},
    {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "short_factor": "1", "long_factor": [None]}},
    {"partial_rotary_factor": "0.5"},
    {"rope_scaling": {"rope_type": ["linear"]}},
    {"rope_scaling": {"rope_type": "linear"}},
    {"rope_scaling": {"rope_type": "linear", "factor": 0}},
    {"rope_scaling": {"rope_type": "linear", "factor": "2"}},
    {"rope_scaling": {"rope_type": "linear", "factor": None}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 4.0,
            "high_freq_factor": 1.0,
            "original_max_position_embeddings": 8,
        }
    },
    {"attention_bias": True},
    {"mlp_bias": True},
    {"hidden_act": "gelu"},
    {"attention_dropout": 2},
]
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"model_type: gpt2",
    "not UTF-8": b'{"model_type": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "only half": b'{"model_type": "gpt2", ',
    "twice the same key": b'{"model_type": "gpt2", "model_type": "llama"}',
    "NaN": b'{"model_type": "gpt2", "layer_norm_epsilon": NaN}',
    "Infinity": b'{"model_type": "gpt2", "layer_norm_epsilon": Infinity}',
    "1e400": b'{"model_type": "gpt2", "layer_norm_epsilon": 1e400}',
    "50 MB": b'{"model_type": "gpt2"' + b" " * (50 << 20) + b"}",
    "depth 10^5": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "10^6 digits": b'{"model_type": "gpt2", "n_layer": ' + b"9" * 1_000_000 + b"}",
    "10^6 values": b'{"a": [' + b"1," * 1_000_000 + b"1]}",
}
OUR_TEXTS: dict[str, object] = {
    "no object": [],
    "no architecture": {"format": 1, "config": {}},
    "another format": {"format": 2, "architecture": "gpt2", "config": {}},
    "unknown architecture": {"format": 1, "architecture": "os", "config": {}},
    "architecture is a list": {"format": 1, "architecture": ["gpt2"], "config": {}},
    "config is a list": {"format": 1, "architecture": "gpt2", "config": []},
    "unknown setting": {"format": 1, "architecture": "gpt2", "config": {"n_layer": 2}},
    "a setting of the wrong type": {"format": 1, "architecture": "gpt2", "config": {"n_layers": 2.0}},
    "another model": {"format": 1, "architecture": "gpt2", "config": {}},
}


def publish_llama(folder: Path) -> Path:
    save_directory(Llama(LLAMA), folder)
    for name in ("manifest.json", "glassformer.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings)[:80])
def test_a_gpt2_with_a_lying_config_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = publish(tmp_path)
    set_config(folder, **settings)
    with refused(folder):
        checkpoints.load(folder)


@pytest.mark.parametrize("settings", LLAMA_SETTINGS, ids=lambda settings: str(settings)[:80])
def test_a_llama_with_a_lying_config_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = publish_llama(tmp_path / "a")
    set_config(folder, **settings)
    with refused(folder):
        checkpoints.load(folder)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_config_that_is_no_config_is_refused(text: bytes, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "config.json").write_bytes(text)
    with refused(folder):
        checkpoints.load(folder)


@pytest.mark.parametrize("content", OUR_TEXTS.values(), ids=OUR_TEXTS.keys())
def test_a_broken_configuration_of_ours_is_refused(content: object, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "glassformer.json").write_text(json.dumps(content))
    with refused(folder):
        checkpoints.load(folder)


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "a" / "b", Path("/dev/null"), Path("/dev/zero")):
        with refused(path):
            checkpoints.load(path)


@pytest.mark.parametrize("pattern", ["char", "gpt2", "cl100k", "o200k", "llama3"])
def test_transformers_takes_the_tokenizer_as_it_is(tmp_path: Path, pattern: str) -> None:
    """Without a class of its own, AutoTokenizer cuts text by the rules of the model's family."""
    from transformers import AutoTokenizer

    text = "DON'T 12345 the'LL  (hello)\n\n\tTo be, or not\n<|endoftext|>x"
    if pattern == "char":
        ours: Tokenizer = CharTokenizer.from_text(text)
    else:
        (tmp_path / "text").write_text(text * 9)
        ours = Tokenizer.train(tmp_path / "text", 300, ["<|endoftext|>"], pattern=pattern)
    config = GPT2Config(vocab_size=ours.vocab_size, context_length=8, d_model=4, n_heads=1, n_layers=1)
    folder = save_directory(GPT2(config), tmp_path / "model", tokenizer=ours)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text
    assert theirs.eos_token_id == ours.eos_id


@pytest.mark.parametrize(
    ("family", "name", "says"),
    [
        ("llama", "LlamaForSequenceClassification", "is none of LlamaForCausalLM"),
        ("llama", "LlamaModel", "a LlamaModel has no language-model head; LlamaForCausalLM has one"),
        ("qwen2", "Qwen2ForTokenClassification", "is none of Qwen2ForCausalLM"),
        ("gpt2", "GPT2ForSequenceClassification", "is none of GPT2LMHeadModel"),
        ("t5", "T5EncoderModel", "is none of T5ForConditionalGeneration"),
    ],
)
def test_a_class_of_another_task_is_said_and_not_only_the_tensor_that_is_missing(
    family: str, name: str, says: str, tmp_path: Path
) -> None:
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"t5": {"d_kv": 4, "d_ff": 8}, "gpt2": {"n_positions": 8}}
    more |= {"llama": {"intermediate_size": 8}, "qwen2": {"intermediate_size": 8, "num_key_value_heads": 2}}
    config = transformers.AutoConfig.for_model(family, **sizes, **more[family])
    getattr(transformers, name)(config).save_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointMismatch, match=f"config.json: .*{says}"):
        api.load(tmp_path / "a")


def test_a_bare_trunk_whose_head_is_its_embedding_is_read(tmp_path: Path) -> None:
    """So is one of a class of a stranger's that has all tensors."""
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(**sizes, intermediate_size=8, tie_word_embeddings=True)
    transformers.LlamaModel(config).save_pretrained(tmp_path / "a")
    assert api.load(tmp_path / "a").config.tied_head
    set_config(tmp_path / "a", architectures=["LlavaForCausalLM"])
    assert api.load(tmp_path / "a").config.tied_head
