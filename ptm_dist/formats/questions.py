"""Questions about a text, answered by a stretch of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.example import ENDS, STARTS
from ptm_dist.data.item import Answer, Bad, Item, QuestionItem
from ptm_dist.formats.base import Length
from ptm_dist.formats.labelled import NOWHERE, LabelledFormat, Made, Text, Tools

NOT_HERE: Final = 255
"""What stands in `pick` where no answer may be."""


class Questions(LabelledFormat):
    """Rows of a question beside a window of its context; windows begin `stride` tokens after one another until the context is read.

    `pick`, uint8 a token: bit 0 where the answer starts, bit 1 where it ends, 255 where no answer may be. A window that does not hold the
    whole answer has both at the token that stands for the row; its loss tells the model that there is nothing.

    Source: google-research/bert, run_squad.py, over characters: an answer is the tokens that share a character with it.
    """

    reads: ClassVar[type] = QuestionItem

    kind: Literal["questions"] = "questions"
    length: Length
    """Most tokens of a row, special ones included."""
    stride: Annotated[int, Field(gt=0, description="tokens from the beginning of a window to that of the next")] = 128
    most_question: Annotated[int, Field(gt=0, description="tokens of a question that are read")] = 64

    def rows(self, items: Sequence[Item], tools: Tools, training: bool) -> Iterator[Made | Bad]:
        """Yield rows with `pick`; bad are items with no_answer that is known, an empty_text, or no_room for a context."""
        last, context = None, None
        for number, item in enumerate(items):
            assert isinstance(item, QuestionItem)
            if context is None or item.context != last:  # Questions about one context follow one another.
                last, (context,) = item.context, tools.texts([item.context])
            question = tools.texts([item.question])[0].cut(0, self.most_question)
            room = self.length - tools.joining.specials(2) - len(question.ids)
            reason = _reason(item, (question, context), room, training)
            if reason:
                yield Bad(item.id, reason)
                continue
            answer = _tokens_of(item.answers[0], context) if item.answers else None
            for first, end in windows(len(context.ids), room, self.stride):
                inside = answer if answer and first <= answer[0] and answer[1] < end else None
                yield _row(tools, question, context.cut(first, end), inside and (inside[0] - first, inside[1] - first), number)


def windows(tokens: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield where windows begin and end: `room` tokens each, until the last token has been read."""
    first = 0
    while True:
        end = min(first + room, tokens)
        yield first, end
        if end == tokens:
            return
        first += min(stride, end - first)


def _reason(item: QuestionItem, texts: tuple[Text, Text], room: int, training: bool) -> str:
    if not all(len(text.ids) for text in texts):
        return "empty_text"
    if room < 1:
        return "no_room"
    return "no_answer" if training and not item.labelled else ""


def _tokens_of(answer: Answer, context: Text) -> tuple[int, int] | None:
    """Return the first and the last token that share a character with an answer; None where there are none."""
    shared = np.flatnonzero((context.spans[:, 1] > answer.start) & (context.spans[:, 0] < answer.end))
    return (int(shared[0]), int(shared[-1])) if len(shared) else None


def _row(tools: Tools, question: Text, window: Text, answer: tuple[int, int] | None, number: int) -> Made:
    joining = tools.joining
    texts = [question, window] if joining.question == "A" else [window, question]
    example, laid = tools.lay(texts)
    size, start = len(laid.tokens), laid.starts[1 if joining.question == "A" else 0]
    pick = np.full(size, 0 if joining.picks == "all" else NOT_HERE, dtype=np.uint8)
    spans = np.full((size, 2), NOWHERE)
    summary, place = joining.place(size), slice(start, start + len(window.ids))
    pick[place] = pick[summary] = 0
    first, last = (start + answer[0], start + answer[1]) if answer else (summary, summary)
    pick[first] |= STARTS
    pick[last] |= ENDS
    spans[place] = window.spans
    return Made(example | {"pick": pick}, number, spans=spans)
