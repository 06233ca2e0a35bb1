"""Questions about a context: SQuAD 1.1 and 2.0, CMRC 2018 in both layouts, DRCD, XQuAD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.records import as_id, json_of, value_at, why_unusable
from ptm_dist.data.item import NOT_THERE, Answer, Bad, Item, QuestionItem
from ptm_dist.errors import DataIntegrityError


class Squad(Reader):
    """Articles with paragraphs, contexts with questions, each with answers, none, or none because the context has none.

    Bad are questions with an empty_text, and those with an answer_not_in_context: with `check` any answer that does not stand where its
    offset says, with `find` those of which no answer stands anywhere in the context. With `find` an answer takes the place that is nearest
    to its offset; what the context does not have stays for scoring, behind the others, at NOT_THERE. So no question of CMRC 2018 is lost.

    Source: Rajpurkar et al. 2016 and 2018; ymcui/cmrc2018 for the layout with context_text, whose answers are texts without offsets.
    """

    makes: ClassVar[type] = QuestionItem

    kind: Literal["squad"] = "squad"
    offsets: Literal["check", "find"] = "check"

    @property
    def together(self) -> str:
        """Questions about one context."""
        return "context"

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the questions."""
        for place, paragraph in enumerate(_paragraphs(name, json_of(name, data)), 1):
            context = _first_of(paragraph, "context", "context_text")
            questions = value_at(paragraph, "qas")
            if not isinstance(questions, list):
                yield Bad(f"{name}#{place}", "missing_field")
                continue
            for number, question in enumerate(questions, 1):
                found = as_id(_first_of(question, "id", "query_id"), f"{name}#{place}-{number}")
                yield self._item(found, context, question)

    def _item(self, place: str, context: Any, record: Any) -> Item | Bad:
        question, impossible = _first_of(record, "question", "query_text"), _first_of(record, "is_impossible") is True
        given = [] if impossible else value_at(record, "answers") or []
        pairs: list[tuple[Any, Any]] = [_told(answer) for answer in given] if isinstance(given, list) else [(None, None)]
        reason = why_unusable(context, question, *(text for text, _ in pairs))
        if reason:
            return Bad(place, reason)
        answers = [self._answer(context, text, start) for text, start in pairs]
        lost = [answer for answer in answers if answer.start == NOT_THERE]
        if lost and (self.offsets == "check" or len(lost) == len(answers)):
            return Bad(place, "answer_not_in_context")
        kept = [answer for answer in answers if answer.start != NOT_THERE]
        return QuestionItem(place, question, context, (*kept, *lost), impossible)

    def _answer(self, context: str, text: str, start: Any) -> Answer:
        told = isinstance(start, int) and start >= 0
        if told and context.startswith(text, start):
            return Answer(text, start)
        return Answer(text, _nearest(context, text, start if told else 0) if self.offsets == "find" else NOT_THERE)


def _paragraphs(name: str, document: Any) -> Iterator[Any]:
    """Yield what has a context and questions: paragraphs of articles, or the entries of a list."""
    articles = document if isinstance(document, list) else value_at(document, "data")
    if not isinstance(articles, list):
        raise DataIntegrityError(
            f'{name}: there are no questions in it. Expected {{"data": [{{"paragraphs": [...]}}]}}, or a list of contexts.'
        )
    for article in articles:
        inside = value_at(article, "paragraphs")
        yield from inside if isinstance(inside, list) else [article]


def _told(answer: Any) -> tuple[Any, Any]:
    """Return text and offset of an answer, which may be a text without offset."""
    return (answer, None) if isinstance(answer, str) else (value_at(answer, "text"), value_at(answer, "answer_start"))


def _first_of(record: Any, *names: str) -> Any:
    return next((found for name in names if (found := value_at(record, name)) is not None), None)


def _nearest(context: str, text: str, start: int) -> int:
    """Return where `text` stands nearest to `start`, NOT_THERE where it stands nowhere."""
    before, after = context.rfind(text, 0, start + len(text)), context.find(text, start)
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - start), default=NOT_THERE)
