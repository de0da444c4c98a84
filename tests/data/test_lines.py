"""Lines of text files: what ends one, and files that cost more than they may."""

import gzip
import io
import random
import tracemalloc
from pathlib import Path

import pytest

from glassformer.compressed import SMALL
from glassformer.data import word_corpus
from glassformer.data.lines import MAX_LINE, read_lines
from glassformer.data.pairs import read_pairs
from glassformer.errors import DataError, TokenizerError
from glassformer.tokenizers import pretokenize
from glassformer.tokenizers.pretokenize import PATTERNS, PreTokenizer
from support.counts import count
from support.damage import damaged


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [b"", b"a", b"a\n", b"a\r\n\nb\x0b\xc2\x85c\n", b"\xef\xbb\xbfa\nb"])
@pytest.mark.parametrize("zipped", [False, True])
def test_lines_end_at_a_newline_alone(data: bytes, zipped: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "file", gzip.compress(data) if zipped else data)
    expected = [line.rstrip("\r\n") for line in io.StringIO(data.decode("utf-8-sig"), newline="\n")]
    assert list(read_lines(path)) == expected


def test_small_file_large_cost_a_gzipped_text_may_not_grow_without_bound(tmp_path: Path) -> None:
    """A gzip of 1.8 MB took 6.4 GB to translate and 11.4 GB to train on."""
    bomb = gzip.compress(b"a dog\tein Hund\n" * (SMALL // 8), 9)
    path = written(tmp_path / "bomb.gz", bomb)
    assert len(bomb) < SMALL / 64
    tracemalloc.start()
    with pytest.raises(DataError, match=r"unpacks to more than .* unpack it first"):
        for _ in read_lines(path):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_small_file_large_cost_a_line_has_a_greatest_length(tmp_path: Path) -> None:
    path = written(tmp_path / "line", b"a" * (MAX_LINE + 1))
    with pytest.raises(DataError, match="a line of more than 4,194,304 bytes"):
        list(read_lines(path))
    assert len(next(read_lines(written(tmp_path / "longest", b"a" * MAX_LINE)))) == MAX_LINE


def test_small_file_large_cost_text_without_a_place_to_cut_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretokenize, "LONGEST", 1 << 18)
    monkeypatch.setattr(word_corpus, "LONGEST", 1 << 18)
    chunks = ["a" * (1 << 16)] * 8
    with pytest.raises(TokenizerError, match="without a place where it may be cut"):
        list(PreTokenizer(PATTERNS["gpt2"]).stream(chunks))
    path = written(tmp_path / "text", b"a" * (3 << 20))
    with pytest.raises(DataError, match="without a space"):
        word_corpus.count_words([path])


def test_a_damaged_corpus_is_refused_or_read_as_python_reads_it(tmp_path: Path) -> None:
    choose = random.Random(0)
    texts = ["".join(choose.choices("aä北😀 .", k=choose.randrange(12))) for _ in range(40)]
    plain = "\n".join(f"{text}x\t{text}y" for text in texts).encode()
    for number in range(count("damaged corpora")):
        good = (plain, gzip.compress(plain))[number % 2]
        spoilt = damaged(good, choose)
        path = written(tmp_path / "file", spoilt)
        try:
            data = gzip.decompress(spoilt) if spoilt[:2] == b"\x1f\x8b" else spoilt
            expected = [line.rstrip("\r\n") for line in io.StringIO(data.decode(), newline="\n")]
            expected = [line.removeprefix("\ufeff") for line in expected[:1]] + expected[1:]
        except Exception:
            with pytest.raises(DataError):
                list(read_lines(path))
            continue
        assert list(read_lines(path)) == expected
        try:
            pairs = read_pairs(path)
        except DataError:
            continue
        assert len(pairs) <= len(expected)
        assert all(first.strip() and second.strip() for first, second in pairs)


def test_a_gzip_that_is_cut_is_never_silently_short(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(f"line {i}" for i in range(500)).encode())
    for size in range(2, len(whole), max(len(whole) // 50, 1)):
        with pytest.raises(DataError, match="no whole gzip file"):
            list(read_lines(written(tmp_path / "cut.gz", whole[:size])))
