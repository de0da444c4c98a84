"""Encoder-decoders of texts: they read a source and write a target, which begins with a token of its own."""

from collections.abc import Sequence

from glassformer.inference.request import check_source
from glassformer.kinds import texts
from glassformer.kinds.kind import Call, Inputs, Kind, Model, text_tokenizer


def encode(model: Model, text: str) -> list[int]:
    """The tokens of a source, and the one that ends it."""
    tokenizer = text_tokenizer(model)
    end = None if tokenizer is None else tokenizer.eos_id
    shared = model.source_tokenizer is None
    return texts.encode(model, text, end=model.config.eos_id if end is None and shared else end)


def of_tokens(model: Model, ids: Sequence[int]) -> Inputs:
    """The text that is translated."""
    return Inputs(source=tuple(ids), tokens=(model.config.start_id,))


def call(model: Model, inputs: Inputs) -> Call:
    """One pass through both halves."""
    tokens, source = texts.prompt(model, inputs), texts.batch(model, inputs.source)
    check_source(source, model.config)
    return model.whole, (source, tokens)


KIND = Kind(
    name="encoder-decoder",
    verb="translate",
    encode=encode,
    of_tokens=of_tokens,
    call=call,
    writes=True,
    writes_first=True,
)
