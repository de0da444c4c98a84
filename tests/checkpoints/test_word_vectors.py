"""Files of word vectors as the published programs write them, there and back; and files that lie."""

import gzip
import random
import re
import struct
from pathlib import Path
from typing import get_args

import pytest
import torch

from checkpoints.hostile import refused
from glassformer.checkpoints.word_vectors import VectorFormat, WordVectors, guess_format, read, write
from glassformer.errors import CheckpointError, ExportError
from support.counts import count
from support.damage import damaged

FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)
WORDS = ("</s>", "the", "café", "北京", "a_b", "😀")
VECTORS = torch.tensor([[0.5, -1.25], [1e-8, 3.0], [0.1, 1 / 3], [-7e20, 0.0], [1.0, 2.0], [5.0, -6.0]])


def word2vec_c(binary: bool) -> bytes:
    """What the end of TrainModel in word2vec.c writes: "%s " and then "%lf " or fwrite, and a newline."""
    out = b"%d %d\n" % VECTORS.shape
    for word, (a, b) in zip(WORDS, VECTORS.tolist(), strict=True):
        out += word.encode() + b" "
        out += struct.pack("<2f", a, b) if binary else b"%f %f " % (a, b)
        out += b"\n"
    return out


def glove_c(header: bool = False) -> bytes:
    """What save_params in glove.c writes: "%s", then " %lf" for each, a newline; -write-header is word2vec's."""
    lines = [
        word.encode() + b"".join(b" %f" % x for x in vector)
        for word, vector in zip(WORDS, VECTORS.tolist(), strict=True)
    ]
    return (b"%d %d\n" % VECTORS.shape if header else b"") + b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (word2vec_c(binary=False), "word2vec"),
        (word2vec_c(binary=True), "word2vec-binary"),
        (glove_c(), "glove"),
        (glove_c().rstrip(b"\n"), "glove"),
        (glove_c(header=True), "word2vec"),
        (word2vec_c(binary=False).replace(b" \n", b"\r\n"), "word2vec"),
    ],
)
def test_a_published_program_s_file_is_read(data: bytes, format: VectorFormat, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    found = read(tmp_path / "file", format)
    assert guess_format(tmp_path / "file") == format
    assert found.words == WORDS
    if format == "word2vec-binary":
        assert torch.equal(found.vectors, VECTORS)
    torch.testing.assert_close(found.vectors, VECTORS, rtol=1e-6, atol=1e-6)  # "%f" has six places


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_again_to_the_bit(format: VectorFormat, tmp_path: Path) -> None:
    vectors = torch.randn(200, 17) * torch.logspace(-30, 30, 200)[:, None]
    found = WordVectors(words=tuple(f"word-{i}·" for i in range(200)), vectors=vectors)
    write(tmp_path / "file", found, format)
    again = read(tmp_path / "file", format)
    assert again.words == found.words
    assert torch.equal(again.vectors, vectors)


def test_a_binary_file_without_newlines_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"2 1\na " + struct.pack("<f", 1) + b"b " + struct.pack("<f", 2))
    assert read(tmp_path / "file", "word2vec-binary").vectors.tolist() == [[1], [2]]


