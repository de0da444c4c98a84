"""Text and bytes of strangers on their way to a reader; a terminal obeys some characters instead of showing them."""

import re

# Unicode's control characters, marks that reverse the direction of writing, and bytes of a name that are no UTF-8.
BROKEN = re.compile("[\udc80-\udcff]+")  # where "surrogateescape" puts bytes that are not UTF-8
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SIGNS = {b" ": "␣", b"\n": "⏎", b"\t": "⇥"}


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with `\x1b` and the like for the characters that a terminal obeys, except those to `keep`.

    >>> printable("a\x1b[2J\n", keep="\n")
    'a\\x1b[2J\n'
    """
    return OBEYED.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)


def readable(data: bytes) -> str:
    r"""Bytes as text, and in hexadecimal where they are none.

    >>> readable("你".encode() + b"\xe4\xbd")
    '你⟨E4 BD⟩'
    """
    text = data.decode("utf-8", "surrogateescape")
    return BROKEN.sub(lambda match: f"⟨{match[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}⟩", text)


def visible(data: bytes) -> str:
    r"""Bytes as text for a terminal, with its spaces and line ends as signs.

    >>> visible(b" the\n\x1b")
    '␣the⏎\\x1b'
    """
    for byte, sign in SIGNS.items():
        data = data.replace(byte, sign.encode())
    return printable(readable(data))
