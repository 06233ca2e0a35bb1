"""Several answers to a question, of which one is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np

from ptm_dist.data.item import Bad, ChoiceItem, Item
from ptm_dist.formats.base import Length, truncated
from ptm_dist.formats.labelled import LabelledFormat, Made, Text, Tools, side_by_side


class Choices(LabelledFormat):
    """A row of each item: context, and question with one of the answers, for each answer side by side.

    Where a family has a token that stands before an answer (GPT), the question stands with the context. What is too long loses tokens at
    the end of the longer text.

    Source: Devlin et al. 2019, section 4.4; Radford et al. 2018, section 3.3.
    """

    reads: ClassVar[type] = ChoiceItem

    kind: Literal["choices"] = "choices"
    length: Length
    """Most tokens of each of the rows that stand side by side, special ones included."""

    def rows(self, items: Sequence[Item], tools: Tools, training: bool) -> Iterator[Made | Bad]:
        """Yield rows with `part` and `label`; bad are items with no_label, an empty_text, or another number_of_choices."""
        wanted = len(tools.names)
        for number, item in enumerate(items):
            assert isinstance(item, ChoiceItem)
            pairs = [_texts(item, choice, with_context=bool(tools.joining.new)) for choice in item.choices]
            texts = tools.texts([text for pair in pairs for text in pair])
            reason = _reason(item, texts, wanted, training)
            if reason:
                yield Bad(item.id, reason)
                continue
            rows = [tools.lay(self._cut(pair, tools))[0] for pair in zip(texts[::2], texts[1::2], strict=True)]
            yield Made(side_by_side(rows) | {"label": np.array(item.label if training else 0, dtype=np.uint16)}, number)

    def _cut(self, pair: Sequence[Text], tools: Tools) -> list[Text]:
        kept = truncated([text.ids for text in pair], self.length - tools.joining.specials(2))
        return [text.cut(0, len(ids)) for text, ids in zip(pair, kept, strict=True)]


def _texts(item: ChoiceItem, choice: str, with_context: bool) -> tuple[str, str]:
    if with_context:
        return f"{item.context} {item.question}".strip(), choice
    return item.context, f"{item.question} {choice}".strip()


def _reason(item: ChoiceItem, texts: Sequence[Text], wanted: int, training: bool) -> str:
    if len(item.choices) != wanted:
        return "number_of_choices"
    if not all(len(text.ids) for text in texts):
        return "empty_text"
    return "no_label" if training and item.label is None else ""
