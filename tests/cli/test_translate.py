"""`glassformer translate`: texts from arguments, files and standard input, and one sentence for what cannot be."""

import gzip
import json
from pathlib import Path

import pytest

from support.commands import run

WORDS = ["transformer", "", "attention", "encoder"]


@pytest.fixture(scope="module")
def g2p(data_dir: Path) -> str:
    """A real encoder-decoder: letters to phonemes."""
    return str(data_dir / "seq2seq" / "g2p_en-checkpoint20.npz")


@pytest.fixture(scope="module")
def phonemes(data_dir: Path) -> list[str]:
    found = json.loads((data_dir / "seq2seq" / "g2p_en.reference.json").read_text())["predictions"]
    return [" ".join(found[word]) if word else "" for word in WORDS]


def test_arguments_are_translated_and_a_single_one_streams(g2p: str, phonemes: list[str]) -> None:
    for words, expected in (WORDS, phonemes), (WORDS[:1], phonemes[:1]):
        done = run("translate", g2p, *words, "--beams", "1")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "".join(f"{line}\n" for line in expected)


def test_lines_of_a_file_and_of_standard_input_keep_their_places(g2p: str, phonemes: list[str], tmp_path: Path) -> None:
    lines = "".join(f"{word}\n" for word in WORDS)
    (tmp_path / "words.gz").write_bytes(gzip.compress(lines.encode()))
    expected = "".join(f"{line}\n" for line in phonemes)
    done = run("translate", g2p, "--file", str(tmp_path / "words.gz"), "--beams", "1", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out").read_text() == expected
    assert run("translate", g2p, "--beams", "1", stdin=lines).stdout == expected


def test_one_json_object_for_programs_says_how_each_text_ended(g2p: str) -> None:
    done = run("translate", g2p, "attention", "", "--max-new-tokens", "3", "--json")
    first, second = json.loads(done.stdout)["translations"]
    assert first["source"] == "attention"
    assert (len(first["translation"].split()), first["finish"]) == (3, "length")
    assert second == {"source": "", "translation": "", "finish": "stop"}
    assert "1 of 2 texts came to no end" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--beams", "0"], "--beams must be from 1"),
        (["a", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["a", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1"),
        (["a", "--length-penalty", "99"], "--length-penalty must be"),
        (["a", "--file", "words"], "not both"),
        (["--file", "nowhere"], "nowhere cannot be read"),
        (["--file", "binary"], "binary is not UTF-8 text"),
        (["--file", "broken.gz"], "broken.gz cannot be read"),
        ([""], "There is nothing to translate"),
        (["--file", "empty"], "There is nothing to translate"),
        (["a" * 99], "Text 1 has 100 tokens, and this model reads 64 at most"),
    ],
)
def test_what_cannot_be_translated_is_one_sentence(
    g2p: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"text")[:-6])
    done = run("translate", g2p, *arguments, cwd=tmp_path, stdin="what nobody asked for")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_model_of_another_kind_is_named() -> None:
    done = run("translate", "nano-sort", "ABC")
    assert done.returncode == 2
    assert "takes an encoder-decoder, and the model is a language model" in done.stderr
