"""Text to token ids and back: BPE of bytes and of characters, WordPiece, words, characters."""

from glassformer.tokenizers.base import TextStream, Tokenizer
from glassformer.tokenizers.bpe import BPETokenizer
from glassformer.tokenizers.bpe_train import train_bpe
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer
from glassformer.tokenizers.words import WordTokenizer

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "SentencePieceTokenizer",
    "TextStream",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "train_bpe",
]
