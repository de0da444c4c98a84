"""Speech as a task: what a batch is, that recordings are learned, resumed runs, and fine-tuning real weights."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import checkpoints
from glassformer.config import merge
from glassformer.data.audio import read_audio
from glassformer.errors import ConfigError, DataError, GenerationError, GlassformerError
from glassformer.features.log_mel import log_mel
from glassformer.tokenizers import Tokenizer
from glassformer.training.config import RunConfig
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.training.tasks.speech import SpeechRecognition
from glassformer.viewer.watch import Watch
from training.runs import everything

WHISPER = {
    "architecture": "whisper",
    "context_length": 24,
    "audio_context_length": 50,  # one second of sound
    "n_mels": 16,
    "d_model": 32,
    "n_encoder_layers": 1,
    "n_decoder_layers": 1,
    "n_heads": 2,
}


@pytest.fixture
def digits(data_dir: Path, tmp_path: Path) -> Path:
    """Two spoken digits of one speaker, three times each."""
    lines = []
    for digit, word in ((1, "one"), (7, "seven")):
        for take in range(3):
            name = f"{digit}_jackson_{take}.wav"
            shutil.copyfile(data_dir / "audio" / "fsdd" / name, tmp_path / name)
            lines.append(f"{name}\t{word}\n")
    (tmp_path / "digits.tsv").write_text("".join(lines))
    return tmp_path / "digits.tsv"


def config(path: Path, **changes: Any) -> RunConfig:
    settings = {
        "model": WHISPER,
        "data": {"path": str(path), "tokenizer": "bpe:260", "validation_fraction": 0.0},
        "batch_size": 3,
        "steps": 4,
        "accumulation": 2,
        "eval_interval": 0,
        "save_interval": 2,
        "optimizer": {"lr": 3e-3, "weight_decay": 0.0},
        "schedule": {"kind": "constant", "warmup_steps": 2},
    }
    return resolve(merge(settings, changes))


def test_a_batch_is_what_whisper_learned_from(digits: Path, tmp_path: Path) -> None:
    task = SpeechRecognition(config(digits), tmp_path / "tokens", lambda sentence: None)
    speech, batch = task.speech, task.batch(0, 1)
    frames, tokens = batch.inputs
    assert frames.shape == (3, 16, 100)
    spoken = dict(zip(task.training.paths, task.training.texts, strict=True))
    for row, mel in enumerate(frames):
        asked = batch.targets[row][batch.targets[row] != -100].tolist()
        assert tokens[row, :2].tolist() == [speech.start, speech.no_times]
        assert asked[-1] == speech.end_of_text
        assert asked[:-1] == tokens[row, 2 : 1 + len(asked)].tolist()
        same = [path for path in spoken if torch.equal(heard(path), mel)]
        assert [spoken[path] for path in same] == [speech.decode(asked).strip()]
    assert batch.count == int((batch.targets != -100).sum())


def heard(path: Path) -> torch.Tensor:
    sound = read_audio(path)
    return log_mel(torch.cat([sound, torch.zeros(16_000 - len(sound))]), 16)


@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_small_one_learns_two_digits_by_heart(digits: Path, tmp_path: Path) -> None:
    fast = {"lr": 1e-2}
    run = config(
        digits,
        data={"validation_path": str(digits)},
        optimizer=fast,
        steps=40,
        accumulation=1,
        batch_size=6,
        save_interval=0,
    )
    ended = train(run, tmp_path / "run")
    assert ended.figures["loss"] < 0.3
    assert ended.figures["wer"] == 0
    found = gf.load(tmp_path / "run")
    assert found.kind == "speech-recognizer"
    assert found.tokenizer is not None


def test_believed_too_easily_a_run_is_not_resumed_on_other_recordings(digits: Path, tmp_path: Path) -> None:
    train(config(digits, steps=1, accumulation=1), tmp_path / "run")
    digits.write_text(digits.read_text().replace("seven", "eleven"))
    with pytest.raises(DataError, match="not what the run began with"):
        train(config(digits, steps=2, accumulation=1), tmp_path / "run", resume=True)


def test_a_resumed_run_is_the_one_that_was_not_stopped(digits: Path, tmp_path: Path) -> None:
    changes = {"model": {"dropout": 0.2}, "data": {"validation_fraction": 0.3}}
    train(config(digits, **changes), tmp_path / "whole")
    train(config(digits, steps=2, **changes), tmp_path / "half")
    train(config(digits, **changes), tmp_path / "half", resume=True)
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")


def test_a_page_can_watch_it(digits: Path, tmp_path: Path) -> None:
    watch = Watch(name="digits", on_first=lambda session: None)
    train(config(digits, steps=1), tmp_path / "run", on_event=watch)
    assert watch.session.runs


def test_what_is_too_long_is_left_out_with_a_word(digits: Path, tmp_path: Path, data_dir: Path) -> None:
    shutil.copyfile(data_dir / "audio" / "jfk-16k.wav", tmp_path / "jfk.wav")
    long = "jfk.wav\task not\n"
    digits.write_text(digits.read_text() + long + digits.read_text().splitlines()[0] + "s and ones" * 9 + "\n")
    said: list[str] = []
    task = SpeechRecognition(config(digits), tmp_path / "tokens", said.append)
    assert len(task.training) == 6
    assert "2 recordings are longer than 1 seconds or 24 tokens, and left out." in said


@pytest.mark.parametrize(
    ("content", "changes", "error", "sentence"),
    [
        ("nowhere.wav\tone\n", {}, DataError, "names .*nowhere.wav, and there is no such recording"),
        ("one.wav one\n", {}, DataError, "line 1 has no tab"),
        ("jfk.wav\tAsk not.\n", {}, DataError, "no recording of up to 1 seconds"),
        ("jfk.wav\tAsk not.\n", {"data": {"language": "de"}}, GenerationError, "transcribes English alone"),
        ("jfk.wav\tAsk not.\n", {"data": {"tokenizer": "char"}}, ConfigError, "no token that ends a text"),
        ("broken.wav\tone\n", {}, DataError, "broken.wav is not sound"),
        ("../secret.wav\tone\n", {}, DataError, "which is not in .*: name the folder of its recordings"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    data_dir: Path, tmp_path: Path, content: str, changes: dict[str, Any], error: type[GlassformerError], sentence: str
) -> None:
    shutil.copyfile(data_dir / "audio" / "jfk-16k.wav", tmp_path / "jfk.wav")
    (tmp_path / "list.tsv").write_text(content)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    with pytest.raises(error, match=sentence):
        train(config(tmp_path / "list.tsv", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recording_that_ends_early_is_said_once(digits: Path, tmp_path: Path) -> None:
    cut = tmp_path / "1_jackson_0.wav"
    cut.write_bytes(cut.read_bytes()[:-1_000])
    said: list[str] = []
    task = SpeechRecognition(config(digits), tmp_path / "tokens", said.append)
    for _ in range(2):
        task.frames.cache_clear()
        for path in task.training.paths:
            task.frames(path)
    assert [sentence.split(",")[0] for sentence in said if "cut" in sentence] == [f"{cut} is cut short"]


@pytest.mark.slow
def test_real_weights_are_fine_tuned_on_their_own_terms(data_dir: Path, tmp_path: Path) -> None:
    """tiny.en knows both prompts nearly: a few steps lower the loss, from what it had as it came."""
    tokenizer = Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken")
    found = checkpoints.load(data_dir / "whisper" / "tiny.en.pt", from_pickle=True)
    checkpoints.save(found.module, tmp_path / "tiny.en", tokenizer=tokenizer)
    asterisk = data_dir / "audio" / "asterisk"
    lines = (asterisk / "transcripts.tsv").read_text().splitlines()[1:3]
    (tmp_path / "prompts.tsv").write_text("".join(f"{line}\n" for line in lines))
    settings = {
        "model": {"from": str(tmp_path / "tiny.en")},
        "data": dict.fromkeys(("path", "validation_path"), str(tmp_path / "prompts.tsv"))
        | {"recordings": str(asterisk)},
        "batch_size": 2,
        "steps": 4,
        "eval_interval": 0,
        "optimizer": {"lr": 1e-5},
        "schedule": {"kind": "constant", "warmup_steps": 0},
    }
    run = resolve(settings)
    task = SpeechRecognition(run, tmp_path / "tokens", lambda sentence: None)
    before = task.evaluate(found.module)
    assert before["loss"] < 2  # real weights, not random ones
    after = train(run, tmp_path / "run").figures
    assert after["loss"] < before["loss"]
    assert after["wer"] <= before["wer"]
