"""Encoders such as BERT: they read a text from both ends and fill in what is masked, or say of which class it is, or
make one vector of it.
"""

from collections.abc import Sequence

from glassformer.checkpoints.about import About
from glassformer.inference.classify import Guess, check_head, classify_texts
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


def classify(model: ModelLike, batch: Sequence[str], *, top_k: int) -> list[list[Guess]]:
    """The likeliest classes of each text; raises for an encoder that has no head for classes."""
    check_head(model.config)
    return classify_texts(model.module, [encode(model, text) for text in batch], top_k=top_k)


KIND = Kind(
    name="encoder",
    verb="neighbours",
    about=About(
        en="It reads a whole text at once, in both directions, and gives each token a vector that knows its neighbours",
        zh="它从两个方向一次读完整段文本，给每个词元一个了解上下文的向量",
    ),
    encode=encode,
    of_tokens=of_tokens,
    call=call,
)
