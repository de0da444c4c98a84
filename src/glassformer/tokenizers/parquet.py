"""The texts in a column of a Parquet file, some rows at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glassformer.compressed import MAX_INFLATION, inflation_limit
from glassformer.errors import DataError, MissingExtra
from glassformer.tokenizers.parquet_pages import pages

ROWS = 64  # that are read at once
BUFFER = 1 << 16  # bytes


def read_column(path: Path, field: str, start: int, stop: int, longest: int) -> Iterator[bytes]:
    """The texts of a column, in UTF-8, of the row groups that begin between two offsets; a row may have none.

    A text that comes often stays one in memory, as in the file; `longest` is how many bytes one may have.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", f"{path}, a table,") from None
    try:
        with parquet.ParquetFile(path) as file:
            groups = _groups_between(path, file, field, start, stop)
            row = sum(file.metadata.row_group(group).num_rows for group in range(min(groups, default=0)))
        with parquet.ParquetFile(path, read_dictionary=[field], buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, row_groups=groups, columns=[field], use_threads=False):
                for i, value in enumerate(batch.column(0), 1):
                    if value.is_valid:
                        yield _text(path, row + i, value.value.as_buffer(), longest)
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{path} cannot be read as a Parquet file: {reason}.") from None


def _groups_between(path: Path, file: Any, field: str, start: int, stop: int) -> list[int]:
    """The row groups that begin between two offsets."""
    from pyarrow import types

    metadata = file.metadata
    kinds = {  # of a column of categories, which pandas writes, the kind of its categories
        column.name: column.type.value_type if types.is_dictionary(column.type) else column.type
        for column in file.schema_arrow
    }
    texts = [name for name, kind in kinds.items() if types.is_string(kind) or types.is_large_string(kind)]
    if field not in texts:
        what = f"its column {field[:80]!r} has {kinds[field]}" if field in kinds else f"it has no column {field[:80]!r}"
        raise DataError(
            f"{path}: {what}; its columns of texts are {', '.join(texts)[:200] or 'none'}.",
            python="field= names another.",
            command="--field names another.",
        )
    column = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(field)
    chunks = [metadata.row_group(group).column(column) for group in range(metadata.num_row_groups)]
    limit = inflation_limit(path.stat().st_size)
    if sum(chunk.total_uncompressed_size for chunk in chunks) > limit:
        raise DataError(f"{path} unpacks to more than {limit:,} bytes, {MAX_INFLATION} times its size.")
    begins = [min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0) for chunk in chunks]
    groups = [group for group, begin in enumerate(begins) if start <= begin < stop]
    _check_pages(
        path, [(begins[group], begins[group] + chunks[group].total_compressed_size) for group in groups], limit
    )
    return groups


def _check_pages(path: Path, spans: Sequence[tuple[int, int]], limit: int) -> None:
    """Raise where a page claims more than a file of this size can have: room would be made for it."""
    try:
        with path.open("rb") as file:
            for start, stop in spans:
                for page in pages(file, start, stop):
                    if page.unpacked > limit or page.packed > path.stat().st_size or page.n_values > page.unpacked:
                        raise ValueError(
                            f"a page claims {page.packed:,} bytes, {page.unpacked:,} unpacked, and {page.n_values:,} "
                            f"values of a dictionary"
                        )
    except ValueError as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}.") from None


def _text(path: Path, row: int, buffer: Any, longest: int) -> bytes:
    if buffer.size > longest:
        raise DataError(f"{path}, row {row:,}, has a text of {buffer.size:,} bytes, and is no table of documents.")
    text: bytes = buffer.to_pybytes()
    return text
