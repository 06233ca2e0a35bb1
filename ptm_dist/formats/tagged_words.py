"""Words with a tag each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import ClassVar, Literal

import numpy as np

from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.item import Bad, Item, TaggedItem
from ptm_dist.formats.base import Length
from ptm_dist.formats.labelled import NOWHERE, LabelledFormat, Made, Text, Tools


class TaggedWords(LabelledFormat):
    """Rows of words, each asked for its tag at its first token; an item that is too long becomes several rows, cut between words. A
    word without tokens is not asked.

    Source: Devlin et al. 2019, section 5.3.
    """

    reads: ClassVar[type] = TaggedItem

    kind: Literal["tagged_words"] = "tagged_words"
    length: Length
    """Most tokens of a row, special ones included."""

    @property
    def segments(self) -> int:
        """There is one text."""
        return 1

    def rows(self, items: Sequence[Item], tools: Tools, training: bool) -> Iterator[Made | Bad]:
        """Yield rows with `labels`; bad are items with no_tags, an unknown_tag, or an empty_text."""
        for number, item in enumerate(items):
            assert isinstance(item, TaggedItem)
            (text,) = tools.texts([item.joined.join(item.words)])
            reason = _reason(item, text, tools.names, training)
            if reason:
                yield Bad(item.id, reason)
                continue
            firsts = _first_tokens(item, text)
            labels = np.full(len(text.ids), NO_LABEL, dtype=np.uint8)
            asked = firsts != NOWHERE
            numbers = [tools.names.index(tag) for tag in item.tags or ()] if training else [0] * len(item.words)
            labels[asked] = np.array(numbers, dtype=np.uint8)[firsts[asked]]
            for first, end in self._cuts(text, firsts, tools):
                yield _row(tools, text.cut(first, end), labels[first:end], firsts[first:end], number)

    def _cuts(self, text: Text, firsts: np.ndarray, tools: Tools) -> Iterator[tuple[int, int]]:
        """Yield stretches of at most so many tokens that begin and end between words, where a word is not longer than that itself."""
        room, first = self.length - tools.joining.specials(1), 0
        begins = np.flatnonzero(firsts != NOWHERE)
        while len(text.ids) - first > room:
            inside = begins[(begins > first) & (begins <= first + room)]
            end = int(inside[-1]) if len(inside) else first + room
            yield first, end
            first = end
        yield first, len(text.ids)


def _reason(item: TaggedItem, text: Text, names: tuple[str, ...], training: bool) -> str:
    if not len(text.ids):
        return "empty_text"
    if training and item.tags is None:
        return "no_tags"
    return "unknown_tag" if training and set(item.tags or ()) - set(names) else ""


def _first_tokens(item: TaggedItem, text: Text) -> np.ndarray:
    """Return of each token the word that it is the first of, or NOWHERE."""
    steps = [len(word) + len(item.joined) for word in item.words]
    starts = np.array(list(accumulate(steps, initial=0))[:-1])
    words = np.searchsorted(starts, text.spans[:, 0], side="right") - 1
    return np.where(np.diff(words, prepend=NOWHERE) != 0, words, NOWHERE)


def _row(tools: Tools, text: Text, labels: np.ndarray, firsts: np.ndarray, number: int) -> Made:
    example, laid = tools.lay([text])
    place = slice(laid.starts[0], laid.starts[0] + len(text.ids))
    told, words = np.full(len(laid.tokens), NO_LABEL, dtype=np.uint8), np.full(len(laid.tokens), NOWHERE)
    told[place], words[place] = labels, firsts
    return Made(example | {"labels": told}, number, words=words)
