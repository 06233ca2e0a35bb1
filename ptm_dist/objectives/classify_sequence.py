"""Classification of whole rows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.rng import Draws


class ClassifySequence(BaseModel):
    """Tell the label that a format gave to a row from the state of one token: the first, or the last in families that see no future.

    Next sentence and sentence order (BERT, ALBERT), sentence reordering and distance, discourse and relevance (ERNIE 2.0) are this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["classify_sequence"] = "classify_sequence"
    classes: Annotated[int, Field(ge=2)] = 2
    at: Literal["first", "last"] = "first"

    @property
    def head(self) -> HeadSpec:
        """A classifier of the state at one position."""
        return HeadSpec("sequence", self.classes)

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target: none."""
        return np.zeros(vocabulary.size, dtype=bool)

    def corrupt(self, row: Row, vocabulary: Vocabulary, draws: Draws) -> Row:
        """Leave the row as it is.

        Raises:
            DataIntegrityError: the format gave no label, or one that is no class.

        """
        label = row.inputs.get("label")
        if label is None or not 0 <= int(label) < self.classes:
            raise DataIntegrityError(f"classify_sequence: a row has the label {label}, not one of 0 to {self.classes - 1}.")
        place = 0 if self.at == "first" else len(row.inputs["tokens"]) - 1
        found = Targets(np.array([place], dtype=np.int64), np.array([label], dtype=np.int64))
        return Row(row.inputs, row.targets | {self.kind: found})
