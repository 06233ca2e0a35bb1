"""Tables as text: tab- or comma-separated, with or without quotes and a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from statistics import mode
from typing import Final, NamedTuple

from ptm_dist.corpus.labelled.records import Placed, is_broken, lines_of, text_of
from ptm_dist.errors import ConfigError, DataIntegrityError

_LONGEST: Final = 1 << 30
"""Characters of a cell; the csv module refuses more than 131,072 unless told otherwise."""

Row = tuple[int, list[str]]
"""The line on which a row begins, and its cells; none where the quotes of the row do not fit."""


class Layout(NamedTuple):
    """How cells are told apart."""

    separator: str = "\t"
    quoted: bool = False
    header: bool = True


def table_records(name: str, data: bytes, layout: Layout, asked: Iterable[str] = ()) -> Iterator[Placed]:
    """Yield the rows of a table as records of its columns, by name and by number; empty lines are none.

    Rows have as many columns as the header; without one, as most rows have.

    Raises:
        ConfigError: the table has no column of a name in `asked`.
        DataIntegrityError: a quote is never closed.

    """
    rows = list(_quoted_rows(name, data, layout.separator) if layout.quoted else _plain_rows(data, layout.separator))
    names = rows.pop(0)[1] if layout.header and rows else []
    if layout.header:
        _require(name, names, asked)
    width = len(names) or mode([len(cells) for _, cells in rows] or [0])
    for line, cells in rows:
        where = f"{name}:{line}"
        if any(is_broken(cell) for cell in cells):
            yield Placed(where, None, "bad_encoding")
        elif len(cells) != width:
            yield Placed(where, None, "missing_column" if cells else "bad_quoting")
        else:
            numbered = {str(number): cell for number, cell in enumerate(cells)}
            yield Placed(where, numbered | dict(zip(names, cells, strict=False)))


def _require(name: str, names: list[str], asked: Iterable[str]) -> None:
    for column in asked:
        if column not in names and not (column.isdecimal() and int(column) < len(names)):
            have = ", ".join(map(repr, names)) or "no line at all"
            raise ConfigError(f"reader: {name} has no column {column!r}; its first line has {have}. Without a header write header: false.")


def _plain_rows(data: bytes, separator: str) -> Iterator[Row]:
    for number, line in lines_of(data):
        if line:
            yield number, line.split(separator)


def _quoted_rows(name: str, data: bytes, separator: str) -> Iterator[Row]:
    text = text_of(data)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        first = rows.line_num + 1
        # The limit belongs to the whole process, so it is put back at once.
        limit = csv.field_size_limit(_LONGEST)
        try:
            cells = next(rows, None)
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise DataIntegrityError(
                    f"{name}, line {first}: a quote is opened and never closed. Close it, or write reader.quoting: false."
                ) from error
            yield first, []
            continue
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        if cells:
            yield first, cells
