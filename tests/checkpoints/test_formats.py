"""The formats as plug-ins: each is one module, none guesses, and what it must be told reaches it from every door."""

import json
import pickle
import struct
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import glassformer as gf
from glassformer import checkpoints
from glassformer.checkpoints import formats as package
from glassformer.checkpoints import safetensors
from glassformer.checkpoints.formats import all_formats
from glassformer.checkpoints.formats.format import Contents, Format, Option, Source
from glassformer.errors import CheckpointError, ConfigError
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.published.transformer import PUBLISHED
from glassformer.models.transformer import Transformer, TransformerConfig
from support.commands import run

FLAGS = ["--option=n_heads=4", "--option=activation=relu", "--option=scaled_embedding=true"]
SIZES = {"vocab_size": 9, "d_model": 16, "d_ff": 10, "n_encoder_layers": 1, "n_decoder_layers": 1}


@pytest.fixture
def fairseq(tmp_path: Path) -> tuple[Path, Transformer]:
    """Weights of a translator with four heads, as fairseq names them."""
    config = TransformerConfig(**SIZES, n_heads=4, position_layout="tensor2tensor", first_position=2, start_id=2)
    model = Transformer(config).eval()
    parameters = dict(model.named_parameters())
    state = {
        theirs.removeprefix("model."): parameters[ours[0]].detach().clone()
        for theirs, ours, _ in PUBLISHED.renames(config, native=True)
        if "shared" not in theirs
    }
    table = model.token_embedding.weight.detach()
    state |= {f"{half}.embed_tokens.weight": table.clone() for half in ("encoder", "decoder")}
    safetensors.write(tmp_path / "model.safetensors", state)
    return tmp_path / "model.safetensors", model


def test_a_number_of_heads_that_no_tensor_tells_is_asked_for_and_not_assumed(fairseq) -> None:
    path, model = fairseq
    with pytest.raises(CheckpointError) as caught:
        gf.load(path)
    assert "n_heads (encoder_attention_heads in the args) and activation" in str(caught.value)
    assert "Give n_heads=…, activation=…, scaled_embedding=… to load." in str(caught.value)
    loaded = gf.load(path, n_heads=4, activation="relu", scaled_embedding=True)
    source, tokens = torch.tensor([[3, 4, 5]]), torch.tensor([[2, 6]])
    with torch.no_grad():
        expected = gf.Model(checkpoints.Checkpoint(module=model, config=model.config))(source, tokens)
        assert torch.equal(loaded(source, tokens), expected)
        other = gf.load(path, n_heads=8, activation="relu", scaled_embedding=True)(source, tokens)
    assert not torch.allclose(other, expected), "another number of heads is another model"


