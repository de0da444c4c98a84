"""Text to token ids and back: byte-level BPE, sentencepiece's BPE, WordPiece, characters; and images to patches."""

from glassformer.tokenizers.base import TextStream, Tokenizer
from glassformer.tokenizers.bpe import BPETokenizer
from glassformer.tokenizers.bpe_train import train_bpe
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "SentencePieceTokenizer",
    "TextStream",
    "Tokenizer",
    "WordPieceTokenizer",
    "train_bpe",
]
