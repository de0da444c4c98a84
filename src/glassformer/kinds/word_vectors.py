"""Tables of word vectors: a word is compared with those that stand around it."""

from collections.abc import Sequence
from typing import Any

import torch

from glassformer.checkpoints.about import About
from glassformer.inference.recorded_call import call_of
from glassformer.inference.request import check_prompts
from glassformer.kinds import texts
from glassformer.kinds.kind import Inputs, Kind, ModelLike, Pass

N_CANDIDATES = 16  # words that a word is compared with


def encode(model: ModelLike, text: str) -> list[int]:
    """The words of a text."""
    return texts.encode(model, text)


def of_tokens(model: ModelLike, ids: Sequence[int]) -> Inputs:
    """Words, and those that go with them best."""
    check_prompts([ids], model.config.vocab_size)
    return Inputs(tokens=tuple(ids), source=near(model.module, ids))


@torch.no_grad()
def near(module: Any, ids: Sequence[int]) -> tuple[int, ...]:
    """The words that most likely stand around these."""
    h = module.token_embedding.weight[list(ids)].mean(0)
    scores = module.context_embedding.weight @ h
    return tuple(scores.topk(min(N_CANDIDATES, len(scores))).indices.tolist())


def call(model: ModelLike, inputs: Inputs) -> Pass:
    """The scores of all those words."""
    return call_of(model.module), (texts.prompt(model, inputs), torch.tensor([inputs.source], dtype=torch.long))


KIND = Kind(
    name="word-vectors",
    verb="neighbours",
    about=About(
        en="It gives every word a vector, so that words which are used alike lie close together",
        zh="它给每个词一个向量，用法相近的词彼此靠近",
    ),
    encode=encode,
    of_tokens=of_tokens,
    call=call,
    n_example=1,
)