def test_the_command_line_asks_for_the_same_and_hands_it_on(fairseq, tmp_path: Path) -> None:
    path, _ = fairseq
    done = run("convert", str(path), str(tmp_path / "a"))
    assert done.returncode == 2
    assert "--option n_heads=… --option activation=… --option scaled_embedding=…" in done.stderr
    assert not (tmp_path / "a").exists()
    done = run("convert", str(path), str(tmp_path / "a"), "--native", *FLAGS)
    assert done.returncode == 0, done.stderr
    assert gf.load(tmp_path / "a").config.n_heads == 4


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--option=n_heads"], "--option n_heads: it takes NAME=VALUE"),
        (["--option=n_heads=4", "--option=n_heads=8"], "--option n_heads: it is given twice"),
        (["--option=dtype=float16"], "--option dtype: it is given twice, or a flag of its own"),
        (["--option=scaled_embedding=perhaps", *FLAGS[:2]], "scaled_embedding must be true or false, not 'perhaps'"),
        (
            ["--option=n_heads=four", *FLAGS[1:]],
            "the option n_heads must be a whole number, not 'four'",
        ),
        (["--option=n_heads=5", *FLAGS[1:]], "d_model 16 does not divide into 5 heads"),
        (["--option=n_heads=4", "--option=activation=tanh", *FLAGS[2:]], "activation must be one of"),
        (["--option=heads=4"], "there is no option heads for fairseq, which takes n_heads, activation, scaled"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_a_sentence(flags: list[str], says: str, fairseq, tmp_path) -> None:
    done = run("convert", str(fairseq[0]), str(tmp_path / "a"), *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_weights_of_a_folder_without_the_folder_are_not_taken_for_another_format(tmp_path: Path) -> None:
    folder = gf.save(gf.load("nano-sort"), tmp_path / "sort")
    with pytest.raises(CheckpointError, match=r"its format is none of those known here.* name the folder\."):
        gf.load(folder / "model.safetensors")
    done = run("neighbours", "cat", "--vectors", str(folder / "model.safetensors"))
    assert (done.returncode, "name the folder" in done.stderr) == (2, True), "it is no file of word vectors either"


def test_a_preset_takes_no_options_of_files() -> None:
    with pytest.raises(ConfigError, match="n_heads is for files, and preset:rnn-char is none"):
        gf.load("preset:rnn-char", n_heads=3)


def test_two_formats_that_claim_a_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [replace(each, sniff=lambda source: True) for each in all_formats()[:2]]
    monkeypatch.setattr(checkpoints, "all_formats", lambda: both)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"{both[0].name} and {both[1].name} both know it"):
        checkpoints.load(tmp_path / "file")


def test_a_format_that_asks_nothing_refuses_options() -> None:
    with pytest.raises(CheckpointError, match="there is no option n_heads for Hugging Face, which takes none"):
        gf.load("nano-sort", n_heads=3)


def test_a_format_of_ones_own_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its file had been put into the package: nothing else changes."""

    def read(source: Source, *, n_heads: int) -> tuple[Contents, dict[str, Tensor]]:
        sizes = json.loads(source.path.read_text())
        config = GPT2Config(**sizes, n_heads=n_heads)
        return Contents(config=config), dict(GPT2(config).named_parameters())

    toy = ModuleType(f"{package.__name__}.toy")
    toy.FORMAT = Format(  # type: ignore[attr-defined]
        name="toy",
        files=".toy of this test",
        sniff=lambda source: source.path.suffix == ".toy",
        read=read,
        options=(Option(name="n_heads", type=int, meaning="heads"),),
    )
    monkeypatch.setitem(sys.modules, toy.__name__, toy)
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "toy.py").write_text("pass\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "plug")])
    package._ours.cache_clear()
    try:
        path = tmp_path / "model.toy"
        path.write_text('{"vocab_size": 7, "context_length": 8, "d_model": 8, "n_layers": 1}')
        assert gf.load(path, n_heads=2).config.n_heads == 2
        assert run("convert", str(path), str(tmp_path / "b"), "--option=n_heads=2").returncode == 0
        assert gf.load(tmp_path / "b").config.vocab_size == 7
        with pytest.raises(CheckpointError, match=r"\.toy of this test"):
            checkpoints.load(tmp_path / "plug" / "toy.py")
    finally:
        package._ours.cache_clear()


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder whose weights are a pickle, as they all were before 2023."""
    model = gf.build("gpt2", vocab_size=11, context_length=8, d_model=8, n_layers=2, n_heads=2)
    folder = gf.save(model, tmp_path / "folder")
    state = dict(safetensors.read(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    (folder / "manifest.json").unlink()
    torch.save({name: torch.nn.Parameter(tensor) for name, tensor in state.items()}, folder / "pytorch_model.bin")
    return folder, dict(model.module.named_parameters())


def test_a_folder_of_pickled_weights_is_read_where_that_is_allowed(pickled, tmp_path: Path) -> None:
    folder, expected = pickled
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin alone, a pickle"):
        gf.load(folder)
    done = run("convert", str(folder), str(tmp_path / "a"))
    assert (done.returncode, "--from-pickle" in done.stderr) == (2, True)
    found = dict(gf.load(folder, from_pickle=True).module.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert run("convert", str(folder), str(tmp_path / "a"), "--from-pickle").returncode == 0
    assert (tmp_path / "a" / "model.safetensors").exists()


def test_a_folder_pickled_by_torch_before_its_version_1_6_is_read_like_others(pickled) -> None:
    """As bert-base-uncased and its age were published: no zip, but pickles with the tensors behind them."""
    folder, expected = pickled
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    state["transformer.h.0.attn.c_proj.weight"] = state["transformer.h.0.attn.c_proj.weight"].mT.contiguous().mT
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin alone, a pickle"):
        gf.load(folder)
    read = dict(gf.load(folder, from_pickle=True).module.named_parameters())
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def test_pickled_shards_are_read_as_one(pickled) -> None:
    folder, expected = pickled
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    places = {name: f"pytorch_model-{1 + (i % 2):05}-of-00002.bin" for i, name in enumerate(names)}
    for place in set(places.values()):
        torch.save({name: state[name] for name in names if places[name] == place}, folder / place)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    found = dict(gf.load(folder, from_pickle=True).module.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_folder_with_both_reads_the_file_that_cannot_run_code(pickled, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = pickled
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    safetensors.write(folder / "model.safetensors", state)
    monkeypatch.setattr(torch, "load", None)
    gf.load(folder, from_pickle=True)


@pytest.mark.parametrize("name", ["model.bin", "model.json", "model", "model.txt", "model.safetensors"])
def test_a_file_is_known_by_what_it_holds_and_not_by_its_name(name: str, tmp_path: Path, data_dir: Path) -> None:
    if not name.endswith(".safetensors"):  # a name that nothing else is given
        (tmp_path / name).write_bytes((data_dir / "llama" / "stories260K.bin").read_bytes())
        assert gf.load(tmp_path / name).config.architecture == "llama"
    safetensors.write(tmp_path / "weights", {"encoder.embed_tokens.weight": torch.zeros(3, 4)})
    (tmp_path / "weights").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match="no tensor of fairseq's tells"):
        gf.load(tmp_path / name)


@pytest.mark.parametrize("d_model", [512, 640, 896, 1152])
def test_sizes_whose_bytes_begin_as_a_pickle_does_are_sizes(d_model: int, tmp_path: Path) -> None:
    header = struct.pack("<7i", d_model, 4, 1, 2, 2, 3, 8)
    (tmp_path / "model.bin").write_bytes(header)
    with pytest.raises(CheckpointError, match=r"a llama2\.c model of the sizes in this header has"):
        gf.load(tmp_path / "model.bin")
    assert Source(tmp_path / "model.bin").content == "unknown"


@pytest.mark.parametrize("name", ["model.bin", "model.json", "model.pt", "model"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"3 4\nthe 1 2 3 4\nof 1 2 3 4\na 1 2 3 4\n", "its format is none of those known here"),
        (b"3 4\nthe " + np.arange(4, dtype="<f4").tobytes() * 3, "its format is none of those known here"),
        (pickle.dumps({"model": [1.0] * 9}, protocol=2), "this is a pickle"),
    ],
)
def test_a_wrong_name_makes_no_wrong_message(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        gf.load(tmp_path / name)


def test_weights_of_numpys_are_known_under_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", enc_emb=np.zeros((29, 256), np.float32))
    (tmp_path / "weights.npz").rename(tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match=r"tensor .* is missing"):
        gf.load(tmp_path / "weights.bin")


def test_an_adapter_is_to_be_merged_into_its_base(tmp_path: Path) -> None:
    lora = {"base_model.model.q_proj.lora_A.weight": torch.ones(2, 4)}
    safetensors.write(tmp_path / "adapter_model.safetensors", lora)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/base"})
    )
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        with pytest.raises(CheckpointError, match=r"an adapter of 'org/base', not a model: merge .* merge_and_unload"):
            gf.load(path)
    base = gf.save(gf.load("nano-sort"), tmp_path / "base")
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    torch.save(lora, tmp_path / "adapter_model.bin")
    for path in (tmp_path, tmp_path / "adapter_model.bin"):  # as some adapters have their base's settings, too
        for from_pickle in (False, True):
            with pytest.raises(CheckpointError, match="an adapter of 'org/base', not a model"):
                gf.load(path, from_pickle=from_pickle)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="this is an adapter, not a model"):
        gf.load(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize("name", ["a.gguf", "a.safetensors", "a.bin"])
def test_an_empty_file_is_called_empty(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match="is empty"):
        gf.load(tmp_path / name)


def test_a_text_by_the_name_of_weights_is_no_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("Just a text of somebody's, and no weights.")
    with pytest.raises(CheckpointError, match="it is no safetensors file"):
        gf.load(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((200).to_bytes(8, "little") + b"{")
    with pytest.raises(CheckpointError, match="it is cut short, or no safetensors file"):
        gf.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_size": 8}, "model_type is missing"),
        ({"model_type": "gemma3", "text_config": {}}, "'gemma3' is unknown; .* only a text model by itself is read"),
    ],
)
def test_a_model_type_that_is_missing_or_of_more_than_texts_is_said(
    settings: dict[str, object], says: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=says):
        gf.load(tmp_path)
