"""Corpora in files of every kind: the same texts, however a file is cut or packed, in bounded memory."""

import gzip
import importlib
import io
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from backports import zstd
from pyarrow import parquet

from glassformer import compressed
from glassformer.compressed import SMALL
from glassformer.errors import DataError, MissingExtra
from glassformer.tokenizers import parquet_pages, span_reader
from glassformer.tokenizers.bpe_train import count_pre_tokens
from glassformer.tokenizers.corpus import FileSpan, cuts_of
from glassformer.tokenizers.span_reader import SpanReader
from support.counts import count

DOCUMENTS = ["Once upon a time\n\nthere was", "", "漢字 é 🙂\r\n", "a\u2028b", '"quoted" \\ text', " ", "x" * 500]


def texts_of(path: Path, *, start: int = 0, stop: int | None = None, field: str = "text", block: int = 7) -> list[str]:
    reader = SpanReader(FileSpan(path, start, path.stat().st_size if stop is None else stop, field), block)
    return ["".join(text) for text in reader.texts()]


def as_lines(documents: Sequence[str]) -> bytes:
    lines = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(documents)]
    return "\n".join([*lines, ""]).encode()


def write_table(path: Path, documents: Sequence[str | None], rows: int = 3, **options: object) -> None:
    table = pyarrow.table({"id": list(range(len(documents))), "text": pyarrow.array(documents, pyarrow.string())})
    parquet.write_table(table, path, row_group_size=rows, **options)


PACKINGS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_file_of_text_is_one_text_and_its_lines_stay_as_they_are(packing: str, tmp_path: Path) -> None:
    text = "\ufeffFirst\r\n Citizen 漢字\n" * 20
    path = tmp_path / f"c.txt{packing}"
    path.write_bytes(PACKINGS[packing](text.encode()))
    assert texts_of(path) == [text]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n \n\n"])
