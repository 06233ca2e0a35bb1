"""Classification of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.base import Objective
from ptm_dist.rng import RowDraws


class ClassifyTokens(Objective):
    """Tell the label that a format gave to each token from its state: capitalisation and token-document relation (ERNIE 2.0).

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.1.
    """

    kind: Literal["classify_tokens"] = "classify_tokens"
    classes: Annotated[int, Field(ge=2, lt=NO_LABEL)] = 2

    @property
    def head(self) -> HeadSpec:
        """A classifier of the state at every position that has a label."""
        return HeadSpec("tokens", self.classes)

    @property
    def reads(self) -> frozenset[str]:
        """`labels`, uint8 a token."""
        return frozenset({"labels"})

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave the rows as they are.

        Raises:
            DataIntegrityError: the format gave no labels, or one that is no class.

        """
        return [row.with_targets(self.kind, self._targets(row)) for row in rows]

    def _targets(self, row: Row) -> Targets:
        labels = row.inputs.get("labels")
        if labels is None:
            raise DataIntegrityError("classify_tokens: rows have no labels. Take a format that gives some, such as token_labels.")
        asked = np.flatnonzero(labels != NO_LABEL)
        found = labels[asked].astype(np.int64)
        if found.max(initial=0) >= self.classes:
            raise DataIntegrityError(f"classify_tokens: a token has the label {found.max()}, not one of 0 to {self.classes - 1}.")
        return Targets(asked, found)
