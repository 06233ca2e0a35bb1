"""Questions with several answers to choose from: any JSON with a record a question, and tables such as SWAG's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import Field, Placed, at, every, id_at, json_records, why_unusable
from ptm_dist.corpus.labelled.tables import Layout, table_records
from ptm_dist.data.item import Bad, ChoiceItem, Item

_TABLES = {".csv": ",", ".tsv": "\t"}


class ChoiceRecords(Reader):
    """A record a question. Files named .csv or .tsv are tables whose first line names the columns, a csv with quotes; others are JSON.

    Bad are records with a missing_field, an empty_text, or an unknown_label: one that is not among the choices.
    """

    makes: ClassVar[type] = ChoiceItem

    kind: Literal["choices"] = "choices"
    context: Field | None = None
    question: Field | None = None
    choices: Field | tuple[Field, ...] = "choices"
    """A list of texts, a field of each text, or an object of texts with scores, of which the highest is right (BIG-bench)."""
    label: Field | None = "label"
    """The right choice: its number, its letter from A, or its text; None or an absent field: nobody knows."""
    count_from: Literal[0, 1] = 0
    """The number of the first choice."""
    id: Field | None = None
    at: str = ""
    """The dotted path of the list of records, where a file is one JSON value that has it somewhere."""

    @property
    def together(self) -> str:
        """Questions about one context."""
        return "id" if self.context is None else "context"

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the questions."""
        for where, record, reason in self._records(name, data):
            yield Bad(where, reason) if reason else self._item(where, record)

    def _records(self, name: str, data: bytes) -> Iterator[Placed]:
        plain = name.partition("#")[0].removesuffix(".gz").removesuffix(".zst")
        separator = _TABLES.get(plain[-4:])
        if separator is None:
            return json_records(name, data, self.at)
        return table_records(name, data, Layout(separator, separator == ","))

    def _item(self, where: str, record: Any) -> Item | Bad:
        context, question = at(record, self.context), at(record, self.question)
        asked = [text for text, field in ((context, self.context), (question, self.question)) if field is not None]
        found = tuple(at(record, field) for field in self.choices) if isinstance(self.choices, tuple) else every(record, self.choices)
        label = at(record, self.label)
        if isinstance(found, dict) and found and all(isinstance(score, int | float) for score in found.values()):
            label, found = list(found).index(max(found, key=found.__getitem__)) + self.count_from, tuple(found)
        if not isinstance(found, list | tuple) or not found:
            return Bad(where, "missing_field")
        reason = why_unusable(*asked, *found)
        number = None if label is None or label == "" else number_of(label, found, self.count_from)
        if reason or number == NONE_OF_THEM:
            return Bad(where, reason or "unknown_label")
        return ChoiceItem(id_at(record, self.id, where), context or "", question or "", tuple(found), number)


NONE_OF_THEM = -1


def number_of(label: Any, choices: Sequence[str], count_from: int = 0) -> int:
    """Return which of some choices, from 0, a label means: a number, a letter from A, or the text of one; NONE_OF_THEM where none."""
    text = str(label).strip()
    if text.isdecimal():
        number = int(text) - count_from
    elif len(text) == 1 and text.isascii() and text.isupper():
        number = ord(text) - ord("A")
    else:
        number = choices.index(text) if choices.count(text) == 1 else NONE_OF_THEM
    return number if 0 <= number < len(choices) else NONE_OF_THEM
