"""subword-nmt's BPE, with fairseq's dictionaries: words are cut into pieces, and all but the last end in "@@".

Sennrich et al. 2016 (arXiv:1508.07909), over characters; the end of a word is part of its last character. One file of
codes, bpe.code, serves source and target, each of which has a dictionary of its own:

    source, target = Tokenizer.load(folder / "dict.en.txt"), Tokenizer.load(folder / "dict.de.txt")

Runs of spaces become one, and a piece that the dictionary lacks becomes <unk>: decoding does not give every text back.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.files import write_file
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe import merge
from glassformer.tokenizers.merge_table import MergeTable
from glassformer.tokenizers.steps import EncodingStep, merging
from glassformer.tokenizers.untrusted_files import read_text, sibling
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3 in every dictionary of fairseq's
UNKNOWN = 3
GOES_ON = "@@"
END_OF_WORD = "</w>"
VERSION = "#version: 0.2"
CODES, DICTIONARY = "bpe.code", "dict.txt"
WORDS = r"\s+|\S+"


class SubwordTokenizer(Tokenizer):
    """BPE over the characters of a word, the pair that was learned first being merged first.

    `tokens` are in the order of their ids, `SPECIAL` first; in one that does not end its word, "@@" stands at the end.
    """

    method = "merges"

    def __init__(self, merges: Sequence[tuple[str, str]], tokens: Sequence[str]) -> None:
        """Take the merges of a file of codes, and the tokens of a dictionary."""
        self._ids = {token: id for id, token in enumerate(tokens)}
        if tuple(tokens[: len(SPECIAL)]) != SPECIAL or len(self._ids) < len(tokens) or len(tokens) > MAX_VOCAB_SIZE:
            raise TokenizerError(f"expected tokens that begin with {', '.join(SPECIAL)}, and no doubles.")
        vocab = {id: token.removesuffix(GOES_ON).encode() for id, token in enumerate(tokens)}
        super().__init__(vocab, {token: id for id, token in enumerate(SPECIAL)}, WORDS)
        self.bos_id = self.special_tokens["<s>"]
        self.merges = list(merges)
        self.tokens = list(tokens)
        self._symbols = list(dict.fromkeys(symbol for pair in merges for symbol in (*pair, "".join(pair))))
        self._symbol_ids = {symbol: id for id, symbol in enumerate(self._symbols)}
        self._table = MergeTable.from_merges(list(dict.fromkeys(merges)), self._symbol_ids)  # of doubles, the first

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        return [] if pre_token.isspace() else [self._ids.get(piece, UNKNOWN) for piece in self.segment(pre_token)]

    def segment(self, word: str) -> list[str]:
        """The pieces of one word, as subword-nmt writes them.

        >>> SubwordTokenizer([("l", "o"), ("w", "</w>")], SPECIAL).segment("low")
        ['lo@@', 'w']
        """
        characters, symbols, ids = self._characters(word)
        *begin, end = (symbols[id] for id in merge([ids[character] for character in characters], self._table))
        return [*(symbol + GOES_ON for symbol in begin), end.removesuffix(END_OF_WORD)]

    def _characters(self, word: str) -> tuple[list[str], list[str], dict[str, int]]:
        """A word's characters; symbols by their numbers, and numbers by symbols, which have those characters too."""
        characters = [*word[:-1], word[-1] + END_OF_WORD]
        symbols, ids = self._symbols, self._symbol_ids
        if new := [character for character in dict.fromkeys(characters) if character not in ids]:  # in no merge
            symbols = symbols + new
            ids = ids | {character: len(ids) + i for i, character in enumerate(new)}
        return characters, symbols, ids

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        """The merges; then <unk> for each piece that the dictionary lacks."""
        if pre_token.isspace():
            return [], []
        characters, symbols, ids = self._characters(pre_token)
        shown = [symbol.removesuffix(END_OF_WORD).encode() for symbol in symbols]
        begin = [ids[character] for character in characters]
        steps = list(merging(begin, self._table, shown.__getitem__))
        row = steps[-1].symbols if steps else [shown[id] for id in begin]
        for at, token in enumerate(self._bytes_of(self._encode_pre_token(pre_token))):
            if token != row[at]:
                row = [*row[:at], token, *row[at + 1 :]]
                steps.append(EncodingStep(symbols=row, at=at))
        return [shown[id] for id in begin], steps

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """A space stands between two words."""
        begins = (
            previous is None or previous in self._special_ids - {UNKNOWN} or self.tokens[previous].endswith(GOES_ON)
        )
        return self.token_bytes(id) if begins else b" " + self.token_bytes(id)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write bpe.code and dict.txt, since tokenizer.json has no form for it; returns the dictionary's path.

        How often a token was counted, which only fairseq's own preparation of data asks, is not known here: it is 1.
        """
        folder = Path(directory)
        lines = [" ".join(pair) for pair in self.merges]
        dictionary = "".join(f"{token} 1\n" for token in self.tokens[len(SPECIAL) :])
        write_file(folder / CODES, "\n".join([VERSION, *lines, ""]).encode(), overwrite=overwrite)
        write_file(folder / DICTIONARY, dictionary.encode(), overwrite=overwrite)
        return folder / DICTIONARY


def read_subword(path: Path) -> SubwordTokenizer:
    """The tokenizer of a dictionary, with the codes in the same folder."""
    return SubwordTokenizer(read_codes(sibling(path, CODES)), read_dictionary(path))


def read_codes(path: Path) -> list[tuple[str, str]]:
    """The merges of a file that `subword-nmt learn-bpe` wrote: a line of its version, then a pair a line."""
    first, *lines = _lines(path)
    if first.strip() != VERSION:
        raise TokenizerError(f"{path}: expected {VERSION!r} in the first line, not {first[:40]!r}.")
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=2):
        match line.split(" "):
            case [left, right] if left and right:
                merges.append((left, right))
            case _:
                raise TokenizerError(f"{path}: expected two symbols in line {number}, not {line[:80]!r}.")
    if len(merges) > MAX_VOCAB_SIZE:
        raise TokenizerError(f"{path}: expected at most {MAX_VOCAB_SIZE} merges, not {len(merges)}.")
    return merges


def read_dictionary(path: Path) -> list[str]:
    """The tokens of a dictionary of fairseq's (dict.LANGUAGE.txt: a token and its count a line), `SPECIAL` before."""
    tokens = dict.fromkeys(SPECIAL)
    for number, line in enumerate(_lines(path), start=1):
        token, _, count = line.rstrip().rpartition(" ")
        if not token or not count.isdecimal():
            raise TokenizerError(f"{path}: expected a token and its count in line {number}, not {line[:80]!r}.")
        if token in tokens:
            raise TokenizerError(f"{path}: the token {token[:40]!r} of line {number} is there already.")
        tokens[token] = None
    return list(tokens)


def _lines(path: Path) -> list[str]:
    return read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
