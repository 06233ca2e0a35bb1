"""A text, or a pair of texts, with a class or a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.item import Bad, Item, TextItem
from ptm_dist.formats.base import Length, truncated
from ptm_dist.formats.labelled import LabelledFormat, Made, Text, Tools, side_by_side

AT_ONCE = 1000
"""Items whose texts are cut into tokens together."""


class Texts(LabelledFormat):
    """A row of each item, laid as the family does it; too long a pair loses tokens at the end of the longer text.

    With `both_orders` each pair is laid twice, side by side, and the model adds the states that stand for the two: GPT's way to ask for
    similarity, which knows no order.

    Source: google-research/bert, run_classifier.py; Radford et al. 2018, section 3.3.
    """

    reads: ClassVar[type] = TextItem

    kind: Literal["texts"] = "texts"
    length: Length
    """Most tokens of a row, special ones included."""
    both_orders: Annotated[bool, Field(description="lay each pair in both orders")] = False

    def rows(self, items: Sequence[Item], tools: Tools, training: bool) -> Iterator[Made | Bad]:
        """Yield rows with `label` (a class) or `value`; bad are items with no_label, an unknown_label, or an empty_text."""
        for first in range(0, len(items), AT_ONCE):
            batch = [item for item in items[first : first + AT_ONCE] if isinstance(item, TextItem)]
            texts = iter(tools.texts([text for item in batch for text in _texts(item)]))
            for number, item in enumerate(batch, first):
                found = [next(texts) for _ in _texts(item)]
                fields, reason = _label(item, tools.names) if training else _any_label(tools.names)
                reason = reason or ("" if all(len(text.ids) for text in found) else "empty_text")
                yield Bad(item.id, reason) if reason else Made(self._row(found, tools, fields), number)

    def _row(self, texts: list[Text], tools: Tools, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept = truncated([text.ids for text in texts], self.length - tools.joining.specials(len(texts)))
        cut = [text.cut(0, len(ids)) for text, ids in zip(texts, kept, strict=True)]
        if self.both_orders and len(cut) == 2:
            return side_by_side([tools.lay(order)[0] for order in (cut, cut[::-1])]) | fields
        return tools.lay(cut)[0] | fields


def _texts(item: TextItem) -> list[str]:
    return [item.first] if item.second is None else [item.first, item.second]


def _any_label(names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], str]:
    """Return a label that nobody reads: rows for prediction have the fields of all others."""
    return {"label": np.array(0, dtype=np.uint16)} if names else {"value": np.array(0, dtype=np.float32)}, ""


def _label(item: TextItem, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], str]:
    """Return the label as a field, or why there is none; without names a label is a value."""
    if item.label is None:
        return {}, "no_label"
    if not names:
        return {"value": np.array(item.label, dtype=np.float32)}, ""
    if item.label not in names:
        return {}, "unknown_label"
    return {"label": np.array(names.index(str(item.label)), dtype=np.uint16)}, ""
