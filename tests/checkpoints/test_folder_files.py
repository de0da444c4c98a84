"""A folder's files are opened once, whoever asks for what is in them."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import checkpoints
from glassformer.checkpoints import pickles, safetensors
from glassformer.checkpoints.folder_files import FolderFiles
from glassformer.errors import CheckpointCorrupt
from glassformer.models.bert import Bert, BertConfig

WATCHING: list[Counter[str]] = []  # an audit hook stays for good, so it looks here whether it has something to do


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and WATCHING and isinstance(arguments[0], str):
        WATCHING[-1][Path(arguments[0]).name] += 1


sys.addaudithook(_note)


def opened(path: Path, **options: Any) -> Counter[str]:
    """How often a load opens each file, by name."""
    WATCHING.append(Counter())
    try:
        gf.load(path, **options)
    finally:
        counts = WATCHING.pop()
    return Counter({name: n for name, n in counts.items() if (path / name).exists()})


@pytest.mark.parametrize("name", ["gpt2", "whisper-tiny.en", "vit-mnist"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_each_file_of_settings_is_opened_once(name: str, is_ours: bool, tmp_path: Path) -> None:
    sizes = {"vit-mnist": {}, "gpt2": {"d_model": 12, "n_layers": 1, "n_heads": 2, "vocab_size": 7}}.get(
        name, {"d_model": 12, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2, "alignment_heads": ()}
    )
    folder = gf.save(gf.build(name, **sizes), tmp_path / "model")
    (folder / "manifest.json").unlink()
    if not is_ours:
        (folder / "glassformer.json").unlink()
    if name == "vit-mnist":
        (folder / "preprocessor_config.json").write_text(json.dumps({"size": 28, "do_resize": True}))
    counts = opened(folder)
    settings = {path.name for path in folder.iterdir() if path.suffix == ".json"}
    assert {"config.json", "generation_config.json"} <= settings
    assert {file: counts[file] for file in settings} == dict.fromkeys(settings, 1)
    assert counts["model.safetensors"] == 1, "its header, which the library then reads on its own"


def test_a_pickled_folder_is_unpickled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig(vocab_size=7, context_length=6, d_model=8, n_layers=1, n_heads=2, d_ff=4)
    folder = checkpoints.save(Bert(config), tmp_path / "model")
    torch.save(
        {name: tensor.clone() for name, tensor in safetensors.read(folder / "model.safetensors").items()},
        folder / "pytorch_model.bin",
    )
    (folder / "model.safetensors").unlink()
    (folder / "manifest.json").unlink()
    calls: list[Path] = []
    load = pickles.load

    def noted(path: Path) -> Any:
        calls.append(path)
        return load(path)

    monkeypatch.setattr(pickles, "load", noted)
    assert gf.load(folder, from_pickle=True).config == config
    assert [path.name for path in calls] == ["pytorch_model.bin"]


def test_a_record_of_files_keeps_what_it_has_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1}')
    folder = FolderFiles(tmp_path)
    assert (folder.settings("config.json"), folder.settings("other.json")) == ({"a": 1}, {})
    (tmp_path / "config.json").write_text("no JSON any more")
    assert folder.settings("config.json") == {"a": 1}
    (tmp_path / "large.json").write_bytes(b" " * 100)
    with pytest.raises(CheckpointCorrupt, match=r"large\.json has 100 bytes; at most 10 are read here"):
        folder.content("large.json", 10)
    with pytest.raises(CheckpointCorrupt, match="leads out of the folder"):
        folder.content("../secret")
