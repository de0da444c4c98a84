"""`glassformer transcribe`: text to standard output or files, and a broken recording beside good ones."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.commands import run


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
    first, second = done.stderr.splitlines()
    assert "broken.wav is not sound" in first
    assert second == f"{tmp_path / 'out' / 'vm-delete.srt'} is written."
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vm-delete.srt"]
    assert "Press 7 to delete this message." in (tmp_path / "out" / "vm-delete.srt").read_text()


def test_one_json_object_for_programs(data_dir: Path) -> None:
    done = command(data_dir, data_dir / "audio" / "asterisk" / "vm-delete.wav", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (transcript,) = json.loads(done.stdout)["transcripts"]
    assert transcript["text"] == "Press 7 to delete this message."
    assert transcript["language"] == "en"
    assert (transcript["truncated"], transcript["remarks"]) == (False, [])


def test_a_recording_that_ends_early_is_transcribed_and_said(data_dir: Path, tmp_path: Path) -> None:
    good = data_dir / "audio" / "asterisk" / "vm-delete.wav"
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:20_000])
    sentence = f"{cut} is cut short, or damaged: it should have 36,790 bytes, and has 20,000."
    done = command(data_dir, good, cut)
    assert (done.returncode, done.stderr) == (0, f"{sentence}\n")
    assert f"{good}:\nPress 7 to delete this message.\n\n{cut}:\nPress 7" in done.stdout
    done = command(data_dir, cut, "--strict", "--json")
    assert (done.returncode, done.stderr) == (1, f"{sentence}\n")
    (transcript,) = json.loads(done.stdout)["transcripts"]
    assert (transcript["truncated"], transcript["remarks"]) == (True, [sentence])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.wav"], "nothing.wav: expected a file with sound, and there is none."),
        (["broken.wav", "nothing.wav"], "broken.wav is not sound that can be read here"),
        (["a.wav", "--out", "broken.wav"], "broken.wav"),
        (["a.wav", "--out", "out"], "--overwrite"),
        (["a.wav", "b.wav", "--format", "srt"], "add --out FOLDER"),
    ],
)
def test_files_are_checked_before_the_model_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.wav").write_bytes(b"no sound")
    Path("out").mkdir()
    Path("out/a.txt").write_text("mine")
    soundfile.write("a.wav", np.zeros(1_000), 16_000)
    done = run("transcribe", "no-such-model", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "no-such-model" not in done.stderr
    assert Path("out/a.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name at least one recording"),
        (["a/x.wav", "b/x.wav", "--out", "out"], "the same file"),
        (["x.wav", "--line-width", "0"], "must be at least 1"),
        (["jfk-16k.wav", "--language", "de"], "English alone"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    data_dir: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir / "audio")
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
