"""Language models: they read a text and write on."""

from collections.abc import Sequence

from glassformer.kinds import texts
from glassformer.kinds.kind import Call, Inputs, Kind, Model


def encode(model: Model, text: str) -> list[int]:
    """The prompt's tokens, behind the one that begins a text."""
    return model.encode(text)


def of_tokens(model: Model, ids: Sequence[int]) -> Inputs:
    """The text that is continued."""
    return Inputs(tokens=tuple(ids))


def call(model: Model, inputs: Inputs) -> Call:
    """One pass over the text."""
    return model.whole, (texts.prompt(model, inputs),)


KIND = Kind(
    name="language-model",
    verb="generate",
    encode=encode,
    of_tokens=of_tokens,
    call=call,
    writes=True,
)
