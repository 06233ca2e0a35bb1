"""Texts with entities by their characters: CLUENER, tools for annotation, and lists of entities as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import Field, at, every, id_at, json_records, value_at, why_unusable
from ptm_dist.corpus.labelled.tags import Span, tags_of_spans
from ptm_dist.data.item import Bad, Item, TaggedItem


class EntitySpans(Reader):
    """A record a text. What `entities` holds may be one of these; without it nobody knows.

    - {type: {name: [[start, end], ...]}} as in CLUENER, or {type: [[start, end], ...]};
    - [{start, end, type}, ...] under names that can be given, or [[start, end, type], ...];
    - [(name, type), ...], found by a pattern with two groups, in the order in which they appear in the text.

    Bad are records with a missing_field or an empty_text, with entity_not_in_text, overlapping_entities, or one that begins or ends
    within a word (cut_word).
    """

    makes: ClassVar[type] = TaggedItem

    kind: Literal["entity_spans"] = "entity_spans"
    text: Field = "text"
    entities: Field = "label"
    start: str = "start"
    end: str = "end"
    type: str = "type"
    ends: Literal["inclusive", "exclusive"] = "exclusive"
    """Is `end` the last character of an entity, or the one after it?"""
    words: Literal["characters", "spaces"]
    """What gets a tag: each character (Chinese), or what stands between spaces."""
    id: Field | None = None
    at: str = ""
    """The dotted path of the list of records, where a file is one JSON value that has it somewhere."""

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the texts as tagged words."""
        for where, record, reason in json_records(name, data, self.at):
            yield Bad(where, reason) if reason else self._item(where, record)

    def _item(self, where: str, record: Any) -> Item | Bad:
        text = at(record, self.text)
        reason = why_unusable(text)
        if reason:
            return Bad(where, reason)
        pieces = [(match.start(), match.end()) for match in re.finditer(r"\S+" if self.words == "spaces" else r"(?s).", text)]
        spans = self._spans(text, every(record, self.entities))
        tags = spans if isinstance(spans, str) or spans is None else tags_of_spans(pieces, spans)
        if isinstance(tags, str):
            return Bad(where, tags)
        words = tuple(text[first:end] for first, end in pieces)
        return TaggedItem(id_at(record, self.id, where), words, tags, " " if self.words == "spaces" else "")

    def _spans(self, text: str, found: Any) -> list[Span] | str | None:
        """Return the entities, None where nobody knows them, or why they cannot be used."""
        if found is None:
            return None
        if isinstance(found, list) and found and all(isinstance(each, tuple) and len(each) == 2 for each in found):
            return self._in_order(text, found)
        spans = list[Span]()
        for start, end, kind, name in self._listed(found):
            if not (isinstance(start, int) and isinstance(end, int)) or why_unusable(kind):
                return "missing_field"
            span = Span(start, end + (self.ends == "inclusive"), kind)
            if not 0 <= span.start < span.end <= len(text) or (name and text[span.start : span.end] != name):
                return "entity_not_in_text"
            spans.append(span)
        return spans

    def _in_order(self, text: str, found: Sequence[tuple[str, str]]) -> list[Span] | str:
        """Return where names stand, each after the one before it."""
        spans, place = list[Span](), 0
        for name, kind in found:
            plain = re.escape(name)
            match = re.compile(rf"(?<!\S){plain}(?!\S)" if self.words == "spaces" else plain).search(text, place)
            if not name or not match:
                return "entity_not_in_text"
            spans.append(Span(match.start(), match.end(), kind))
            place = match.end()
        return spans

    def _listed(self, found: Any) -> Iterator[tuple[Any, Any, Any, str]]:
        """Yield start, end, type and, where it is told, name of each entity."""
        if isinstance(found, dict):
            for kind, inside in found.items():
                by_name = inside if isinstance(inside, dict) else {"": inside}
                yield from ((*_pair(place), kind, name) for name, places in by_name.items() for place in _list(places))
        else:
            for each in _list(found):
                triple = isinstance(each, list) and len(each) == 3
                yield (*each, "") if triple else (*(value_at(each, key) for key in (self.start, self.end, self.type)), "")


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _pair(place: Any) -> tuple[Any, Any]:
    return (place[0], place[1]) if isinstance(place, list) and len(place) == 2 else (None, None)
