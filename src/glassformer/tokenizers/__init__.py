"""Text to token ids and back: BPE of bytes and of characters, WordPiece, words, characters."""

from glassformer.tokenizers.base import TextStream, Tokenizer
from glassformer.tokenizers.bpe_train import train_bpe
from glassformer.tokenizers.byte_level import BPETokenizer
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.formats import FORMATS
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer
from glassformer.tokenizers.word_level import WordTokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "FORMATS",
    "BPETokenizer",
    "CharTokenizer",
    "SentencePieceTokenizer",
    "TextStream",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "train_bpe",
]
