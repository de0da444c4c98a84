"""The ids of pre-tokens that came lately: text repeats its words."""

from collections.abc import Callable

CACHED_PRE_TOKENS = 1 << 16
CACHED_CHARACTERS = 64  # longer pre-tokens seldom come again


class PieceCache(dict[str, list[int]]):
    """The ids of each pre-token that is looked up, which are kept; where there are too many, all are forgotten."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        """Take what makes the ids of a pre-token."""
        super().__init__()
        self._encode = encode

    def __missing__(self, pre_token: str) -> list[int]:
        """Encode a pre-token, and keep its ids unless it is long."""
        ids = self._encode(pre_token)
        if len(pre_token) <= CACHED_CHARACTERS:
            if len(self) >= CACHED_PRE_TOKENS:
                self.clear()
            self[pre_token] = ids
        return ids
