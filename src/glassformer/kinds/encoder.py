"""Encoders such as BERT: they read a text from both ends and fill in what is masked, or make one vector of it."""

from collections.abc import Sequence

from glassformer.kinds import texts
from glassformer.kinds.kind import Inputs, Kind, ModelLike, text_tokenizer
from glassformer.kinds.language_model import call


def encode(model: ModelLike, text: str) -> list[int]:
    """The tokens of a text between [CLS] and [SEP], or what the tokenizer has for them."""
    tokenizer = text_tokenizer(model)
    begin, end = ((), ()) if tokenizer is None else (tokenizer.begin_ids, tokenizer.end_ids)
    return texts.encode(model, text, begin=begin, end=end)


def of_tokens(model: ModelLike, ids: Sequence[int]) -> Inputs:
    """The text that is read."""
    return Inputs(tokens=tuple(ids))


KIND = Kind(name="encoder", verb="neighbours", encode=encode, of_tokens=of_tokens, call=call)