def test_a_word_of_glove_s_may_hold_spaces(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"the 1 2\n. . . 3 4\n")
    assert read(tmp_path / "file", "glove").words == ("the", ". . .")


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_what_we_write_and_we_what_it_writes(binary: bool, tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models")
    ours = WordVectors(words=WORDS, vectors=VECTORS)
    write(tmp_path / "ours", ours, "word2vec-binary" if binary else "word2vec")
    theirs = gensim.KeyedVectors.load_word2vec_format(tmp_path / "ours", binary=binary)
    assert tuple(theirs.index_to_key) == WORDS
    assert torch.equal(torch.from_numpy(theirs.vectors), VECTORS)
    theirs.save_word2vec_format(tmp_path / "theirs", binary=binary)
    again = read(tmp_path / "theirs")
    assert again.words == WORDS
    assert torch.equal(again.vectors, VECTORS)


def test_what_a_format_cannot_express_is_refused(tmp_path: Path) -> None:
    for words in (("a b",), ("",), ("a\n",), ("a", "a"), ("a", "b", "c"), ("x" * 5000,)):
        n = 2 if len(words) == 3 else len(words)
        with pytest.raises(ExportError):
            write(tmp_path / "file", WordVectors(words=words, vectors=torch.zeros(n, 2)), "word2vec")
    assert not (tmp_path / "file").exists()


ONE = struct.pack("<f", 1)
LIES: dict[str, tuple[VectorFormat, bytes]] = {
    "empty": ("glove", b""),
    "no header": ("word2vec", b"the 1 2\n"),
    "a header of words": ("word2vec-binary", b"two one\n"),
    "no header's end": ("word2vec-binary", b"1" * 100_000),
    "10^12 vectors": ("word2vec", b"999999999999 2\na 1 2\n"),
    "10^12 numbers": ("word2vec", b"1 999999999999\na 1 2\n"),
    "10^12 numbers in bytes": ("word2vec-binary", b"1 999999999999\na " + ONE),
    "no vector": ("word2vec", b"0 2\n" + bytes(50)),
    "no number": ("word2vec", b"2 0\na\nb\n"),
    "a negative size": ("word2vec", b"-1 2\na 1 2\n"),
    "a vector too few": ("word2vec", b"2 2\na 1.00000000000 2\n"),
    "a vector too many": ("word2vec", b"1 2\na 1 2\nb 1 2\n"),
    "a number too few": ("word2vec", b"2 2\na 1 2\nb 1.0000\n"),
    "a number too many": ("word2vec", b"2 2\na 1 2\nb 1 2 3\n"),
    "a number too many in GloVe": ("glove", b"a 1 2\nb 1 2 3\n"),
    "no word": ("word2vec", b"1 2\n1 2       \n"),
    "an empty word": ("word2vec", b"1 2\n 1 2\n"),
    "a word for a number": ("glove", b"a 1 2\nb one 2\n"),
    "an infinite number": ("glove", b"a 1 2\nb inf 2\n"),
    "NaN in bytes": ("word2vec-binary", b"1 1\na \xff\xff\xff\xff"),
    "no word of UTF-8": ("glove", b"\xff 1 2\n"),
    "bytes cut short": ("word2vec-binary", b"2 1\na " + ONE + b"bbbbbb " + ONE[:3]),
    "a word without an end": ("word2vec-binary", b"1 1\n" + b"a" * 100_000),
    "more behind": ("word2vec-binary", b"1 1\na " + ONE + b"\nmore"),
    "one endless line": ("glove", b"a" + b" 0" * 5_000_000),
    "a number out of range": ("glove", b"a 1e400\n"),
    "a number too large for float32": ("glove", b"a 1e39\n"),
}


@pytest.mark.parametrize(("format", "data"), LIES.values(), ids=LIES.keys())
def test_a_file_that_lies_is_refused(format: VectorFormat, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with refused(tmp_path / "file"):
        read(tmp_path / "file", format)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"hello\n", "its first vector has no numbers"),
        (b"4 2\na 1.000000 2.000000\nb 1.000000 2.000000\n", "it ends after 2 of its 4 vectors"),
        (b"a 1.000000 2\nb 1 2\n\n", "it ends after 2 of its 3 vectors"),
        (gzip.compress(b"a 1 2\n"), "unpack it first, with gunzip"),
        (b"PK\x03\x04...", "unpack it first, with unzip"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(CheckpointError, match=reason):
        read(tmp_path / "file")


@pytest.mark.parametrize("path", ["missing", "."])
def test_what_is_no_file_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        read(tmp_path / path, "glove")


@pytest.mark.parametrize("format", FORMATS)
def test_one_word_that_cannot_be_used_costs_no_other(format: VectorFormat, tmp_path: Path) -> None:
    """GloVe's 840B has a word twice; word2vec.c cuts a long word within a character."""
    write(tmp_path / "good", WordVectors(words=WORDS, vectors=VECTORS), format)
    data = (tmp_path / "good").read_bytes()
    spoilt = data.replace("北京".encode(), "北京".encode()[:-1] + b"_").replace(b"a_b", b"the")
    assert len(spoilt) == len(data)
    (tmp_path / "file").write_bytes(spoilt)
    vectors = read(tmp_path / "file", format)
    assert vectors.words == ("</s>", "the", "café", "😀")
    assert torch.equal(vectors.vectors, VECTORS[[0, 1, 2, 5]])
    assert vectors.note == "left out are 1 repeated (the first is word 5) and 1 not UTF-8 (the first is word 4)"
    assert read(tmp_path / "good", format).note == ""


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_refused_or_says_what_is_left_out(format: VectorFormat, tmp_path: Path) -> None:
    """Each word that is read has the vector that stands behind it; what is missing is in the note."""
    write(tmp_path / "good", WordVectors(words=WORDS, vectors=VECTORS), format)
    good, choose = (tmp_path / "good").read_bytes(), random.Random(0)
    for _ in range(count("damaged files of word vectors") // len(FORMATS)):
        (tmp_path / "file").write_bytes(damaged(good, choose, header=good.find(b"\n") + 1))
        try:
            vectors = read(tmp_path / "file", format)
        except CheckpointError:
            continue
        assert vectors.vectors.isfinite().all()
        assert len(set(vectors.words)) == len(vectors.words) == len(vectors.vectors) > 0
        lines = (tmp_path / "file").read_bytes().rstrip(b"\n").split(b"\n")
        if format != "word2vec-binary":
            n_lines = len(lines) - (format == "word2vec")
            left_out = sum(int(number) for number in re.findall(r"(\d+) (?:repeated|not)", vectors.note))
            assert len(vectors.words) + left_out == n_lines


@pytest.mark.parametrize("format", FORMATS)
def test_random_bytes_never_crash_a_reader(format: VectorFormat, tmp_path: Path) -> None:
    write(tmp_path / "good", WordVectors(words=WORDS, vectors=VECTORS), format)
    good, choose = (tmp_path / "good").read_bytes(), random.Random(0)
    for _ in range(150):
        spoiled = bytearray(good[: choose.choice([len(good), choose.randrange(len(good))])])
        for _ in range(choose.choice([0, 1, 3]) if spoiled else 0):
            spoiled[choose.randrange(len(spoiled))] = choose.choice([*b" \n0129e.-", choose.randrange(256)])
        (tmp_path / "file").write_bytes(spoiled)
        try:
            found = read(tmp_path / "file", format)
        except CheckpointError:
            continue
        assert found.vectors.isfinite().all()
        assert len(found.words) == len(found.vectors) > 0
