"""Folders that transformers saved, of encoders of texts and of images, with all that stands in them: every verb."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glassformer as gf
import tokenizers
from glassformer.kinds import kind_of
from glassformer.tokenizers import Tokenizer
from support.commands import run
from tokenizers import models, pre_tokenizers, trainers

transformers = pytest.importorskip("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TEXTS = ["The cat sat on the mat.", "It cost 12,345.67 in all!", "naïve ☃"]
LABELS = {0: "dull", 1: "fine", 2: "great"}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def learnt(pre_tokenizer: Any, model: Any, trainer: Any) -> dict[str, Any]:
    """What a vocabulary's file holds after it was learnt from the texts."""
    pipeline = tokenizers.Tokenizer(model)
    pipeline.pre_tokenizer = pre_tokenizer
    pipeline.train_from_iterator(TEXTS * 9, trainer)
    model_of_file: dict[str, Any] = json.loads(pipeline.to_str())["model"]
    return model_of_file


def of_bytes() -> Any:
    """RoBERTa's: byte-level BPE between <s> and </s>."""
    special, alphabet = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    parts = learnt(pre_tokenizers.ByteLevel(add_prefix_space=False), models.BPE(), trainer)
    return transformers.RobertaTokenizer(vocab=parts["vocab"], merges=[tuple(pair) for pair in parts["merges"]])


