"""Labelled texts in JSON: SNLI, MNLI, OCNLI, CLUE, and any other with a record a line, in a list, or in columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ptm_dist.corpus.labelled.records import json_records
from ptm_dist.corpus.labelled.texts import TextReader
from ptm_dist.data.item import Bad, Item


class JsonLines(TextReader):
    """A record an item. A file that begins with [ is one list; with `at` a file is one JSON value that has the list somewhere.

    Bad are lines that are not_json or have bad_encoding, and records with a missing_field, an empty_text, no_label, or a label that is
    not_a_number.
    """

    kind: Literal["json_lines"] = "json_lines"
    at: str = ""
    """The dotted path of the list of records, or of an object of columns: one list a field."""

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield a text or a pair of each record."""
        return self.items(json_records(name, data, self.at))
