"""A value of a text, or of a pair of texts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.downstream import OfTexts


class RegressText(OfTexts):
    """Tell a number of a row, such as how alike two sentences are; the loss is the squared error.

    Source: Liu et al. 2019 (RoBERTa) and Yang et al. 2019 (XLNet) for STS-B.
    """

    kind: Literal["regress_text"] = "regress_text"

    @property
    def head(self) -> HeadSpec:
        """One number from the state that stands for a row."""
        return HeadSpec("value", 0, self.dropout, self.views, self.freeze)

    def targets(self, row: Row) -> Targets:
        """Return the value of the row, float32, at the token that stands for it, in each view.

        Raises:
            DataIntegrityError: the format gave no number, or another number of views.

        """
        value = row.inputs.get("value")
        if value is None or not np.isfinite(value):
            raise DataIntegrityError(f"{self.kind}: a row has the value {value}. Each item needs a number; none has a name of a class.")
        return Targets(self.asked(row), np.full(self.views, value, dtype=np.float32))
