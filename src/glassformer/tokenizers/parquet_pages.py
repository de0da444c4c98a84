"""The headers of a Parquet file's pages: the sizes that they claim, before a library makes room for them.

A column of a group of rows is some pages, one behind the other. Before each stands a `PageHeader` in Thrift's compact
protocol: fields, each a byte with its kind and how much its number is above that of the last one, then a value.

    15 00      field 1, a number: the kind of page; 2 is a dictionary
    15 fe 0f   field 2, a number: its bytes when unpacked, 1,023; numbers are written with their sign last
    15 80 04   field 3, a number: its bytes in the file, 256
    2c 15 …    field 5, a record: of a page of data; 7 is of a dictionary, whose field 1 is the number of its values
    00         the end
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

HEADER_BYTES = (1 << 12, 1 << 14, 1 << 16, 1 << 20, 1 << 24)  # of most; others hold long texts of their pages
UNPACKED, PACKED, DICTIONARY, N_VALUES = 2, 3, 7, 1  # fields
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12  # kinds
NUMBERS = (4, 5, 6)
DEEPEST = 8
LAST_FIELD = (1 << 15) - 1  # whose number is not cut off by who reads it in 16 bits


class Page(NamedTuple):
    """What a header claims: bytes in the file, bytes unpacked, and of a dictionary how many values."""

    packed: int
    unpacked: int
    n_values: int


def pages(file: BinaryIO, start: int, stop: int) -> Iterator[Page]:
    """The pages of a column from one offset to another; a ValueError where a header is none."""
    while start < stop:
        fields, size = _header(file, start)
        dictionary = fields.get(DICTIONARY, {N_VALUES: 0})
        n_values = dictionary.get(N_VALUES, -1) if isinstance(dictionary, dict) else -1
        page = Page(fields.get(PACKED, -1), fields.get(UNPACKED, -1), n_values)
        if not all(type(number) is int and number >= 0 for number in page):
            raise ValueError("the header of a page has no sizes")
        yield page
        start += size + page.packed


def _header(file: BinaryIO, start: int) -> tuple[dict[int, Any], int]:
    """The fields of a header, and how many bytes it has."""
    for n_bytes in HEADER_BYTES:
        file.seek(start)
        with suppress(IndexError):
            return _record(file.read(n_bytes), 0, 0)
    raise ValueError("a page has no header")


def _record(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The fields of a record by their numbers, and where it ends.

    Of a field that comes twice a library would take the one and we the other: it skips what is of another kind.
    """
    fields: dict[int, Any] = {}
    number = 0
    while data[at] != STOP:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            number += step
        else:
            number, at = _signed(data, at)
        if number in fields or not 0 < number <= LAST_FIELD:
            raise ValueError("the header of a page has a field twice")
        fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > DEEPEST:
        raise IndexError
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in NUMBERS:
        return _signed(data, at)
    if kind in (BYTE, DOUBLE):
        return None, at + (1 if kind == BYTE else 8)
    if kind == BINARY:
        size, at = _unsigned(data, at)
        return None, at + size
    if kind in (LIST, SET):
        size, kind = data[at] >> 4, data[at] & 15
        at += 1
        if size == 15:
            size, at = _unsigned(data, at)
        for _ in range(min(size, len(data))):  # in a list a truth value takes a byte
            _, at = (None, at + 1) if kind in (TRUE, FALSE) else _value(data, at, kind, depth + 1)
        return None, at
    if kind == STRUCT:
        return _record(data, at, depth + 1)
    raise IndexError


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """A number by seven bits a byte, the lowest first; the last byte has no eighth bit."""
    number, shift = 0, 0
    while shift < 64:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return number, at
    raise IndexError


def _signed(data: bytes, at: int) -> tuple[int, int]:
    """The same of a number whose lowest bit is its sign."""
    number, at = _unsigned(data, at)
    return number >> 1 ^ -(number & 1), at
