"""What readers of texts and pairs have in common: from a record to an item with a class or a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, Literal

from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import Field, Placed, as_id, at, id_at, is_broken, why_unusable
from ptm_dist.data.item import Bad, Item, TextItem

UNKNOWN: Final = frozenset({"", "-"})
"""What stands for a label where people did not agree, as in SNLI, or nobody was asked."""


class TextReader(Reader):
    """Records with a text or a pair, and a label."""

    makes: ClassVar[type] = TextItem
    absent: ClassVar[str] = "missing_field"
    """The reason where a text is not there."""

    first: Field
    second: Field | None = None
    label: Field | None = None
    """The class, or with `value` the number; without it items have no label."""
    labels: dict[str, str] = {}
    """Other names for labels: {"0": "negative"}. Those that are not listed stay."""
    value: bool = False
    """Is the label a number, to be predicted as such?"""
    without_label: Literal["bad", "keep"] = "bad"
    """What becomes of items whose label is missing, empty or "-", as in test data."""
    id: Field | None = None
    group: Field | None = None
    """What keeps records together when splits are made, where the source names nothing else: a film, a speaker."""
    only: dict[str, str | tuple[str, ...]] = {}
    """Leave out records whose field has none of these values: {"language": "zh"}."""

    @property
    def together(self) -> str:
        """The field of items that belong together."""
        return "id" if self.group is None else "group"

    def items(self, records: Iterable[Placed]) -> Iterator[Item | Bad]:
        """Yield the items of records."""
        for where, record, reason in records:
            if reason:
                yield Bad(where, reason)
            elif all(_is_one_of(at(record, field), values) for field, values in self.only.items()):
                yield self._item(where, record)

    def _item(self, where: str, record: Any) -> Item | Bad:
        first, second = at(record, self.first), at(record, self.second)
        texts = [first] if self.second is None else [first, second]
        label, reason = self._label(at(record, self.label))
        reason = why_unusable(*texts, absent=self.absent) or reason
        if reason:
            return Bad(where, reason)
        return TextItem(id_at(record, self.id, where), first, second, label, as_id(at(record, self.group), ""))

    def _label(self, found: Any) -> tuple[str | float | None, str]:
        """Return the label, or why there is none."""
        told = _as_text(found)
        if is_broken(told):
            return None, "bad_encoding"
        if told in self.labels:
            told = self.labels[told]
        elif told in UNKNOWN:
            return None, "no_label" if self.label is not None and self.without_label == "bad" else ""
        return _number(told) if self.value else (told, "")


def _as_text(found: Any) -> str:
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found).strip()


def _number(text: str) -> tuple[float | None, str]:
    try:
        number = float(text)
    except ValueError:
        return None, "not_a_number"
    return (number, "") if math.isfinite(number) else (None, "not_a_number")


def _is_one_of(found: Any, values: str | tuple[str, ...]) -> bool:
    return _as_text(found) in ((values,) if isinstance(values, str) else values)
