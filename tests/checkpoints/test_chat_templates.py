"""Chat templates in the files of folders and of GGUF: those that `transformers` and the package gguf read and write."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer

import glassformer as gf
from glassformer import checkpoints
from glassformer.checkpoints.chat_templates import MAX_CHARACTERS, special_tokens_of, templates_of
from glassformer.checkpoints.gguf_file import GGUFFile
from glassformer.checkpoints.gguf_tokenizer import files_of
from glassformer.errors import CheckpointCorrupt, GlassformerError
from support.chat_models import write_chat_model
from support.chat_templates import CHATML, ZEPHYR

NAMED = {"default": CHATML, "tool_use": ZEPHYR, "rag": "{{ messages[0].content }}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_chat_model(tmp_path / "model")


def contents_of(folder: Path) -> Any:
    return gf.load(folder).rest.contents


def set_config(folder: Path, **settings: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("templates", [NAMED, {"default": CHATML}], ids=["several", "one"])
@pytest.mark.parametrize("as_files", [True, False])
def test_templates_are_those_that_transformers_has(folder: Path, templates: dict[str, str], as_files: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = templates if len(templates) > 1 else templates["default"]
    tokenizer.save_pretrained(folder, save_jinja_files=as_files)
    if not as_files:
        (folder / "chat_template.jinja").unlink()
    assert templates_of(contents_of(folder)) == templates
    assert gf.load(folder).chat_template().text == CHATML


def test_a_file_goes_before_the_setting(folder: Path) -> None:
    set_config(folder, chat_template="{{ other }}")
    (template,) = templates_of(contents_of(folder)).values()
    assert template == AutoTokenizer.from_pretrained(folder).chat_template != "{{ other }}"


def test_templates_survive_a_copy_and_gguf_there_and_back(folder: Path, tmp_path: Path) -> None:
    """By way of a folder, of a file and of a folder again, each opened by a program of others too."""
    (folder / "chat_template.jinja").unlink()
    set_config(folder, chat_template=[{"name": name, "template": text} for name, text in NAMED.items()])
    copy = gf.save(gf.load(folder), tmp_path / "copy")
    assert AutoTokenizer.from_pretrained(copy).chat_template == NAMED
    path = checkpoints.save_gguf(gf.load(copy).checkpoint, tmp_path / "model.gguf", kind="f32")
    reader = gguf.GGUFReader(path)
    assert reader.get_field("tokenizer.chat_template").contents() == CHATML
    assert reader.get_field("tokenizer.chat_templates").contents() == ["tool_use", "rag"]
    assert reader.get_field("tokenizer.chat_template.rag").contents() == NAMED["rag"]
    again = gf.load(path)
    assert templates_of(again.rest.contents) == NAMED
    assert AutoTokenizer.from_pretrained(gf.save(again, tmp_path / "again")).chat_template == NAMED


def test_names_in_a_gguf_file_that_are_no_names_of_files_are_passed_over(folder: Path, tmp_path: Path) -> None:
    metadata = GGUFFile(checkpoints.save_gguf(gf.load(folder).checkpoint, tmp_path / "m.gguf", kind="f32")).metadata
    names = ["../../evil", "rag", "a/b", "", 7]
    more = {f"tokenizer.chat_template.{name}": "text" for name in names} | {"tokenizer.chat_templates": names}
    files = files_of({**metadata, **more})
    assert {name for name in files if "/" in name} == {"additional_chat_templates/rag.jinja"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"tokenizer_config.json": b'{"chat_template": 3}'}, "must be a text, or a list"),
        ({"tokenizer_config.json": b'{"chat_template": [{"name": "x"}]}'}, "must be a text, or a list"),
        ({"tokenizer_config.json": b'{"chat_template": ["x"]}'}, "must be a text, or a list"),
        ({"chat_template.jinja": b"\xff"}, "chat_template.jinja is not UTF-8"),
        ({"chat_template.jinja": b"x" * (MAX_CHARACTERS + 1)}, "are the most"),
        ({"chat_template.json": b"[1]"}, "must hold a JSON object"),
    ],
    ids=range(6),
)
def test_what_is_no_template_is_refused(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=reason):
        templates_of(files)


def test_a_broken_template_keeps_nobody_from_the_model(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    model = gf.load(folder)
    assert "".join(model.generate("?", max_new_tokens=3)) == "Par"
    with pytest.raises(GlassformerError, match="not UTF-8"):
        model.chat([{"role": "user", "content": "x"}])


def test_special_tokens_are_those_that_the_files_declare(folder: Path) -> None:
    model = gf.load(folder)
    assert model.tokenizer is not None
    assert (
        special_tokens_of(model.rest.contents, model.tokenizer)
        == AutoTokenizer.from_pretrained(folder).special_tokens_map
    )
    assert special_tokens_of({}, model.tokenizer) == {"eos_token": "<|endoftext|>"}
    declared = {"bos_token": {"content": "<|im_start|>"}, "eos_token": None, "add_bos_token": True, "pad_token": "x"}
    contents = {
        "special_tokens_map.json": b'{"eos_token": "y"}',
        "tokenizer_config.json": json.dumps(declared).encode(),
    }
    tokens = special_tokens_of(contents, model.tokenizer)
    assert (tokens["bos_token"], tokens["pad_token"]) == ("<|im_start|>", "x")
