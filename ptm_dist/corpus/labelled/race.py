"""RACE: a folder of articles, each a JSON text with several questions of four answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from ptm_dist.corpus.labelled.choices import NONE_OF_THEM, number_of
from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import Placed, id_at, json_records, text_of, value_at, why_unusable
from ptm_dist.data.item import Bad, ChoiceItem, Item


class Race(Reader):
    """An article a file, or a line; ids are the article's with the number of the question: high1.txt-0.

    Bad are questions with a missing_field, an empty_text, or an unknown_label, and articles that are not_json or have lists of unequal
    length (missing_field). Without answers nobody knows the right one.

    Source: Lai et al. 2017.
    """

    makes: ClassVar[type] = ChoiceItem

    kind: Literal["race"] = "race"

    @property
    def together(self) -> str:
        """Questions about one article."""
        return "context"

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the questions of the articles."""
        for where, article, reason in _articles(name, data):
            if reason:
                yield Bad(where, reason)
            else:
                yield from _questions(where, article)


def _articles(name: str, data: bytes) -> Iterator[Placed]:
    try:
        yield Placed(name, json.loads(text_of(data)))
    except (ValueError, RecursionError):
        yield from json_records(name, data)


def _questions(where: str, article: Any) -> Iterator[Item | Bad]:
    context, name = value_at(article, "article"), id_at(article, "id", where)
    questions, options = value_at(article, "questions"), value_at(article, "options")
    unknown = [None] * len(questions) if isinstance(questions, list) else None
    lists: tuple[Any, Any, Any] = (questions, options, value_at(article, "answers") or unknown)
    if not all(isinstance(found, list) for found in lists) or len({len(found) for found in lists}) != 1:
        yield Bad(name, "missing_field")
        return
    for number, (question, choices, answer) in enumerate(zip(*lists, strict=True)):
        place = f"{name}-{number}"
        reason = why_unusable(context, question, *choices) if isinstance(choices, list) and choices else "missing_field"
        label = None if reason or answer is None else number_of(answer, choices)
        if reason or label == NONE_OF_THEM:
            yield Bad(place, reason or "unknown_label")
        else:
            yield ChoiceItem(place, context, question, tuple(choices), label)
