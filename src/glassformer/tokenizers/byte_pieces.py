"""What the ids of a text follow from in byte-level BPE: tokens and merges.

A piece is the bytes of a pre-token. They are merged, pair by pair (`bpe.py`); `byte_level.py` has the tokenizer.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from glassformer.errors import TokenizerError
from glassformer.tokenizers.bpe import merge
from glassformer.tokenizers.merge_table import MergeTable
from glassformer.tokenizers.piece_cache import PieceCache
from glassformer.tokenizers.pretokenize import UNDECIDED, PreTokenizer, split_pattern
from glassformer.tokenizers.vocabulary import shorten

if TYPE_CHECKING:  # a short text needs no arrays, and shall not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

IdArray: TypeAlias = "NDArray[np.integer[Any]]"


class BytePieces:
    """The tokens of a vocabulary, how text is split before it is merged, and which pieces merge into what."""

    def __init__(
        self, tokens: Mapping[int, bytes], ids: Mapping[bytes, int], table: MergeTable, pattern: str, whole_pieces: bool
    ) -> None:
        """Take all tokens, the ids of the ordinary ones, merges, the name of a split pattern.

        With `whole_pieces`, a piece that is an ordinary token is its own id, even if no merges lead there.
        """
        self.tokens, self.ids, self.table = tokens, ids, table
        self.pattern, self.whole_pieces = pattern, whole_pieces
        self.byte_ids = {byte: ids[bytes([byte])] for byte in range(256) if bytes([byte]) in ids}
        self._pretokenizer = PreTokenizer(split_pattern(pattern))
        self.cache = PieceCache(self.encode_piece)

    def encode_piece(self, pre_token: str) -> list[int]:
        """The ids of one pre-token."""
        piece = pre_token.encode()
        if self.whole_pieces and piece in self.ids:
            return [self.ids[piece]]
        return merge(self.symbols(piece), self.table)

    def symbols(self, piece: bytes) -> list[int]:
        """The ids of a piece's bytes, from which merging begins."""
        try:
            return list(map(self.byte_ids.__getitem__, piece))
        except KeyError as missing:
            raise TokenizerError(
                f"the vocabulary lacks the byte 0x{missing.args[0]:02x}, which {shorten(piece.decode())} needs: "
                "with all 256 bytes any text can be written."
            ) from None

    def encode(self, text: str, goes_on: bool) -> tuple[list[int], int]:
        """The ids of a text, of one that goes on but for its last two pre-tokens; and of how many characters."""
        pre_tokens = self._pretokenizer.split(text)
        decided = pre_tokens[:-UNDECIDED] if goes_on else pre_tokens
        ids = [id for pre_token in decided for id in self.cache[pre_token]]
        return ids, sum(map(len, decided))

    def decode(self, ids: "Sequence[int] | IdArray") -> bytes:
        """The bytes of a sequence of tokens; an id that no token has stands for none."""
        return b"".join([self.tokens.get(id, b"") for id in ids])