def of_words() -> Any:
    """BERT's: pieces of words between [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    parts = learnt(pre_tokenizers.BertPreTokenizer(), models.WordPiece(unk_token="[UNK]"), trainer)
    return transformers.BertTokenizer(vocab=parts["vocab"])


def tokenizer_and_model(family: str, head: str) -> tuple[Any, Any]:
    tokenizer = of_bytes() if family == "roberta" else of_words()
    config = transformers.AutoConfig.for_model(
        family, **SIZES, vocab_size=len(tokenizer), max_position_embeddings=64, id2label=LABELS
    )
    return tokenizer, getattr(transformers, f"AutoModelFor{head}").from_config(config)


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def texts_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp(request.param) / request.param
    for part in tokenizer_and_model(request.param, "SequenceClassification"):
        part.save_pretrained(folder)
    return folder


def test_who_generates_with_a_classifier_of_texts_hears_what_it_is_for(texts_folder: Path) -> None:
    for arguments in (["generate", str(texts_folder), "cat"], ["evaluate", str(texts_folder), str(texts_folder)]):
        refusal = run(*arguments)
        assert refusal.returncode == 2
        assert refusal.stderr.endswith("It is for glassformer classify.\n"), refusal.stderr


def test_a_text_has_the_tokens_and_the_classes_of_transformers(texts_folder: Path) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(texts_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(texts_folder)
    model = gf.load(texts_folder)
    assert [kind_of(model).tokens(model, text) for text in TEXTS] == tokenizer(TEXTS)["input_ids"]
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        probs = theirs(**batch).logits.softmax(-1)
    done = run("classify", str(texts_folder), *TEXTS, "--json", "--batch-size", "2")
    assert (done.returncode, done.stderr) == (0, "")
    for text, row, result in zip(TEXTS, probs, json.loads(done.stdout)["texts"], strict=True):
        assert result["text"] == text
        order = row.argsort(descending=True).tolist()
        assert [guess["label"] for guess in result["classes"]] == [LABELS[n] for n in order]
        assert [guess["probability"] for guess in result["classes"]] == pytest.approx(row[order].tolist(), abs=1e-5)
    lines = run("classify", str(texts_folder), TEXTS[0], "--top-k", "1").stdout.splitlines()
    assert lines[0] == TEXTS[0]
    assert lines[1].endswith(LABELS[int(probs[0].argmax())])
    assert [guesses[0].label for guesses in model.classify(*TEXTS)] == [LABELS[int(n)] for n in probs.argmax(-1)]


def test_a_model_of_one_class_says_whether_a_text_is_of_it(tmp_path: Path) -> None:
    """As the pipeline of transformers does; a softmax of one number would say 100 % of every text."""
    tokenizer = of_words()
    sizes = {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "num_labels": 1}
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)).eval()
    torch.nn.init.normal_(theirs.classifier.weight, std=20.0)
    for part in (tokenizer, theirs):
        part.save_pretrained(tmp_path)
    expected = transformers.pipeline("text-classification", model=theirs, tokenizer=tokenizer)(TEXTS)
    for (guess,), other in zip(gf.load(tmp_path).classify(*TEXTS), expected, strict=True):
        assert guess.probability == pytest.approx(other["score"], abs=1e-5)
    assert len({other["score"] for other in expected}) > 1
    lines = run("classify", str(tmp_path), TEXTS[0]).stdout.splitlines()
    assert lines == [TEXTS[0], f"  {expected[0]['score']:7.2%}"], "a number says nothing of a class without a name"
    theirs.config.id2label, theirs.config.label2id = {0: "spam"}, {"spam": 0}
    theirs.save_pretrained(tmp_path)
    lines = run("classify", str(tmp_path), TEXTS[0]).stdout.splitlines()
    assert lines[1].endswith("%  that it is spam")


def test_a_roberta_of_old_has_gpt2s_files_and_its_texts_stand_between_two_tokens(tmp_path: Path) -> None:
    of_bytes().save_pretrained(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    (tmp_path / "tokenizer.json").unlink()
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    for text in (*TEXTS, "", " two", "a <mask> b"):
        assert ours.encode(text, special=True) == theirs(text)["input_ids"]


def test_a_copy_is_the_same_in_transformers(texts_folder: Path, tmp_path: Path) -> None:
    assert run("convert", str(texts_folder), str(tmp_path / "copy")).returncode == 0
    for text in TEXTS:
        logits = []
        for folder in (texts_folder, tmp_path / "copy"):
            batch = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
            theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
            assert theirs.config.id2label == LABELS
            with torch.no_grad():
                logits.append(theirs(**batch).logits)
        assert torch.equal(*logits)


@pytest.mark.parametrize("problem_type", [None, "single_label_classification", "multi_label_classification"])
def test_texts_have_one_class_or_several_as_in_the_pipeline(
    problem_type: str | None, texts_folder: Path, tmp_path: Path
) -> None:
    scores = pipeline_of(texts_folder, tmp_path / "theirs", problem_type)
    done = run("classify", str(tmp_path / "theirs"), *TEXTS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    for row, result in zip(scores, json.loads(done.stdout)["texts"], strict=True):
        assert [guess["label"] for guess in result["classes"]] == [score["label"] for score in row]
        assert [guess["probability"] for guess in result["classes"]] == pytest.approx(
            [score["score"] for score in row], abs=1e-5
        )
    assert len(run("classify", str(tmp_path / "theirs"), TEXTS[0]).stdout.splitlines()) == 1 + len(LABELS)
    gf.save(gf.load(tmp_path / "theirs"), tmp_path / "ours")
    written = transformers.AutoConfig.from_pretrained(tmp_path / "ours").problem_type
    assert (written or "single_label_classification") == (problem_type or "single_label_classification")


def test_amounts_are_logits_and_no_classes(texts_folder: Path, tmp_path: Path) -> None:
    scores = pipeline_of(texts_folder, tmp_path / "theirs", "regression")
    model = gf.load(tmp_path / "theirs")
    amounts = dict(enumerate(model(torch.tensor([kind_of(model).tokens(model, TEXTS[0])]))[0].tolist()))
    assert {score["label"]: score["score"] for score in scores[0]} == pytest.approx(
        {LABELS[number]: amount for number, amount in amounts.items()}, abs=1e-5
    )
    refused = run("classify", str(tmp_path / "theirs"), TEXTS[0])
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "This model tells no classes apart: it gives amounts" in refused.stderr
    gf.save(model, tmp_path / "ours")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "ours").problem_type == "regression"


def pipeline_of(texts_folder: Path, folder: Path, problem_type: str | None) -> list[list[dict[str, Any]]]:
    """What the pipeline says of the texts, the highest first, of a model with this task; it is put into a folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(texts_folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(texts_folder, problem_type=problem_type)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    for part in (tokenizer, model):
        part.save_pretrained(folder)
    scores: list[list[dict[str, Any]]] = transformers.pipeline(
        "text-classification", model=str(folder), tokenizer=str(folder), top_k=None
    )(TEXTS)
    return scores


def test_it_is_recorded_viewed_and_has_neighbours(texts_folder: Path, tmp_path: Path) -> None:
    model = (str(texts_folder), "--input", TEXTS[0])
    assert run("trace", *model, "--out", str(tmp_path / "kept.gft")).returncode == 0
    assert run("trace", "--check", str(tmp_path / "kept.gft"), "--cells", "300").returncode == 0
    checked = run("view", *model, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    near = run("neighbours", "cat", "--vectors", str(texts_folder), "--n", "3", "--json")
    assert len(json.loads(near.stdout)["neighbours"]) == 3


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_an_encoder_of_masked_tokens_tells_no_classes_apart(family: str, tmp_path: Path) -> None:
    for part in tokenizer_and_model(family, "MaskedLM"):
        part.save_pretrained(tmp_path)
    refused = run("classify", str(tmp_path), "a text")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "This model tells no classes apart" in refused.stderr
    assert run("view", str(tmp_path), "--input", "The cat", "--check").returncode == 0
    assert gf.load(tmp_path).embed("The cat", "It cost").shape == (2, 16)


@pytest.mark.parametrize("flags", [["--patches"], ["--processor", "."]])
def test_what_is_for_pictures_is_refused_of_texts(flags: list[str], texts_folder: Path) -> None:
    refused = run("classify", str(texts_folder), "a text", *flags)
    assert refused.returncode == 2
    assert f"{flags[0]} is for pictures, and the model reads texts" in refused.stderr


# ---- images


def deit(labels: dict[int, str]) -> Any:
    config = transformers.DeiTConfig(**SIZES, intermediate_size=24, image_size=16, patch_size=4, id2label=labels)
    return transformers.DeiTForImageClassificationWithTeacher(config)


def dinov2(labels: dict[int, str]) -> Any:
    config = transformers.Dinov2Config(**SIZES, mlp_ratio=2, image_size=28, patch_size=4, id2label=labels)
    return transformers.Dinov2ForImageClassification(config)


def middle_of(kind: str, crop: int, resized: dict[str, int]) -> dict[str, Any]:
    """A preprocessor_config.json as the published folders have it."""
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "size": resized,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": crop, "width": crop},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (deit, middle_of("DeiTImageProcessor", 16, {"height": 20, "width": 20})),
        (dinov2, middle_of("BitImageProcessor", 16, {"shortest_edge": 20})),  # smaller than its positions are for
    ],
)
@torch.no_grad()
def test_pictures_are_classified_recorded_and_viewed(
    make: Callable[[dict[int, str]], Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = make(LABELS).eval()
    folder, picture = tmp_path / "model", tmp_path / "noise.png"
    theirs.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 24, 3), dtype=np.uint8)).save(picture)

    model = gf.load(folder)
    pixels: Any = model.processor
    probs = theirs(pixels([Image.open(picture)])).logits[0].softmax(-1)
    order = probs.argsort(descending=True).tolist()
    done = run("classify", str(folder), str(picture), "--json", "--patches")
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["pictures"]
    assert result["patches"] == [4, 4]
    assert [guess["label"] for guess in result["classes"]] == [LABELS[n] for n in order]
    assert [guess["probability"] for guess in result["classes"]] == pytest.approx(probs[order].tolist(), abs=1e-5)

    shown = (str(folder), "--input", str(picture))
    assert run("trace", *shown, "--out", str(tmp_path / "kept.gft")).returncode == 0
    assert run("trace", "--check", str(tmp_path / "kept.gft"), "--cells", "300").returncode == 0
    checked = run("view", *shown, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert run("convert", str(folder), str(tmp_path / "copy")).returncode == 0
    assert json.loads((tmp_path / "copy" / "preprocessor_config.json").read_text()) == settings
    copy = type(theirs).from_pretrained(tmp_path / "copy").eval()
    images = torch.randn(1, 3, theirs.config.image_size, theirs.config.image_size)
    assert torch.equal(copy(images).logits, theirs(images).logits)


def test_vectors_of_pictures_are_no_classes(tmp_path: Path) -> None:
    config = transformers.Dinov2Config(**SIZES, mlp_ratio=2, image_size=16, patch_size=4)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "model")
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    refused = run("classify", str(tmp_path / "model"), str(tmp_path / "black.png"))
    assert (refused.returncode, "This model tells no classes apart" in refused.stderr) == (2, True)
    assert run("view", str(tmp_path / "model"), "--input", str(tmp_path / "black.png"), "--check").returncode == 0
    assert gf.load(tmp_path / "model")(torch.rand(1, 3, 16, 16)).shape == (1, 17, 16)
