"""Classification of whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.base import Objective
from ptm_dist.rng import RowDraws


class ClassifySequence(Objective):
    """Tell the label that a format gave to a row from the state of one token: the first, or the last in families that see no future.

    Next sentence and sentence order (BERT, ALBERT), sentence reordering and distance, discourse and relevance (ERNIE 2.0) are this.
    """

    kind: Literal["classify_sequence"] = "classify_sequence"
    classes: Annotated[int, Field(ge=2)] = 2
    at: Literal["first", "last"] = "first"

    @property
    def head(self) -> HeadSpec:
        """A classifier of the state at one position."""
        return HeadSpec("sequence", self.classes)

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave the rows as they are.

        Raises:
            DataIntegrityError: the format gave no label, or one that is no class.

        """
        return [row.with_targets(self.kind, self._target(row)) for row in rows]

    def _target(self, row: Row) -> Targets:
        label = row.inputs.get("label")
        if label is None or not 0 <= int(label) < self.classes:
            raise DataIntegrityError(f"classify_sequence: a row has the label {label}, not one of 0 to {self.classes - 1}.")
        place = 0 if self.at == "first" else len(row.inputs["tokens"]) - 1
        return Targets(np.array([place], dtype=np.int64), np.array([label], dtype=np.int64))
