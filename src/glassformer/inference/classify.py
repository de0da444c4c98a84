"""Pictures and texts to the likeliest of their classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.errors import ConfigError, GenerationError
from glassformer.features.image_processor import ImageProcessor
from glassformer.inference.embed import padded
from glassformer.inference.logits import check_finite
from glassformer.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A class, by its number and its name (its number again where it has none), and how likely it is."""

    number: int
    label: str
    probability: float


@torch.inference_mode()
def classify(module: nn.Module, images: Float[Tensor, "B K H W"], *, top_k: int = 5) -> list[list[Guess]]:
    """The `top_k` likeliest classes of each image, or all where there are fewer, the likeliest first."""
    config: Any = module.config
    check_head(config)
    weight = next(module.parameters())
    return likeliest(module(images.to(weight)), config, top_k)


@torch.inference_mode()
def classify_texts(module: nn.Module, texts: Sequence[Sequence[int]], *, top_k: int = 5) -> list[list[Guess]]:
    """The same of texts, each given as its tokens, those around it among them."""
    config: Any = module.config
    check_head(config)
    device = next(module.parameters()).device
    tokens, valid = padded(texts, config.context_length)
    logits = module(tokens.to(device), valid.to(device))
    return likeliest(logits, config, top_k)


def check_head(config: Any) -> None:
    """Raise for a model that tells no classes apart: one that makes vectors or amounts, or fills in masked tokens."""
    if getattr(config, "problem_type", "single-label") == "regression":
        raise GenerationError(
            "This model tells no classes apart: it gives amounts, by regression, which are its logits."
        )
    if config.head in ("none", "masked-token"):
        raise GenerationError(
            "This model tells no classes apart: it makes vectors, or fills in masked tokens. Take one with a head for "
            "classes."
        )


def likeliest(logits: Float[Tensor, "B N"], config: Any, top_k: int) -> list[list[Guess]]:
    """The `top_k` likeliest classes of each row.

    Of several of which one is true their softmax; of one alone, or of a multi-label model, whether each is true: σ of
    its logit.
    """
    if top_k < 1:
        raise ConfigError(f"must be at least 1, not {top_k}.", setting="top_k")
    check_finite(logits)
    wide = logits.double()
    each_by_itself = config.n_classes == 1 or getattr(config, "problem_type", "single-label") == "multi-label"
    probs = torch.sigmoid(wide) if each_by_itself else F.softmax(wide)
    best = probs.topk(min(top_k, config.n_classes))
    return [
        [Guess(number=n, label=label(config, n), probability=p) for p, n in zip(values, numbers, strict=True)]
        for values, numbers in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def label(config: Any, number: int) -> str:
    """The name of a class."""
    return str(config.labels[number]) if config.labels else str(number)


def check_processor(processor: ImageProcessor, config: Any) -> ImageProcessor:
    """The same, where it makes pictures of as many colours as the model sees."""
    if len(processor.mean) != config.n_channels:
        raise ConfigError(
            f"The model's pictures have {config.n_channels} channels, but its preprocessor_config.json makes "
            f"{len(processor.mean)}."
        )
    return processor


def processor_for(config: Any) -> ImageProcessor:
    """What fits a model that came without: its image size, and pixels from −1 to 1, as ViT was trained with."""
    if config.n_channels not in (1, 3):
        raise GenerationError(
            f"The model takes images of {config.n_channels} channels, and files have pictures of 1 or 3."
        )
    half = (0.5,) * config.n_channels
    return ImageProcessor(size=config.image_size, mean=half, std=half)
