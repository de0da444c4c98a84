"""Files of word vectors, which are a table and its words.

    word2vec, text     a line "V C", then a line a word: the word and its C numbers, with a space between any two
    word2vec, binary   a line "V C", then for each word its text, a space, C float32, little-endian, and maybe a newline
    GloVe              the lines of the first, without the one in front

Of Mikolov's word2vec.c and of Pennington's GloVe. No size that a file declares is believed before the file has been
found long enough for it. Published files have a word twice, or one that is not UTF-8 (word2vec.c cuts long words within
a character): of equal words the first counts, a word that cannot be read is left out, and a note says so.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassformer import files
from glassformer.errors import CheckpointCorrupt, CheckpointError, ExportError
from glassformer.tokenizers.base import Tokenizer

VectorFormat = Literal["word2vec", "word2vec-binary", "glove"]

HEADER = re.compile(rb"(\d{1,12}) (\d{1,12})[ \r]*\n")
MAX_LINE = 1 << 20  # bytes: tens of thousands of numbers
MAX_WORD = 4096  # bytes
PACKED = {b"\x1f\x8b": "gunzip", b"PK\x03\x04": "unzip"}  # how such files are published


@dataclass(frozen=True, slots=True, kw_only=True)
class WordVectors:
    """A vector for each word, in the order of the file: the most frequent first, as a rule."""

    words: tuple[str, ...]
    vectors: Float[Tensor, "V C"]
    note: str = ""  # what of the file is left out


def read(path: Path, format: VectorFormat | None = None) -> WordVectors:
    """The words and vectors of a file; without a format, of one that its beginning looks like."""
    with files.errors_about(path):
        if not path.is_file():
            raise CheckpointError("there is no file of this name.")
        format = format or guess_format(path)
        with path.open("rb") as file:
            for magic, program in PACKED.items():
                if file.peek(len(magic)).startswith(magic):
                    raise CheckpointError(f"it is packed: unpack it first, with {program}.")
            table = _table(file, format, path.stat().st_size)
            entries = _binary_entries if format == "word2vec-binary" else _text_entries
            rows, note = _readable(entries(file, table))
            if file.read(1):
                raise CheckpointCorrupt(f"there is more behind its {len(table):,} vectors.")
        if len(rows) < len(table):
            table = table[list(rows.values())]
        if not np.isfinite(table).all():
            raise CheckpointCorrupt("it holds numbers that are infinite or none (NaN).")
        return WordVectors(words=tuple(rows), vectors=torch.from_numpy(table), note=note)


def guess_format(path: Path) -> VectorFormat:
    """GloVe's files have no header; in a text the first entry is a line of a word and so many numbers."""
    with path.open("rb") as file:
        match = HEADER.fullmatch(file.readline(64))
        if match is None:
            return "glove"
        entry = file.readline(MAX_LINE).rstrip(b" \r\n").rsplit(b" ", int(match[2]))
    is_text = len(entry) == int(match[2]) + 1 and all(map(_is_number, entry[1:]))
    return "word2vec" if is_text else "word2vec-binary"


def has_header(path: Path) -> bool:
    """Whether a file begins as word2vec's do, whatever its name."""
    with path.open("rb") as file:
        return HEADER.fullmatch(file.readline(64)) is not None


def embedding_rows(
    vectors: WordVectors, tokenizer: Tokenizer
) -> tuple[Float[Tensor, "tokens C"], Bool[Tensor, " tokens"]]:
    """A row for each token of a tokenizer, and which tokens have a vector; the rows of the others are 0.

    A token is looked up as it is written, without the space in front of it, and then in lower case. Special tokens
    stand for no word.
    """
    places = {word: place for place, word in enumerate(vectors.words)}
    rows = torch.zeros(tokenizer.vocab_size, vectors.vectors.shape[1])
    has_vector = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
    special = set(tokenizer.special_tokens.values())
    for id in tokenizer.vocab.keys() - special:
        word = tokenizer.token_bytes(id).decode(errors="replace").removeprefix(" ")
        place = places.get(word, places.get(word.lower()))
        if place is not None:
            rows[id], has_vector[id] = vectors.vectors[place], True
    return rows, has_vector