def test_each_line_of_jsonl_is_a_document(packing: str, end: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"c.jsonl{packing}"
    path.write_bytes(PACKINGS[packing](as_lines(DOCUMENTS).rstrip() + end))
    assert texts_of(path) == DOCUMENTS


def test_each_row_of_a_table_is_a_document_and_one_without_a_text_is_none(tmp_path: Path) -> None:
    for compression in ("none", "snappy", "zstd"):
        write_table(tmp_path / "c.parquet", [*DOCUMENTS, None], compression=compression)
        assert texts_of(tmp_path / "c.parquet") == DOCUMENTS


def test_a_column_of_categories_is_one_of_texts(tmp_path: Path) -> None:
    for kind in (pyarrow.string(), pyarrow.large_string()):
        categories = pyarrow.array([*DOCUMENTS, None, *DOCUMENTS], kind).dictionary_encode()
        parquet.write_table(pyarrow.table({"text": categories}), tmp_path / "c.parquet")
        assert texts_of(tmp_path / "c.parquet") == DOCUMENTS * 2


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_spans_between_cuts_have_all_documents_once(name: str, tmp_path: Path) -> None:
    choose, path = random.Random(0), tmp_path / name
    for _ in range(count("files of documents cut")):
        documents = choose.choices(DOCUMENTS, k=choose.randrange(1, 40))
        if name == "c.jsonl":
            path.write_bytes(as_lines(documents))
        else:
            write_table(path, documents, choose.randrange(1, 9))
        cuts = cuts_of(path, path.stat().st_size, choose.randrange(1, 9), [b"time"])
        parts = [texts_of(path, start=start, stop=stop) for start, stop in pairwise(cuts)]
        assert [text for part in parts for text in part] == documents


def test_what_is_packed_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(gzip.compress(b"a b c " * 9))
    assert cuts_of(tmp_path / "c", 40, 5, []) == [0, 40]


class Counted(tuple[bytes, ...]):
    n_read = 0

    def __iter__(self) -> Iterator[bytes]:
        Counted.n_read += 1
        return super().__iter__()


def test_special_tokens_are_not_asked_one_by_one_at_each_place_that_may_be_cut(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"a b" * 3_000)
    tokens = Counted([b"a b", b"ba", *(b"<|%d|>" % i for i in range(100))])
    assert cuts_of(tmp_path / "c", 9_000, 2, tokens) == [0, 9_000]
    assert Counted.n_read < 10
    assert cuts_of(tmp_path / "c", 9_000, 2, tokens[:1]) == [0, 4_500, 9_000]


@pytest.mark.parametrize("workers", [1, 3])
def test_pre_tokens_of_every_kind_of_file_are_counted_alike(workers: int, tmp_path: Path) -> None:
    for packing, pack in PACKINGS.items():
        (tmp_path / f"c.jsonl{packing}").write_bytes(pack(as_lines(DOCUMENTS * 3)))
    write_table(tmp_path / "c.parquet", DOCUMENTS * 3)
    expected: dict[bytes, int] = {}
    for text in DOCUMENTS:
        (tmp_path / "text").write_bytes(text.encode())
        if text:
            for word, n in count_pre_tokens(tmp_path / "text").items():
                expected[word] = expected.get(word, 0) + 3 * n
    for name in ("c.jsonl", "c.jsonl.gz", "c.jsonl.zst", "c.parquet"):
        assert dict(count_pre_tokens(tmp_path / name, workers=workers)) == expected, name
        with pytest.raises(DataError, match=r"'body'; its (columns of )?texts are text\. field= names"):
            count_pre_tokens(tmp_path / name, field="body")


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_small_file_large_cost_a_packed_corpus_may_not_grow_without_bound(packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.txt{packing}"
    path.write_bytes(PACKINGS[packing](b"a dog\tein Hund\n" * (SMALL // 8)))
    assert path.stat().st_size < SMALL / 64
    reader = SpanReader(FileSpan(path, 0, path.stat().st_size))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"unpacks to more than .* unpack it first"):
        sum(len(piece) for text in reader.texts() for piece in text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_small_file_large_cost_a_table_may_not_grow_without_bound(tmp_path: Path) -> None:
    write_table(tmp_path / "c.parquet", ["a" * (SMALL + 1)], use_dictionary=False, compression="zstd")
    with pytest.raises(DataError, match="unpacks to more than"):
        texts_of(tmp_path / "c.parquet")


def number(value: int) -> bytes:
    """A number of Thrift's compact protocol, with its sign last."""
    value, data = value << 1, []
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


@pytest.mark.parametrize("field", [2, 3, 7])  # bytes unpacked, bytes in the file, values of a dictionary
def test_small_file_large_cost_no_room_is_made_for_what_a_page_claims(field: int, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_table(path, [f"text {i}" for i in range(100)], rows=100, compression="snappy", use_dictionary=field == 7)
    chunk = parquet.ParquetFile(path).metadata.row_group(0).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    with path.open("rb") as file:
        page, *_ = parquet_pages.pages(file, start, start + chunk.total_compressed_size)
    value = {2: page.unpacked, 3: page.packed, 7: page.n_values}[field]
    assert value > 0
    data = path.read_bytes()
    at = data.index(b"\x15" + number(value), start) + 1
    path.write_bytes(data[:at] + number((1 << 31) - 1) + data[at + len(number(value)) :])
    before = pyarrow.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=r"as a Parquet file: a page claims .*2,147,483,647"):
        texts_of(path)
    assert pyarrow.default_memory_pool().max_memory() < before + (16 << 20)


@pytest.mark.parametrize(
    "header",
    [
        b"\x15\x00\x15" + number(300 << 20) + b"\x06" + number(2) + number(9) + b"\x15" + number(9) + b"\x00",
        b"\x15\x00\x15" + number(9) + b"\x05" + number(2 + (1 << 16)) + number(300 << 20) + b"\x00",
    ],
)
def test_small_file_large_cost_a_page_claims_each_size_once(header: bytes) -> None:
    """Who reads 32 bits skips a size of 64, and who has 16 bits for a field's number cuts it off."""
    with pytest.raises(ValueError, match="a field twice"):
        list(parquet_pages.pages(io.BytesIO(header), 0, len(header)))


def test_of_a_header_with_long_texts_not_much_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_table(path, [f"{i:04}" * 1000 for i in range(400)], rows=400, compression="none", use_dictionary=False)
    chunk = parquet.ParquetFile(path).metadata.row_group(0).column(1)
    start = chunk.data_page_offset
    asked = []
    with path.open("rb") as file:

        def read(n: int) -> bytes:
            asked.append(n)
            return file.read(n)

        reader: Any = SimpleNamespace(seek=file.seek, read=read)
        assert list(parquet_pages.pages(reader, start, start + chunk.total_compressed_size))
    assert (1 << 13) < max(asked) <= 1 << 16


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_pages_of_a_column_end_where_it_ends(compression: str, version: str, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    documents = ["x" * 70_000, *DOCUMENTS * 100, None]
    for settings in ({}, {"use_dictionary": False, "write_page_checksum": True, "data_page_size": 512}):
        write_table(path, documents, 900, compression=compression, data_page_version=version, **settings)
        chunk = parquet.ParquetFile(path).metadata.row_group(0).column(1)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        stop = start + chunk.total_compressed_size
        with path.open("rb") as file:
            claimed = list(parquet_pages.pages(file, start, stop))
            with pytest.raises(ValueError, match=r"no header|no sizes"):
                list(parquet_pages.pages(file, start, path.stat().st_size))
        assert 0 < sum(page.packed for page in claimed) < stop - start
        assert 0 < chunk.total_uncompressed_size - sum(page.unpacked for page in claimed) < 400 * len(claimed)
        assert texts_of(path) == [text for text in documents if text is not None]


def test_a_document_has_a_greatest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_reader, "LONGEST_DOCUMENT", 400)
    (tmp_path / "c.jsonl").write_bytes(as_lines(DOCUMENTS))
    write_table(tmp_path / "c.parquet", DOCUMENTS)
    for name in ("c.jsonl", "c.parquet"):
        with pytest.raises(DataError, match=r"no document|no table of documents"):
            texts_of(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]", "must hold a JSON object"),
        (b'{"text": 3}', "it has a number and no text under 'text'; its texts are none"),
        (b'{"text": null, "b": "b"}', "it has null and no text under 'text'; its texts are b"),
        (b'{"b": true}', "it has no text under 'text'"),
        (b'{"text": "a"', "is not valid JSON"),
        (b'{"text": "\xff"}', "is not valid JSON"),
        (b"[" * 5_000, "nested too deeply"),
        (b'{"text": "a", "text": "b"}', "comes twice"),
    ],
)
def test_what_is_no_document_is_said_with_its_place(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + line + b"\n")
    for start in (0, 14, 15):
        with pytest.raises(DataError, match=rf"c\.jsonl, line 3 \(at byte 15\): .*{reason}"):
            list(map("".join, SpanReader(FileSpan(path, start, path.stat().st_size)).texts()))


def test_of_a_table_the_row_and_the_type_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.parquet"
    for column, kind in ((pyarrow.array([1, 2]), "int64"), (pyarrow.nulls(2), "null")):
        parquet.write_table(pyarrow.table({"text": column, "b": ["a", "b"]}), path)
        with pytest.raises(DataError, match=f"its column 'text' has {kind}; its columns of texts are b\\. field="):
            texts_of(path)
    monkeypatch.setattr(span_reader, "LONGEST_DOCUMENT", 9)
    write_table(path, ["a"] * 150 + [None, "a" * 10], rows=50)
    with pytest.raises(DataError, match="row 152, has a text of 10 bytes"):
        texts_of(path)


def test_a_surrogate_alone_is_a_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "\\ud83d\\ude42 \\ud83d"}\n')
    assert texts_of(tmp_path / "c.jsonl") == ["🙂 \ufffd"]


def test_what_is_no_table_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_table(path, DOCUMENTS * 200)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-1], whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match="cannot be read as a Parquet file"):
            texts_of(path)
    for packing in (".gz", ".zst"):
        packed = PACKINGS[packing](as_lines(DOCUMENTS))
        (tmp_path / f"c.jsonl{packing}").write_bytes(packed[:-5])
        with pytest.raises(DataError, match=r"no whole (gzip|Zstandard) file"):
            texts_of(tmp_path / f"c.jsonl{packing}")


def test_without_its_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(compressed, "import_module", missing)
    monkeypatch.setitem(importlib.import_module("sys").modules, "pyarrow", None)
    (tmp_path / "c.zst").write_bytes(zstd.compress(b"a"))
    write_table(tmp_path / "c.parquet", ["a"])
    for name, extra in (("c.zst", "zstd"), ("c.parquet", "parquet")):
        with pytest.raises(MissingExtra, match=rf"glassformer\[{extra}\]"):
            texts_of(tmp_path / name)
