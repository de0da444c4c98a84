"""Results on stdout and nothing else there; what cannot be written, and what a stranger wrote, harms nobody."""

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import glassformer
import glassformer as gf
from glassformer.cli import failures
from glassformer.cli.output import plain, print_json, print_table
from glassformer.errors import GenerationError
from glassformer.printable import printable
from support.commands import run

CLI = Path(glassformer.__file__).parent / "cli"
SORT = "glassformer generate nano-sort CBABBC --temperature 0"
ESCAPE = "\x1b[31mred\x1b[0m\x07\x9b2J\u202ereversed\nline"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each thing that a verb may be given."""
    folder = tmp_path_factory.mktemp("place")
    Image.new("L", (8, 8)).save(folder / "grey.png")
    (folder / "text.txt").write_text("ABCABC" * 4)
    (folder / "vectors.txt").write_text("3 2\na 1 0\nb 0 1\nc 1 1\n")
    gf.save(gf.build("vit", image_size=(8, 8), patch_size=(4, 4), d_model=8, n_layers=1, n_heads=2), folder / "vit")
    gf.save(gf.load("nano-sort"), folder / "own")
    gf.trace(gf.load("nano-sort"), "CBA").save(folder / "own.gft")
    return folder


# ---- JSON

JSON = [
    "generate nano-sort CBABBC --max-new-tokens 2",
    "classify vit grey.png --patches",
    "evaluate nano-sort text.txt",
    "neighbours a --vectors vectors.txt",
    "convert preset:nano-sort copy",
    "trace nano-sort --input CBA --out kept.gft",
    "trace --check own.gft --cells 1",
    "explain nano-sort --input CBA --names *.scores",
    "explain nano-sort --input CBA --cell logits[0,0,0]",
    "view nano-sort --input CBA --export page.html",
    "view nano-sort --input CBA --check",
    "train nano-sort --steps 1 --batch-size 1 --eval-interval 0 --eval-batches 1 --name one",
    "train --settings",
    "train nano-sort --settings",
    "tokenizer encode own ABC",
    "tokenizer show own ABC",
    "tokenizer show own",
    "tokenizer show own ABC --merges",
    "data list",
    "compare nano-sort own.gft --input CBA",
    "attribute nano-sort --input CBA --cell logits[0,2,0]",
    "gallery site --steps 0",
    "doctor",
]


@pytest.mark.parametrize("arguments", JSON)
def test_json_is_one_value_and_nothing_else(arguments: str, place: Path) -> None:
    result = run(*arguments.split(" "), "--json", cwd=place)
    assert result.returncode in (0, 1), result.stderr
    json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result.stdout.count("\n") == 1


def test_the_address_of_a_page_is_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready_at_once(session: Any, listening: Any, *, hosts: Sequence[str], on_ready: Any) -> None:
        on_ready("http://127.0.0.1:1/?key=x")

    monkeypatch.setattr("glassformer.viewer.serve.serve", ready_at_once)
    result = run("view", "nano-sort", "--input", "CBA", "--json", "--no-open")
    assert json.loads(result.stdout) == {"url": "http://127.0.0.1:1/?key=x"}


def test_every_verb_with_json_is_among_these() -> None:
    having = {path.stem for path in CLI.glob("*.py") if "json: " in path.read_text()}
    assert having - {"output"} - {line.split()[0] for line in JSON} == {
        "demo",
        "transcribe",
        "translate",
    }  # which have tests of their own


def test_numbers_that_json_lacks_become_texts_and_pairs() -> None:
    assert plain({"a": [float("nan"), 1 + 2j, (float("-inf"),)]}) == {"a": ["nan", [1.0, 2.0], ["-inf"]]}


# ---- terminals


def test_no_control_character_passes() -> None:
    shown = printable(ESCAPE)
    assert shown.isprintable()
    assert shown == r"\x1b[31mred\x1b[0m\x07\x9b2J\u202ereversed\nline"
    assert printable("Zürich 世界 🙂 [train]") == "Zürich 世界 🙂 [train]"
    assert printable("two\nlines\x1b", keep="\n") == "two\nlines\\x1b"


def test_no_control_character_passes_in_json_and_programs_read_what_was_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = {"said": f"{ESCAPE}\x7f\u200f\udcff Zürich 世界"}
    print_json(said)
    shown = capsys.readouterr().out
    assert shown.removesuffix("\n").isprintable()
    assert "Zürich 世界" in shown
    assert json.loads(shown) == said


def test_only_one_file_of_the_command_line_prints() -> None:
    """So that nothing of a stranger's reaches a terminal on another way."""
    for path in sorted(CLI.glob("*.py")):
        if path.name in ("output.py", "__init__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "sys.stdout.write", "sys.stderr.write"), f"{path.name}:{node.lineno}"


def test_labels_words_and_names_of_strangers_are_shown_escaped(place: Path) -> None:
    labels = tuple(f"{ESCAPE}{number}" for number in range(3))
    sizes: dict[str, Any] = {"image_size": (8, 8), "patch_size": (4, 4), "d_model": 8, "n_layers": 1, "n_heads": 2}
    gf.save(gf.build("vit", n_classes=3, labels=labels, **sizes), place / "evil", overwrite=True)
    name = "a\x1b[2Jb.png"
    Image.new("L", (8, 8)).save(place / name)
    (place / "evil.txt").write_text("2 2\na\x1b[2J 1 0\nb\x9bx 0 1\n")
    for arguments in (
        ("classify", "evil", name),
        ("classify", "evil", "nothing\x1b[2J.png"),
        ("neighbours", "a\x1b[2J", "--vectors", "evil.txt"),
        ("generate", "now\x1bhere"),
        ("generate", "nano-sort", "--pro\x1bmpt", "A"),
        ("train", "\x1b[2J"),
    ):
        result = run(*arguments, cwd=place)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(result.stdout + result.stderr), arguments


def test_a_name_in_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """`pip install 'glassformer[train]'` came without its extra, and a smile for `:smile:`."""
    print_table(("extra [red]", "b"), [("train", "missing: pip install 'glassformer[train]' :smile:")], title="[bold]t")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("extra [red]", "'glassformer[train]' :smile:", "[bold]t"))


