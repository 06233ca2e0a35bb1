"""From tags to entities: one tag for each word, and the stretches of words that tags mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from ptm_dist.errors import DataIntegrityError
from ptm_dist.formats.labelled import NOWHERE

OUTSIDE: Final = "O"


class Entity(NamedTuple):
    """A stretch of words of one type, from `first` up to `end`."""

    type: str
    first: int
    end: int


def read_entities(tags: Iterable[str]) -> list[Entity]:
    """Return the entities that BIO tags mark, in their order.

    I- goes on with an entity of its type that the word before belongs to, and else begins one.

    Source: conlleval (CoNLL-2000), as far as BIO goes.

    Raises:
        DataIntegrityError: a tag is not O, B-TYPE or I-TYPE.

    """
    found = list[Entity]()
    open_type: str | None = None
    for place, tag in enumerate(tags):
        mark, _, name = tag.partition("-")
        if tag != OUTSIDE and mark not in {"B", "I"}:
            raise DataIntegrityError(f"tag {tag!r} cannot be read; tags are {OUTSIDE}, B-TYPE or I-TYPE. Convert the data to BIO.")
        if mark == "I" and name == open_type:
            found[-1] = found[-1]._replace(end=place + 1)
        elif tag != OUTSIDE:
            found.append(Entity(name, place, place + 1))
        open_type = None if tag == OUTSIDE else name
    return found


def tags_of_words(words: int, rows: Iterable[tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> tuple[str, ...]:
    """Return the tag of each word of an item from its rows, OUTSIDE for words that no row asks.

    A row is the number of the tag of each token, int [tokens], and the word that the token is the first of, int [tokens], NOWHERE at
    others.
    """
    tags = [OUTSIDE] * words
    for numbers, places in rows:
        for token in np.flatnonzero(places != NOWHERE):
            tags[places[token]] = names[numbers[token]]
    return tuple(tags)
