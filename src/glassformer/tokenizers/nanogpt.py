"""nanoGPT's meta.pkl: the characters of a text, as two pickled dicts, `stoi` and `itos`. Nothing is unpickled.

A pickle is a program for a machine with a stack, which can build any object there is. The few of its instructions that
plain dicts of texts and numbers need are followed here, and a file with another one is refused.
Karpathy, github.com/karpathy/nanoGPT, data/shakespeare_char/prepare.py.
"""

import pickletools
from pathlib import Path
from typing import Any

from glassformer.errors import TokenizerError
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.untrusted_files import read_bytes

MAX_BYTES = 16 << 20  # a million characters, each twice
IGNORED = {"PROTO", "FRAME"}
VALUES = {"BININT", "BININT1", "BININT2", "SHORT_BINUNICODE", "BINUNICODE"}


def read_meta(path: Path) -> CharTokenizer:
    """The tokenizer of a meta.pkl: the character of id i is `itos[i]`."""
    wrong = f"{path} is not a meta.pkl of nanoGPT"
    data = read_bytes(path)
    if len(data) > MAX_BYTES:
        raise TokenizerError(f"{wrong}: it has {len(data):,} bytes, and one has at most {MAX_BYTES:,}.")
    try:
        meta = plain_dict(data)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TokenizerError(f"{wrong}, a dict of dicts of characters and numbers: {str(error)[:100]}.") from None
    itos, stoi = meta.get("itos"), meta.get("stoi")
    if not isinstance(itos, dict) or not isinstance(stoi, dict):
        raise TokenizerError(f"{wrong}: it has no itos and stoi, characters by number and numbers by character.")
    alphabet = [itos.get(id) for id in range(len(itos))]
    characters = [character for character in alphabet if isinstance(character, str) and len(character) == 1]
    if len(characters) < len(alphabet) or stoi != {character: id for id, character in enumerate(characters)}:
        raise TokenizerError(f"{wrong}: itos must have a character for each number from 0 on, and stoi the reverse.")
    return CharTokenizer("".join(characters))


def plain_dict(data: bytes) -> dict[Any, Any]:
    """The dict of dicts, texts and whole numbers that a pickle holds; whatever else one could hold is a ValueError."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(data):
        match instruction.name:
            case name if name in VALUES:
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                marks.append(len(stack))
            case "SETITEM" | "SETITEMS" as name:
                first = marks.pop() if name == "SETITEMS" else len(stack) - 2
                items = stack[first:]
                del stack[first:]
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "MEMOIZE" | "BINPUT" | "LONG_BINPUT" as name:
                memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument or 0)])
            case "STOP" if len(stack) == 1 and isinstance(stack[0], dict):
                return stack[0]
            case name if name not in IGNORED:
                raise ValueError(f"it has the instruction {name}")
    raise ValueError("it ends early")
