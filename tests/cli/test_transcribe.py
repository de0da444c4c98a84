"""`glassformer transcribe`: text to standard output or files, and a broken recording beside good ones."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import run


def command(data_dir: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    model = [
        data_dir / "whisper" / "tiny.en.pt",
        "--from-pickle",
        "--tokenizer",
        data_dir / "tokenizers" / "gpt2.tiktoken",
    ]
    return run("transcribe", *(str(part) for part in (*model, *arguments)))


def test_a_broken_recording_is_one_sentence_and_the_others_are_done(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    good = data_dir / "audio" / "asterisk" / "vm-delete.wav"
    done = command(
        data_dir, tmp_path / "broken.wav", good, "--format", "srt", "--word-times", "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "broken.wav is not sound" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vm-delete.srt"]
    assert "Press 7 to delete this message." in (tmp_path / "out" / "vm-delete.srt").read_text()


def test_one_json_object_for_programs(data_dir: Path) -> None:
    done = command(data_dir, data_dir / "audio" / "asterisk" / "vm-delete.wav", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (transcript,) = json.loads(done.stdout)["transcripts"]
    assert transcript["text"] == "Press 7 to delete this message."
    assert transcript["language"] == "en"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name at least one recording"),
        (["a/x.wav", "b/x.wav", "--out", "out"], "the same file"),
        (["x.wav", "--line-width", "0"], "must be at least 1"),
        (["x.wav", "--language", "de"], "English alone"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(data_dir: Path, arguments: list[str], message: str) -> None:
    done = command(data_dir, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_converted_model_has_its_tokens_with_it_or_the_lack_is_said(data_dir: Path, tmp_path: Path) -> None:
    weights, ranks = data_dir / "whisper" / "tiny.en.pt", data_dir / "tokenizers" / "gpt2.tiktoken"
    done = run("convert", str(weights), str(tmp_path / "bare"), "--from-pickle")
    assert done.returncode == 0
    assert "no tokenizer beside it, which transcribe needs" in done.stderr
    done = run("convert", str(weights), str(tmp_path / "whole"), "--from-pickle", "--tokenizer", str(ranks))
    assert (done.returncode, done.stderr) == (0, "")
    with soundfile.SoundFile(tmp_path / "silence.wav", "w", 16_000, 1) as file:
        file.write(np.zeros(32_000, np.float32))
    recordings = (data_dir / "audio" / "jfk-16k.wav", tmp_path / "silence.wav")
    heard = run("transcribe", str(tmp_path / "whole"), *map(str, recordings))
    assert "ask what you can do for your country" in heard.stdout
    assert heard.stderr == "silence.wav: no speech was found.\n"