def write(path: Path, vectors: WordVectors, format: VectorFormat, *, overwrite: bool = False) -> None:
    """Write them; read again, text has the same float32 numbers too."""
    table = vectors.vectors.detach().float().cpu().numpy()
    _check_words(vectors.words, len(table))
    lines = []
    for word, vector in zip(vectors.words, table, strict=True):
        if format == "word2vec-binary":
            lines.append(word.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")
        else:
            lines.append(" ".join([word, *(str(number) for number in vector)]).encode() + b"\n")
    header = b"" if format == "glove" else f"{len(table)} {table.shape[1]}\n".encode()
    files.write_file(path, header + b"".join(lines), overwrite=overwrite)


def _check_words(words: Sequence[str], n_vectors: int) -> None:
    if len(words) != n_vectors or len(set(words)) < n_vectors:
        raise ExportError(f"{len(set(words))} different words cannot name {n_vectors} vectors.")
    for word in words:
        if not word or len(word.encode()) > MAX_WORD or re.search(r"[ \n\r]", word):
            raise ExportError(
                f"The format cannot express the word {word[:80]!r}: it is empty, too long, or has spaces."
            )


def _table(file: BufferedReader, format: VectorFormat, size: int) -> np.ndarray:
    """An empty table of the shape that the file declares, or has; the file is then at its first entry."""
    if size == 0:
        raise CheckpointCorrupt("it is empty.")
    shape = _count(file) if format == "glove" else _header(file.readline(64))
    n_words, width = shape
    if width == 0:
        raise CheckpointCorrupt("its first vector has no numbers: expected a word, and then its numbers.")
    least = 4 * width + 2 if format == "word2vec-binary" else 2 * width + 2  # bytes of the shortest entry
    if n_words == 0 or n_words * least > size + 1:
        raise CheckpointCorrupt(f"{n_words:,} vectors of {width:,} numbers do not fit in {size:,} bytes.")
    return np.empty(shape, dtype=np.float32)


def _header(line: bytes) -> tuple[int, int]:
    match = HEADER.fullmatch(line)
    if match is None:
        raise CheckpointCorrupt(f"it must begin with two numbers, of words and of their features, not {line[:40]!r}.")
    return int(match[1]), int(match[2])


def _count(file: BufferedReader) -> tuple[int, int]:
    """Lines, and numbers in the first one; the file is then at its beginning again."""
    width = len(_line(file).split(b" ")) - 1
    file.seek(0)
    n_lines, last = 0, b"\n"
    while block := file.read(1 << 20):
        n_lines += block.count(b"\n")
        last = block[-1:]
    file.seek(0)
    return n_lines + (last != b"\n"), width


def _line(file: BufferedReader) -> bytes:
    line = file.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise CheckpointCorrupt(f"a line has more than {MAX_LINE:,} bytes.")
    return line.rstrip(b" \r\n")


def _text_entries(file: BufferedReader, table: np.ndarray) -> Iterator[bytes]:
    """The word of each line; its numbers go into the table. A word of GloVe's may hold spaces."""
    for row, vector in enumerate(table):
        line = _line(file)
        if not line and not file.peek(1):
            raise CheckpointCorrupt(f"it ends after {row:,} of its {len(table):,} vectors.")
        word, *numbers = line.rsplit(b" ", len(vector))
        try:
            with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as that
                vector[:] = [float(number) for number in numbers]
            too_many = b" " in word and _is_number(word.split(b" ")[-1])
        except ValueError:
            too_many = True
        if too_many or len(numbers) < len(vector):
            raise CheckpointCorrupt(f"line {row + 1:,} of its vectors is no word with {len(vector)} numbers.")
        yield word


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _binary_entries(file: BufferedReader, table: np.ndarray) -> Iterator[bytes]:
    """The word of each entry; its numbers go into the table."""
    for row, vector in enumerate(table):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b"") and len(word) <= MAX_WORD:
            word += byte
        raw = file.read(vector.nbytes)
        if byte != b" " or len(raw) < vector.nbytes:
            raise CheckpointCorrupt(f"it ends, or is broken, at the vector {row + 1:,}.")
        vector[:] = np.frombuffer(raw, dtype="<f4")
        if file.peek(1)[:1] == b"\n":
            file.read(1)
        yield bytes(word)


def _readable(entries: Iterable[bytes]) -> tuple[dict[str, int], str]:
    """The row of each word that can be read, and a sentence about the others."""
    rows: dict[str, int] = {}
    left_out: dict[str, list[int]] = {"repeated": [], "not UTF-8": []}
    for row, entry in enumerate(entries):
        try:
            word = entry.decode()
        except UnicodeDecodeError:
            left_out["not UTF-8"].append(row)
            continue
        if not word:
            raise CheckpointCorrupt(f"the word {row + 1:,} is empty.")
        if word in rows:
            left_out["repeated"].append(row)
        else:
            rows[word] = row
    if not rows:
        raise CheckpointCorrupt("none of its words is UTF-8.")
    reasons = [f"{len(at):,} {reason} (the first is word {at[0] + 1:,})" for reason, at in left_out.items() if at]
    return rows, f"left out are {' and '.join(reasons)}" if reasons else ""
