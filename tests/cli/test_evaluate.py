"""`glassformer evaluate` for every kind: figures that are known, and one sentence for what cannot be measured."""

import json
import subprocess
from pathlib import Path

import pytest

import glassformer as gf
from glassformer.errors import ConfigError
from glassformer.features import image_processor
from glassformer.features.image_processor import ImageProcessor
from support.commands import run
from support.published import MNIST_VIT_FLAGS


def evaluate(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("evaluate", *map(str, arguments), cwd=cwd)


# ---- translators


@pytest.fixture(scope="module")
def predictions(data_dir: Path) -> dict[str, str]:
    """What g2p_en itself makes of some words."""
    found = json.loads((data_dir / "seq2seq" / "g2p_en.reference.json").read_text())["predictions"]
    return {word: " ".join(phonemes) for word, phonemes in found.items()}


def test_translations_that_are_all_right_have_100(data_dir: Path, predictions: dict[str, str], tmp_path: Path) -> None:
    g2p = data_dir / "seq2seq" / "g2p_en-checkpoint20.npz"
    (tmp_path / "words").write_text("".join(f"{word}\n" for word in predictions))
    (tmp_path / "phonemes").write_text("".join(f"{text}\n" for text in predictions.values()))
    done = evaluate(
        g2p, tmp_path / "words", "--target", tmp_path / "phonemes", "--beams", 1, "--words", "none", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["bleu"], found["chrf"], found["texts"]) == (pytest.approx(100), pytest.approx(100), len(predictions))
    assert "tok:none" in found["bleu_signature"]
    assert "nc:6" in found["chrf_signature"]

    word, phonemes = next(iter(predictions.items()))
    (tmp_path / "pairs.tsv").write_text(f"{word}\t{phonemes}\tsomebody\n{word}\twrong\n")
    done = evaluate(g2p, tmp_path / "pairs.tsv", "--beams", 1, "--limit", 1)
    assert done.returncode == 0, done.stderr
    shown = {line[:17].strip(): line[18:] for line in done.stdout.splitlines()}
    assert (shown["bleu"], shown["chrf"], shown["texts"]) == ("100.0000", "100.0000", "1")


# ---- image classifiers


def test_real_digits_by_a_real_model(data_dir: Path, tmp_path: Path) -> None:
    image_processor.save(ImageProcessor(size=(28, 28), mean=(0.1307,), std=(0.3081,)), tmp_path)
    model = [
        data_dir / "vit" / "vit_mnist.pth",
        "--from-pickle",
        *MNIST_VIT_FLAGS,
        "--processor",
        tmp_path,
    ]
    images = data_dir / "images" / "mnist" / "t10k-images-idx3-ubyte.gz"
    done = evaluate(*model, images, "--limit", 400, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] == found["correct"] / 400 > 0.95
    assert [one["label"] for one in found["classes"]] == [str(digit) for digit in range(10)]
    assert sum(one["correct"] for one in found["classes"]) == found["correct"]
    assert sum(one["total"] for one in found["classes"]) == found["total"] == 400


@pytest.mark.slow
def test_a_published_accuracy_on_all_of_mnist(data_dir: Path, tmp_path: Path) -> None:
    image_processor.save(ImageProcessor(size=(28, 28), mean=(0.1307,), std=(0.3081,)), tmp_path)
    model = [
        data_dir / "vit" / "vit_mnist.pth",
        "--from-pickle",
        *MNIST_VIT_FLAGS,
        "--processor",
        tmp_path,
    ]
    done = evaluate(*model, data_dir / "images" / "mnist" / "t10k-images-idx3-ubyte.gz", "--json")
    assert json.loads(done.stdout)["accuracy"] == pytest.approx(0.9794, abs=1e-9)


# ---- speech recognizers


def test_prompts_of_a_telephone_have_few_word_errors(data_dir: Path) -> None:
    whisper = [data_dir / "whisper" / "tiny.en.pt", "--from-pickle"]
    whisper += ["--tokenizer", data_dir / "tokenizers" / "gpt2.tiktoken"]
    done = evaluate(*whisper, data_dir / "audio" / "asterisk" / "transcripts.tsv", "--limit", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    reference = json.loads((data_dir / "audio" / "asterisk" / "tiny.en.reference.json").read_text())["clips"][:2]
    assert found["recordings"] == 2
    assert found["words"] == sum(clip["words"] for clip in reference)
    assert found["wer"] == found["errors"] / found["words"]
    assert found["errors"] <= sum(clip["errors"] for clip in reference)
    assert [Path(clip["file"]).name for clip in found["clips"]] == [clip["file"] for clip in reference]


# ---- what cannot be


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Small models of every kind, and files that are no data."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "g2p.npz").symlink_to(data_dir / "seq2seq" / "g2p_en-checkpoint20.npz")
    gf.save(gf.build("vit", image_size=(8, 8), patch_size=(4, 4), d_model=8, n_layers=1, n_heads=2), folder / "vit")
    sizes = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "d_ff": 12, "context_length": 8}
    gf.save(gf.build("bert", **sizes, n_layers=1), folder / "bert")
    (folder / "empty").mkdir()
    (folder / "empty.txt").touch()
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "lines").write_text("a\nb\n")
    (folder / "line").write_text("a\n")
    (folder / "x-images-idx3").write_bytes(b"\0\0\x08\x03")
    (folder / "x-labels-idx1").write_bytes(b"\0\0\x08\x01")
    (folder / "clips.tsv").write_text("nowhere.wav\thello\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["g2p.npz", "nowhere"], "nowhere cannot be read"),
        (["g2p.npz", "empty.txt"], "empty.txt has no pair"),
        (["g2p.npz", "binary"], "binary is not UTF-8 text"),
        (["g2p.npz", "lines"], "line 1 has no tab"),
        (["g2p.npz", "lines", "--target", "nowhere"], "nowhere cannot be read"),
        (["g2p.npz", "lines", "--target", "line"], "lines has 2 lines and line has 1"),
        (["g2p.npz", "lines", "--target", "lines", "--words", "letters"], 'Choose from: "13a", "intl", "zh"'),
        (["g2p.npz", "lines", "--target", "lines", "--beams", "0"], "--beams must be from 1"),
        (["g2p.npz", "lines", "--batch-size", "0"], "--batch-size must be at least 1"),
        (
            ["g2p.npz", "lines", "--processor", "empty"],
            "--processor is not for an encoder-decoder, which this",
        ),
        (["vit", "nowhere"], "nothing at nowhere"),
        (["vit", "empty"], "empty has no folders"),
        (["vit", "lines"], "name the labels too"),
        (["vit", "x-images-idx3"], "x-images-idx3 ends within its header"),
        (["vit", "lines", "--beams", "2"], "--beams is not for an image classifier"),
        (["vit", "lines", "--limit", "0"], "--limit must be at least 1"),
        (["bert", "lines"], "and the model is an encoder"),
        (["preset:nano-sort", "sort", "--target", "lines"], "--target is not for a language model"),
        (["nowhere", "lines"], "nothing at nowhere"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(folder: Path, arguments: list[str], message: str) -> None:
    done = evaluate(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_recording_that_is_not_there_is_named_before_any_is_heard(folder: Path, data_dir: Path) -> None:
    whisper = [data_dir / "whisper" / "tiny.en.pt", "--from-pickle"]
    whisper += ["--tokenizer", data_dir / "tokenizers" / "gpt2.tiktoken"]
    for arguments, message in (
        (["clips.tsv"], "clips.tsv names nowhere.wav, and there is no such recording"),
        (["clips.tsv", "--language", "de"], "English alone"),
        (["lines"], "no tab"),
    ):
        done = evaluate(*whisper, *arguments, cwd=folder)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


# ---- the same from Python


def test_a_model_measures_itself() -> None:
    model = gf.load("nano-sort")
    figures = model.evaluate("sort")
    assert (figures["correct"], figures["total"]) == (729, 729)
    with pytest.raises(ConfigError, match="beams is not for a language model"):
        model.evaluate("sort", beams=2)


# ---- endless texts


def test_a_long_text_under_each_policy_is_a_table_and_a_plot(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("CBABBC" * 20)
    done = evaluate("nano-sort", tmp_path / "text", "--streaming", 8, "--limit", 60, "--plot", tmp_path / "plot.png")
    assert done.returncode == 0, done.stderr
    for name in ("dense", "window:8", "sinks:4+4", "recomputation:8"):
        assert name in done.stdout
    assert (tmp_path / "plot.png").stat().st_size > 1000
    again = evaluate("nano-sort", tmp_path / "text", "--streaming", 8, "--plot", tmp_path / "plot.png")
    assert again.returncode == 2
    assert "plot.png, which is there already: choose another place." in again.stderr
    figures = json.loads(evaluate("nano-sort", tmp_path / "text", "--streaming", 8, "--json").stdout)
    assert figures["tokens"] == 120
    assert [row["tokens"] for row in figures["caches"]][:2] == [11, 119], "learned positions end"
    for flags, says in (
        (["--streaming", 50], "--streaming must be from 2 to 11"),
        (["--limit", 5], "is for streaming"),
    ):
        refused = evaluate("nano-sort", tmp_path / "text", *flags)
        assert refused.returncode == 2
        assert says in refused.stderr
