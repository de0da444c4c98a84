"""What kinds of models share that read texts."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.request import check_prompts
from glassformer.kinds.kind import Inputs, ModelLike, text_tokenizer
from glassformer.models.spec import longest_text


def encode(model: ModelLike, text: str, *, begin: Sequence[int] = (), end: Sequence[int] = ()) -> list[int]:
    """The tokens of a text between others."""
    tokenizer = text_tokenizer(model)
    if tokenizer is None:  # which says why there is none
        return model.encode(text)
    ids = tokenizer.encode(text)
    if not ids:
        raise GenerationError("The input is empty: give the model a text to read.")
    return [*begin, *ids, *end]


def batch(model: ModelLike, ids: Sequence[int]) -> Int[Tensor, "1 T"]:
    """A text as the batch that a model reads. Raises where it is too long for it."""
    if len(ids) > longest_text(model.config):
        raise GenerationError(f"{len(ids)} tokens do not fit this model's context of {model.config.context_length}.")
    return torch.tensor([list(ids)], dtype=torch.long)


def prompt(model: ModelLike, inputs: Inputs) -> Int[Tensor, "1 T"]:
    """The same of the tokens that are read, which must be in the vocabulary."""
    check_prompts([inputs.tokens], model.config.vocab_size)
    return batch(model, inputs.tokens)
