"""What is said in a conversation stays text: a message that has "<|im_end|>" in it does not end there.

The special tokens in messages, and all other added tokens, are marked before a template writes them, and are then
encoded as the letters that they are: in the model's answers, too, where it may have been led to spell one. Those that
the template writes itself are tokens, and so are the tags of thoughts and of calls in answers, which part no turns: by
"</think>" a template tells what of an answer it leaves out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from glassformer.inference.chat_template import ChatMessage, checked
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.base import AllowedSpecial

BEGIN, END = "\ufdd0", "\ufdd1"  # of a mark; Unicode keeps them for a program's own use, and no text has them
MARKS = re.compile(f"[{BEGIN}{END}]")
OPENED, CLOSED = rf"(?:{BEGIN}|\\ufdd0)", rf"(?:{END}|\\+ufdd1)"  # as they are, or as `tojson` and Python write them

PARTS_TURNS = {"s", "system", "developer", "user", "human", "assistant", "bot", "model", "tool"}  # as a tag's name


def marked_messages(messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> list[ChatMessage]:
    """The messages with marks around the special tokens in them; in answers, not around tags."""
    everywhere = _special(tokenizer)
    in_answers = everywhere - _tags(everywhere)
    return [
        _marked(message, _one_of(in_answers if message["role"] == "assistant" else everywhere))
        for message in checked(messages)
    ]


def marked(value: Any, tokenizer: Tokenizer) -> Any:
    """The same value with marks around the special tokens in its texts, and in all names but words.

    A name that is a word is one by which a template asks, such as "content".
    """
    return _marked(value, _one_of(_special(tokenizer)))


def _marked(value: Any, tokens: str) -> Any:
    if isinstance(value, dict):
        return {_marked_name(name, tokens): _marked(inner, tokens) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(inner, tokens) for inner in value]
    if isinstance(value, str):
        return re.sub(tokens, f"{BEGIN}\\g<0>{END}", MARKS.sub("", value))
    return value


def _marked_name(name: Any, tokens: str) -> Any:
    return _marked(name, tokens) if isinstance(name, str) and not name.isidentifier() else name


def _tags(tokens: set[str]) -> set[str]:
    """Those of the tokens that enclose a part of an answer, such as <think> and </think>; <s> and <user> part turns.

    Whether a token is called special does not say it: DeepSeek's turns are not.
    """
    names = {match[1] for match in map(re.compile(r"<(\w+)>").fullmatch, tokens) if match}
    pairs = [(f"<{name}>", f"</{name}>") for name in names if name.lower() not in PARTS_TURNS]
    return {tag for pair in pairs if pair[1] in tokens for tag in pair}


def encode_marked(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a text; special tokens between marks are text like any other, and marks are nothing.

    A template may have cut a text between its marks: what is left of them still parts the text.
    """
    tokens = _special(tokenizer)
    tokens |= {json.dumps(token)[1:-1] for token in tokens}  # written with escapes, as the marks around them
    first, *others = re.split(f"{OPENED}({_one_of(tokens)}){CLOSED}|{MARKS.pattern}", text)
    ids = _with_tokens(first, tokenizer, begins=True)
    for number, piece in enumerate(others):
        if piece:
            ids += _with_tokens(piece, tokenizer) if number % 2 else _as_letters(piece, tokenizer)
    return ids


def _with_tokens(text: str, tokenizer: Tokenizer, *, begins: bool = False) -> list[int]:
    """The ids of a text of the template's, and of what of messages stands in it unmarked.

    A tokenizer that normalizes also takes for a token what only becomes its letters, such as "＜|im_end|＞" in wide
    ones: a template writes none so, and they are text.
    """
    ids = tokenizer.encode(text) if begins else _continued(text, tokenizer)
    exact = _one_of(_special(tokenizer))
    tokens = {tokenizer.added_tokens[token] for token in _special(tokenizer)}
    if sum(id in tokens for id in ids) <= len(re.findall(exact, text)):
        return ids
    first, *others = re.split(f"({exact})", text)
    ids = tokenizer.encode(first, allowed_special="none") if begins else _continued(first, tokenizer, as_text=True)
    for number, part in enumerate(others):
        ids += _continued(part, tokenizer, as_text=number % 2 == 1) if part else []
    return ids


def _special(tokenizer: Tokenizer) -> set[str]:
    """The added tokens, which need not be called special; those of white space part no turns, and are as they were."""
    return {token for token in tokenizer.added_tokens if not token.isspace()}


def _one_of(tokens: Iterable[str]) -> str:
    """A pattern of tokens, the longest first; it fits nothing where there are none."""
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"


def _as_letters(token: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of the text of a special token; where letters merge into the token itself, those of each letter."""
    ids = _continued(token, tokenizer, as_text=True)
    if tokenizer.added_tokens.get(token) in ids:
        return [id for letter in token for id in _continued(letter, tokenizer, as_text=True)]
    return ids


def _continued(text: str, tokenizer: Tokenizer, *, as_text: bool = False) -> list[int]:
    """The ids of a text that stands behind another: sentencepiece puts a space before the first of all."""
    allowed: AllowedSpecial = "none" if as_text else "all"
    before = tokenizer.encode("\n")
    ids = tokenizer.encode(f"\n{text}", allowed_special=allowed)
    return ids[len(before) :] if ids[: len(before)] == before else tokenizer.encode(text, allowed_special=allowed)
