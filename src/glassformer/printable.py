"""Text of strangers on its way to a terminal, which obeys some characters instead of showing them."""

import re

# Unicode's control characters, marks that reverse the direction of writing, and bytes of a name that are no UTF-8.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with `\x1b` and the like for the characters that a terminal obeys, except those to `keep`.

    >>> printable("a\x1b[2J\n", keep="\n")
    'a\\x1b[2J\n'
    """
    return OBEYED.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)
