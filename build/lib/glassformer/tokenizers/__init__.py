"""Text to token ids and back: byte-level BPE, sentencepiece's BPE, characters."""

from glassformer.tokenizers.base import TextStream, Tokenizer
from glassformer.tokenizers.bpe import BPETokenizer
from glassformer.tokenizers.bpe_train import train_bpe
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer

__all__ = ["BPETokenizer", "CharTokenizer", "SentencePieceTokenizer", "TextStream", "Tokenizer", "train_bpe"]
