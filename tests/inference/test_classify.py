"""Pictures to classes: the probabilities of transformers, and what a model without a processor is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glassformer as gf
from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.classify import classify, processor_for
from glassformer.models.vit import ViTConfig

SIZES: dict[str, Any] = {"image_size": (12, 8), "patch_size": (4, 4), "d_model": 8, "n_layers": 1, "n_heads": 2}


def test_the_likeliest_classes_come_first_with_the_probabilities_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    model = gf.build("vit", **SIZES, d_ff=12, n_classes=4, labels=("cat", "dog", "gnu", "yak"))
    torch.nn.init.normal_(model.module.get_parameter("head.weight"))
    gf.save(model, tmp_path / "vit")
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path / "vit").eval().double()
    model.module.double()
    images = torch.randn(3, 3, 12, 8, dtype=torch.float64)
    with torch.no_grad():
        probs = theirs(images).logits.double().softmax(-1)
    for guesses, expected in zip(classify(model.module, images, top_k=9), probs, strict=True):
        numbers = expected.argsort(descending=True).tolist()
        assert [guess.number for guess in guesses] == numbers
        assert [guess.label for guess in guesses] == [theirs.config.id2label[number] for number in numbers]
        assert [guess.probability for guess in guesses] == pytest.approx(expected[numbers].tolist(), abs=1e-9)


@pytest.mark.parametrize("family", ["ViT", "DeiT", "Dinov2"])
def test_a_picture_has_one_class_or_several_or_amounts_as_in_the_pipeline(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    picture = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    processor = transformers.ViTImageProcessor(size={"height": 8, "width": 8})
    for problem_type in (None, "single_label_classification", "multi_label_classification", "regression"):
        config = getattr(transformers, f"{family}Config")(**sizes, num_labels=3, problem_type=problem_type)
        theirs = getattr(transformers, f"{family}ForImageClassification")(config).eval()
        torch.nn.init.normal_(theirs.classifier.weight)
        folder = tmp_path / f"{problem_type}"
        for part in (processor, theirs):
            part.save_pretrained(folder)
        scores = transformers.pipeline("image-classification", model=theirs, image_processor=processor)(picture)
        model = gf.load(folder)
        written = transformers.AutoConfig.from_pretrained(gf.save(model, tmp_path / f"{problem_type} again"))
        assert written.problem_type in (problem_type, *[None] * (problem_type == "single_label_classification"))
        if problem_type == "regression":
            with pytest.raises(GenerationError, match="tells no classes apart: it gives amounts, by regression"):
                model.classify(picture)
            continue
        (guesses,) = model.classify(picture)
        assert [f"LABEL_{guess.number}" for guess in guesses] == [score["label"] for score in scores]
        expected = [score["score"] for score in scores]
        assert [guess.probability for guess in guesses] == pytest.approx(expected, abs=1e-5)


def test_a_class_without_a_name_has_its_number() -> None:
    model = gf.build("vit", **SIZES, n_classes=3)
    ((only,),) = classify(model.module, torch.randn(1, 3, 12, 8), top_k=1)
    assert only.label == str(only.number)
    with pytest.raises(ConfigError, match="top_k must be at least 1"):
        classify(model.module, torch.randn(1, 3, 12, 8), top_k=0)


@pytest.mark.parametrize(("n_channels", "mode"), [(1, "RGB"), (3, "L")])
def test_a_derived_processor_makes_any_picture_fit(n_channels: int, mode: str) -> None:
    processor = processor_for(ViTConfig(**SIZES, n_channels=n_channels))
    white = Image.fromarray(np.full((5, 7, 3), 255, dtype=np.uint8)).convert(mode)
    assert torch.equal(processor([white]), torch.ones(1, n_channels, 12, 8))


def test_channels_that_no_picture_has_are_refused() -> None:
    with pytest.raises(GenerationError, match="images of 2 channels"):
        processor_for(ViTConfig(**SIZES, n_channels=2))