def test_tables_are_not_cut_at_the_width_of_a_terminal() -> None:
    names = run("explain", "nano-sort", "--input", "CBABBC", COLUMNS="40").stdout
    assert "blocks.0.attn.scores" in names
    assert "…" not in names
    assert "scores = scores.masked_fill(~allowed & sees_any, -torch.inf)" in names


def test_a_text_is_raw_in_a_file_and_escaped_at_a_terminal(tmp_path: Path) -> None:
    code = "from glassformer.cli.output import write_text, print_line; write_text('a\\x1b[2J\\n'); print_line('b\\x1b')"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert piped == "a\x1b[2J\nb\\x1b\n"
    terminal, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a terminal says that its other end is closed
        while data := os.read(terminal, 1024):
            shown += data
    os.close(terminal)
    assert shown.decode().split() == [r"a\x1b[2J", r"b\x1b"]


# ---- ends


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (f"{SORT} > /dev/full", 2, "no room left on the disk"),
        ("glassformer tokenizer show nano > /dev/full", 2, "no room left on the disk"),
        (f"{SORT} >&-", 2, "Standard output is closed"),
        ("glassformer generate nano-sort X 2>&-", 2, ""),
        ("glassformer generate nano-sort --prompt - <&-", 2, "The prompt is empty"),
    ],
)
def test_output_that_goes_nowhere_is_one_sentence(command: str, code: int, says: str, place: Path) -> None:
    run("convert", "preset:nano-sort", "nano", "--overwrite", cwd=place)
    shell = command.replace("glassformer", f"{sys.executable} -m glassformer", 1)
    result = subprocess.run(["bash", "-c", shell], cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode == code
    lines = [line for line in result.stderr.splitlines() if "context of" not in line]
    assert len(lines) == bool(says)
    assert says in "".join(lines)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError("Unable to allocate 7.28 TiB for an array"), 2, "a piece of 7.28 TiB"),
        (MemoryError(), 2, "try a smaller --n"),
        (
            RuntimeError("DefaultCPUAllocator: you tried to allocate 4000000000 bytes."),
            2,
            "4.0 GB",
        ),
        (RuntimeError("Storage size calculation overflowed with sizes=[9, 9]"), 2, "more memory than there is"),
        (torch.OutOfMemoryError("CUDA out of memory."), 2, "more memory than there is"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (OSError(28, "No space left on device", "x.bin"), 2, "no room left on the disk for x.bin"),
        (PermissionError(13, "Permission denied", "x.bin"), 2, "x.bin cannot be used: Permission denied"),
        (
            KeyError("blocks"),
            70,
            "glassformer's own, not of yours: KeyError, 'blocks'. With GLASSFORMER_DEBUG",
        ),
    ],
)
def test_whatever_is_raised_ends_in_one_sentence(
    error: Exception, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("glassformer.api.load", fail)
    result = run("generate", "nano-sort", "A")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (code, "", 1)
    assert says in result.stderr
    shown = run("generate", "nano-sort", "A", GLASSFORMER_DEBUG="1")
    assert "Traceback" in shown.stderr


def test_a_size_that_no_memory_holds_is_a_sentence_about_it() -> None:
    result = run("train", "nano-sort", "--batch-size", "1000000000000", "--name", "huge", "--runs", "/nonexistent/x")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert failures.ending(MemoryError(), "train")[0].endswith("--context-length.")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error_and_not_token_0_for_ever(bad: float) -> None:
    model = gf.build("nano-sort")
    with torch.no_grad():
        next(model.module.parameters()).fill_(bad)
    with pytest.raises(GenerationError, match="no finite numbers"):
        "".join(model.generate("AB", temperature=0.0))


def test_a_translator_or_classifier_with_broken_weights_says_so() -> None:
    from glassformer.inference.classify import classify

    sizes: dict[str, Any] = {"image_size": (8, 8), "patch_size": (4, 4), "d_model": 8, "n_layers": 1, "n_heads": 2}
    model = gf.build("vit", **sizes)
    with torch.no_grad():
        next(model.module.parameters()).fill_(float("nan"))
    with pytest.raises(GenerationError, match="no finite numbers"):
        classify(model.module, torch.zeros(1, 3, 8, 8))


def test_encoding_a_text_does_not_import_torch(place: Path) -> None:
    """It takes 0.4 s then; with torch 4 to 6."""
    run("convert", "preset:nano-sort", "nano2", "--overwrite", cwd=place)
    for arguments in ("['encode', 'nano2', 'ABC']", "['encode', 'nano2', '--file', 'ids.txt']", "['show', 'nano2']"):
        (place / "ids.txt").write_text("ABC")
        code = (
            f"import sys; sys.argv = ['glassformer', 'tokenizer', *{arguments}]\n"
            "from glassformer.cli import run\nrun()\nassert not {'torch', 'numpy'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True, capture_output=True)
