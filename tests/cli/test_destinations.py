"""One rule for whatever a verb writes: nothing is replaced unasked, and never what is read; it is said before the work.

The commands run in this process: what they do to files is the same.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

import glassformer as gf
from glassformer import api
from glassformer.cli.app import app
from glassformer.errors import GlassformerError
from glassformer.training.loop import train
from training.runs import sorting


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The sentence with which a command is refused, before it has opened a model or a text."""

    def no_work(*arguments: object, **settings: object) -> None:
        raise AssertionError("the work has begun")

    def refusal(*arguments: object) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(api, "load", no_work)
            patch.setattr(api, "build", no_work)
            with pytest.raises(GlassformerError) as refused:
                app([str(argument) for argument in arguments])
        message = refused.value.at_command_line()
        assert "overwrite=True" not in message
        return message

    return refusal


def verbs(out: Path, folder: Path) -> dict[str, list[object]]:
    """A command for each verb that writes, with `out` where its output goes."""
    text = folder / "text.txt"
    text.write_text("to be written down\n")
    return {
        "convert": ["convert", "nano-sort", out],
        "trace": ["trace", "nano-sort", "--input", "C", "--out", out],
        "trace to a file": ["trace", "nano-sort", "--input", "C", "--out", out.with_suffix(".gft")],
        "view": ["view", "nano-sort", "--export", out],
        "view in a file": ["view", "nano-sort", "--export", out.with_suffix(".html")],
        "translate": ["translate", "model", "--file", text, "--out", out],
        "transcribe": ["transcribe", "model", folder / "out.wav", "--out", folder],
        "tokenizer": ["tokenizer", "train", text, "--vocab-size", 260, "--out", folder],
    }


WRITTEN = {
    "convert": "out/notes.txt",
    "trace": "out/notes.txt",
    "trace to a file": "out.gft",
    "view": "out/notes.txt",
    "view in a file": "out.html",
    "translate": "out",
    "transcribe": "out.txt",
    "tokenizer": "tokenizer.json",
}


@pytest.mark.parametrize("verb", WRITTEN)
def test_nothing_is_replaced_unasked(verb: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    command = verbs(tmp_path / "out", tmp_path)[verb]
    path = tmp_path / WRITTEN[verb]
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work")
    if path.parent == tmp_path:
        assert "is there already: choose another place, or say --overwrite" in refusal(*command)
    else:  # a folder with anything in it that is not ours is not even replaced when asked to
        assert "notes.txt" in refusal(*command)
        assert "notes.txt" in refusal(*command, "--overwrite")
    assert path.read_text() == "years of work"


@pytest.mark.parametrize("verb", [verb for verb in WRITTEN if verb not in ("transcribe", "tokenizer")])
def test_where_nothing_can_be_written_is_said_before_the_work(
    verb: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    (tmp_path / "file").touch()
    message = refusal(*verbs(tmp_path / "file" / "out", tmp_path)[verb])
    assert f"cannot be written: {tmp_path / 'file'} is a file, not a folder" in message
    root = [Path("/") if part == tmp_path / "out" else part for part in verbs(tmp_path / "out", tmp_path)[verb]]
    if "file" not in verb:
        assert refusal(*root).startswith("/ is ")


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_what_is_read_is_not_replaced(overwrite: tuple[str, ...], tmp_path: Path, refusal: Callable[..., str]) -> None:
    gf.save(gf.build("nano-sort"), tmp_path / "model")
    text = tmp_path / "in.txt"
    text.write_text("the only copy\n")
    (tmp_path / "picture.html").touch()
    for command in (
        ("convert", tmp_path / "model", tmp_path / "model"),
        ("convert", tmp_path / "model", tmp_path / "model" / ".." / "model"),
        ("translate", "x", "--file", text, "--out", text),
        ("view", "preset:vit-mnist", "--input", tmp_path / "picture.html", "--export", tmp_path / "picture.html"),
        ("transcribe", "x", text, "--out", tmp_path, "--format", "txt"),
    ):
        assert "which is read" in refusal(*command, *overwrite)
    assert text.read_text() == "the only copy\n"
    gf.load(tmp_path / "model")


def test_the_folder_that_the_shell_is_in_stays(
    tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "the folder that you are in" in refusal("convert", "nano-sort", ".", "--overwrite")


def test_the_demo_replaces_an_earlier_demo_alone(tmp_path: Path, refusal: Callable[..., str]) -> None:
    train(sorting(steps=1), tmp_path / "sort")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "holds a run with settings of its own" in refusal("demo", "--runs", tmp_path)
    (tmp_path / "another" / "sort").mkdir(parents=True)
    (tmp_path / "another" / "sort" / "view.html").write_text("years of work")
    assert "view.html is there already" in refusal("demo", "--runs", tmp_path / "another")
    assert {path: path.read_bytes() for path in before} == before
