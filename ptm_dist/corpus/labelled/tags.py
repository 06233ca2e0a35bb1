"""Tags of words in one scheme, BIO: from other schemes, and from stretches of a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

OUTSIDE: Final = "O"
Scheme: TypeAlias = Literal["bio", "iob1", "bioes", "bmes"]

_MARKS: Final[dict[str, dict[str, str]]] = {
    "bio": {"B": "B", "I": "I"},
    "iob1": {"B": "B", "I": "I"},
    "bioes": {"B": "B", "I": "I", "E": "I", "S": "B", "L": "I", "U": "B"},
    "bmes": {"B": "B", "M": "I", "E": "I", "S": "B"},
}
"""What a mark of each scheme is in BIO; the last and the only word of an entity are E and S, or L and U."""


class Span(NamedTuple):
    """Characters from `start` up to `end` that are an entity of a type."""

    start: int
    end: int
    type: str


def to_bio(tags: Sequence[str], scheme: Scheme) -> tuple[str, ...] | None:
    """Return tags in BIO, None where one is none of the scheme.

    In IOB1 (CoNLL 2003) an entity begins with I, and with B only where one of its type ends right before it.
    """
    found, before = [], ""
    for tag in tags:
        mark, _, name = tag.partition("-")
        if tag != OUTSIDE and (mark not in _MARKS[scheme] or not name):
            return None
        mark = _MARKS[scheme].get(mark, "")
        if scheme == "iob1" and name != before:
            mark = "B"
        found.append(tag if tag == OUTSIDE else f"{mark}-{name}")
        before = name
    return tuple(found)


def tags_of_spans(words: Sequence[tuple[int, int]], spans: Iterable[Span]) -> tuple[str, ...] | str:
    """Return the BIO tags of words, given as their characters from and up to, or why spans do not fit: overlapping_entities or cut_word."""
    starts, ends = ({place: number for number, place in enumerate(places)} for places in zip(*words, strict=True))
    tags = [OUTSIDE] * len(words)
    for span in sorted(set(spans)):
        if span.start not in starts or span.end not in ends:
            return "cut_word"
        first, last = starts[span.start], ends[span.end]
        if any(tag != OUTSIDE for tag in tags[first : last + 1]):
            return "overlapping_entities"
        tags[first : last + 1] = [f"B-{span.type}", *[f"I-{span.type}"] * (last - first)]
    return tuple(tags)
