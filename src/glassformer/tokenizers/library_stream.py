"""Where a text that goes on may be cut, so that the `tokenizers` library encodes it part by part.

The library takes a text as a whole, and a pipeline may look anywhere in it. Those that published models of byte-level
BPE have do not: as in `pretokenize.py`, a text that goes on changes its last two pre-tokens and no others, and what
follows them is cut as a text of its own would be. The tests hold the parts of each to the whole.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

from glassformer.tokenizers.byte_level import PATTERN_NAMES
from glassformer.tokenizers.pretokenize import UNDECIDED
from glassformer.tokenizers.untrusted_files import Json

PATTERNS_OF_STEPS = {
    *PATTERN_NAMES,
    *(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+"),  # DeepSeek, in three steps
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
OF_OTHERS = frozenset("K;`")  # ASCII that is the normal form of other characters, the Kelvin sign among them


def can_be_cut(file: Json) -> bool:
    """Whether the pipeline of a tokenizer.json is one of those whose texts may be cut between pre-tokens."""
    pre_tokenizer = file.get("pre_tokenizer")
    if not isinstance(pre_tokenizer, dict):
        return False
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return (
        file.get("normalizer") in (None, {"type": "NFC"}, {"type": "Sequence", "normalizers": []})
        and any(step.get("type") == "ByteLevel" for step in steps)
        and all(map(_is_local, steps))
        and all(map(_is_found_alone, file.get("added_tokens") or []))
    )


def _is_local(step: Json) -> bool:
    match step:
        case {"type": "Digits"} | {"type": "ByteLevel", "add_prefix_space": False}:
            return True
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return pattern in PATTERNS_OF_STEPS
    return False


def _is_found_alone(token: Json) -> bool:
    """Whether an added token is found whatever stands beside it, and in a text's normal form no more than in itself."""
    beside = token.get("lstrip") or token.get("rstrip") or token.get("single_word")
    content: str = token["content"]
    return not beside and (not token.get("normalized") or (content.isascii() and OF_OTHERS.isdisjoint(content)))


def last_cut(text: str, encoding: Any) -> tuple[int, int]:
    """How many ids of a text stay as they are when it goes on, and where in it those end."""
    words: Sequence[int] = encoding.word_ids
    places: Sequence[tuple[int, int]] = encoding.offsets
    undecided: set[int] = set()
    for n in range(len(words) - 1, 0, -1):
        undecided.add(words[n])
        end = places[n - 1][1]
        at_cut = words[n - 1] != words[n] and places[n][0] == end
        if at_cut and len(undecided) >= UNDECIDED and begins_anew(text[end]):
            return n, end
    return 0, 0


def begins_anew(character: str) -> bool:
    """Whether no normal form joins it with what is before it, or changes places with that."""
    return character < "\u0300" or not (
        unicodedata.category(character)[0] in "MC" or "\u1160" <= character <= "\u11ff" or character > "\uffff"
    )
