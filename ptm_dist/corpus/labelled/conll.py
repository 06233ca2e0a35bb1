"""Tagged words in columns: CoNLL 2003 and its kind, and ERNIE's MSRA NER with a sentence a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import is_broken, lines_of
from ptm_dist.corpus.labelled.tags import Scheme, to_bio
from ptm_dist.data.item import Bad, Item, TaggedItem

_DOCUMENT: Final = "-DOCSTART-"
Cells = list[str]


class Conll(Reader):
    """A word a line with its tag, and an empty line after each sentence; or a sentence a line, its words and its tags in a column each.

    Tags come out as BIO. Bad are sentences with another number of columns in a line, or of tags than of words (missing_column), with an
    unknown_tag, which the scheme does not have, and with bad_encoding. Lines of -DOCSTART- count as empty.

    Source: Tjong Kim Sang and De Meulder 2003; PaddlePaddle/ERNIE 1.0 for the sentence a line.
    """

    makes: ClassVar[type] = TaggedItem

    kind: Literal["conll"] = "conll"
    word: int = 0
    """The column of words, from 0; from the right -1, -2."""
    tag: int | None = -1
    """The column of tags; None: there is none."""
    separator: Annotated[str, Field(max_length=1)] = ""
    """What stands between columns; empty: any spaces and tabs, or with a sentence a line a tab."""
    scheme: Scheme = "bio"
    sentence: Literal["lines", "line"] = "lines"
    """What a sentence is: the lines up to an empty one, or each line."""
    between: Annotated[str, Field(min_length=1)] = "\x02"
    """What stands between words, and between tags, of a sentence a line."""
    header: bool = False
    """Is the first line no data?"""
    joined: Literal["", " "] = " "
    """What stands between words in running text: nothing in Chinese."""

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the sentences; an id is the file's name with the number of the first line."""
        lines = lines_of(data)
        if self.header:
            next(lines)
        width = 0
        for number, rows in self._sentences(lines):
            width = width or len(rows[0])
            yield self._item(f"{name}:{number}", rows, width)

    def _sentences(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[Cells]]]:
        first, rows = 0, list[Cells]()
        for number, line in lines:
            is_empty = not line.strip(" \t") or line.startswith(_DOCUMENT)
            if not is_empty:
                first = first if rows else number
                rows.append(self._cells(line))
            if rows and (is_empty or self.sentence == "line"):
                yield first, rows
                rows = []
        if rows:
            yield first, rows

    def _cells(self, line: str) -> Cells:
        if self.separator or self.sentence == "line":
            return line.split(self.separator or "\t")
        # Not str.split: a full-width space is a word of Chinese text.
        return re.split("[ \t]+", line.rstrip(" \t"))

    def _item(self, where: str, rows: list[Cells], width: int) -> Item | Bad:
        if any(is_broken(cell) for row in rows for cell in row):
            return Bad(where, "bad_encoding")
        if any(len(row) != width for row in rows) or not self._has_columns(width):
            return Bad(where, "missing_column")
        words = self._column(rows, self.word)
        tags = words if self.tag is None else self._column(rows, self.tag)
        if len(tags) != len(words) or not all(words):
            return Bad(where, "missing_column")
        told = None if self.tag is None else to_bio(tags, self.scheme)
        if told is None and self.tag is not None:
            return Bad(where, "unknown_tag")
        return TaggedItem(where, words, told, self.joined)

    def _has_columns(self, width: int) -> bool:
        places = [column % width for column in (self.word, self.tag) if column is not None and -width <= column < width]
        return len(set(places)) == 1 + (self.tag is not None)

    def _column(self, rows: list[Cells], column: int) -> tuple[str, ...]:
        return tuple(row[column] for row in rows) if self.sentence == "lines" else tuple(rows[0][column].split(self.between))
