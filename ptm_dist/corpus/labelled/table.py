"""Labelled texts in tables: GLUE, XNLI, ChnSentiCorp, LCQMC, THUCNews, and any tsv or csv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field as Limits
from pydantic import model_validator

from ptm_dist.corpus.labelled.records import Found
from ptm_dist.corpus.labelled.tables import Layout, table_records
from ptm_dist.corpus.labelled.texts import TextReader
from ptm_dist.data.item import Bad, Item


class Table(TextReader):
    """A row an item; columns by the names of the first line, or by their numbers from 0.

    Bad are rows with another number of columns than the header, or than most (missing_column), with bad_quoting or bad_encoding, with an
    empty_text, with no_label, or with a label that is not_a_number.
    """

    absent: ClassVar[str] = "missing_column"

    kind: Literal["table"] = "table"
    header: bool = True
    """Does the first line name the columns?"""
    separator: Annotated[str, Limits(min_length=1, max_length=1)] = "\t"
    quoting: bool | None = None
    """May cells stand in double quotes, with separators and line ends in them? By default where the separator is a comma; GLUE has none."""

    @model_validator(mode="after")
    def _columns_have_numbers(self) -> Self:
        names = [field for field in self.columns if not field.isdecimal()]
        if names and not self.header:
            raise ValueError(f"column {names[0]!r}: without a header columns have no names; give numbers, from 0")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are needed; that of the label is not where items may go without."""
        asked = [self.first, self.second, self.id, self.group, None if self.without_label == "keep" else self.label, *self.only]
        return tuple(field.field if isinstance(field, Found) else str(field) for field in asked if field is not None)

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield a text or a pair of each row."""
        quoted = self.separator == "," if self.quoting is None else self.quoting
        return self.items(table_records(name, data, Layout(self.separator, quoted, self.header), self.columns))
